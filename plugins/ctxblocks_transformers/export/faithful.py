"""Changed weights compared with the full context and with `applied`, before they are handed out."""

from typing import Any

import torch
from torch import Tensor

from ctxblocks import ArgumentError
from ctxblocks_transformers.export.changes import Update
from ctxblocks_transformers.wiring.difference import Difference, allowed, refuse_inert
from ctxblocks_transformers.wiring.reads import outputs_of

FEW = 3.0
"""How many times the error of `applied` changed weights in a half type may have."""
MOST = 6.0
"""And the largest error that they may have, in units of the half type's round-off, relative to the largest output."""


def applied_rows(update: Update, model: Any) -> Tensor:  # (tokens, vocabulary or d)
    """The outputs of the remaining tokens with the update applied."""
    with update.applied(model), torch.no_grad():
        return outputs_of(model(**update.inputs(model)))


def limit_of(own: Difference, dtype: torch.dtype) -> float:
    """The largest distance from the output with the full context that changed weights may have.

    Args:
        own: the difference that `applied` has.
        dtype: of the model.
    """
    if dtype not in (torch.bfloat16, torch.float16):
        return allowed(own, dtype)
    unit = torch.finfo(dtype).eps * own.size
    return min(FEW * max(own.full, unit), MOST * unit)


def refuse_unfaithful(
    update: Update,
    model: Any,
    output: Tensor,  # (tokens, vocabulary or d), with the changed weights
    applied: Tensor,  # the same with the update applied
    caller: str,
) -> Difference:
    """The query's difference, if its output is that with the full context and the kept tokens' outputs are as applied.

    Raises:
        InertUpdateError: it is the output without the update.
        ArgumentError: it is another output, has another largest logit in a half type, or a kept token's output changed.
    """
    difference, own = update.difference(output), update.difference(applied)
    refuse_inert(difference)
    limit = limit_of(own, model.dtype)
    half = model.dtype in (torch.bfloat16, torch.float16)
    if not difference.full <= limit:
        raise ArgumentError(
            f"{caller}: with the changed weights the query's output is {difference.full:.3g} from that with the full context, "
            f"whose effect is {difference.effect:.3g}, needs at most {limit:.3g} ({own.full:.3g} when applied); the weights are "
            f"not those that the update was made with, a block changes what its last dense layer puts out, the remaining "
            f"tokens' reads are nearly dependent, or {model.dtype} does not hold it: use update.applied(model), keep='auto', "
            f"site='out-proj' or a wider dtype"
        )
    if half and model.get_output_embeddings() is not None and not difference.same_top:
        raise ArgumentError(
            f"{caller}: with the changed weights in {model.dtype} another next token is the most likely, needs that of the "
            f"full prompt; use update.applied(model) or a wider dtype"
        )
    _refuse_changed(update, output, applied, limit, caller)
    return difference


def _refuse_changed(update: Update, output: Tensor, applied: Tensor, limit: float, caller: str) -> None:
    """Raise if the output of a token that is kept besides the query is not as it is when the update is applied."""
    kept = [t for t in range(len(output)) if t != update.query]
    if not kept:
        return
    off = (output[kept].double() - applied[kept].double()).abs().max(-1).values
    size = applied[kept].double().abs().max(-1).values
    allowed_each = limit * (size / update.full.double().abs().max().to(size.device)).clamp_min(1)
    if not bool((off <= allowed_each).all()):
        token = int((off / allowed_each).argmax())
        raise ArgumentError(
            f"{caller}: with the changed weights the output of the kept token {int(update.positions[kept[token]])} is "
            f"{float(off[token]):.3g} from what it has to be, needs at most {float(allowed_each[token]):.3g}; keep fewer tokens, "
            f"or use update.applied(model)"
        )
