"""How far the output of an updated model is from its outputs with the full context and without any update."""

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from ctxblocks import CtxblocksError

NOTICED = 64
"""Units of round-off above which the context's effect counts: without any, two passes still differ by a few units."""
PROOF = 2000.0
"""Allowed error in units of float32's round-off, relative to the largest output: some models compute in float32 throughout."""
HALF = 20.0
"""The same in units of a half type's own round-off, which every block adds to that of the blocks before it."""


class InertUpdateError(CtxblocksError):
    """An update was put in place, but the model's output is the one without it."""


@dataclasses.dataclass(frozen=True)
class Difference:
    """Distances of the query's output from two others, `max |·|` over its entries.

    Attributes:
        full: distance from the output of the original model with the full context.
        plain: distance from the output of the original model on the remaining tokens, without an update.
        effect: distance between these two outputs: the effect of the context.
        size: largest absolute entry of the output with the full context.
        unit: round-off of the dtype; an effect below `NOTICED * unit * size` counts as none.
        kl: KL(full context ‖ this output) in nats, of outputs that are logits.
        same_top: whether the largest entry of this output is a largest one with the full context.
    """

    full: float
    plain: float
    effect: float
    size: float
    unit: float = 0.0
    kl: float = 0.0
    same_top: bool = True

    @property
    def relative(self) -> float:
        """`full / size`, the error relative to the output."""
        return self.full / self.size if self.size else self.full


def refuse_inert(difference: Difference) -> None:
    """Raise if the output with the update equals the output without it, although the context has an effect.

    Raises:
        InertUpdateError: it does.
    """
    if difference.plain == 0 and difference.effect > NOTICED * difference.unit * difference.size:
        raise InertUpdateError(
            f"update: the query's output is the same as without the update, and {difference.effect:.3g} from that with the "
            f"context; a fused kernel probably bypasses the hooked modules: load the model without it, or use another site"
        )


def difference_of(
    output: Tensor,  # (vocabulary or d,)
    full: Tensor,  # (vocabulary or d,)
    plain: Tensor,  # (vocabulary or d,)
) -> Difference:
    """Distances of an output from the one with the full context and the one without an update."""
    unit = torch.finfo(full.dtype).eps
    output, full, plain = (x.detach().double().cpu() for x in (output, full, plain))
    return Difference(
        full=float((output - full).abs().max()),
        plain=float((output - plain).abs().max()),
        effect=float((full - plain).abs().max()),
        size=float(full.abs().max()),
        unit=unit,
        kl=float(F.kl_div(output.log_softmax(-1), full.log_softmax(-1), reduction="sum", log_target=True)),
        same_top=bool(full[output.argmax()] == full.max()),
    )


def round_off(dtype: torch.dtype) -> float:
    """How far two ways of computing the same output may differ, relative to its largest entry."""
    half = dtype in (torch.bfloat16, torch.float16)
    return HALF * torch.finfo(dtype).eps if half else PROOF * torch.finfo(torch.float32).eps


def allowed(difference: Difference, dtype: torch.dtype) -> float:
    """The largest distance from the output with the full context at which an update counts as exact.

    In half types this is up to half of the context's effect: rounding in many blocks, or of changed weights, costs that much.
    """
    if dtype in (torch.bfloat16, torch.float16):
        return max(HALF * torch.finfo(dtype).eps * difference.size, difference.effect / 2)
    return PROOF * torch.finfo(torch.float32).eps * difference.size
