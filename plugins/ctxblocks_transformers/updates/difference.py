"""How far the output of an updated model is from the two that it lies between."""

import dataclasses

import torch
from torch import Tensor

from ctxblocks import CtxblocksError

NOTICED = 64
"""Two passes of a model whose query sees no other token differ by some units of round-off, or by none."""


class InertUpdateError(CtxblocksError):
    """An update was put in place and the model answered as if it had not been."""


@dataclasses.dataclass(frozen=True)
class Difference:
    """How far the query's output is from two others, `max |·|` over its entries.

    Attributes:
        full: from that of the untouched model with the full context.
        plain: from that of the untouched model with the tokens that stay.
        effect: of these two from each other: what the context did.
        size: largest entry of the first.
        unit: round-off of their dtype; what a context did counts from `NOTICED` units of the size on.
    """

    full: float
    plain: float
    effect: float
    size: float
    unit: float = 0.0

    @property
    def relative(self) -> float:
        """`full / size`, the error relative to the output."""
        return self.full / self.size if self.size else self.full


def refuse_inert(found: Difference) -> None:
    """Raise if an output with the update is the output without it, although the context's is another.

    Raises:
        InertUpdateError: it is.
    """
    if found.plain == 0 and found.effect > NOTICED * found.unit * found.size:
        raise InertUpdateError(
            f"update: the query's output is what it is without the update, and {found.effect:.3g} from that with the "
            f"context; a module of the model bypasses its own layers (a fused kernel?): load it without, or use another site"
        )


def difference(
    found: Tensor,  # (vocabulary or d,)
    full: Tensor,  # (vocabulary or d,)
    plain: Tensor,  # (vocabulary or d,)
) -> Difference:
    """How far an output is from that with the full context and from that without an update."""
    unit = torch.finfo(full.dtype).eps
    mine, full, plain = (x.detach().double().cpu() for x in (found, full, plain))
    return Difference(
        full=float((mine - full).abs().max()),
        plain=float((mine - plain).abs().max()),
        effect=float((full - plain).abs().max()),
        size=float(full.abs().max()),
        unit=unit,
    )
