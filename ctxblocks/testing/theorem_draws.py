"""What the theorem properties draw beside the case: blocks, solvers, the rows that stay."""

from collections.abc import Sequence

import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor

from ctxblocks.algebra.solvers import Augmented, LeastNorm, Metric, Solver
from ctxblocks.blocks.block import ContextualBlock
from ctxblocks.exactness.kinds import KINDS, admits, build
from ctxblocks.testing.cases import Case

SMOOTH = tuple(kind for kind in KINDS if kind.endswith("/gated"))
DENSE = tuple(kind for kind in KINDS if not kind.endswith("/moe"))


def draw_block(case: Case, data: st.DataObject, kinds: Sequence[str] = KINDS) -> ContextualBlock:
    """A block of one of the kinds that admit the layer."""
    fitting = [kind for kind in kinds if admits(kind, case.layer)]
    kind = data.draw(st.sampled_from(fitting), label="block")
    return build(kind, case.layer, case.seed)


def draw_solver(case: Case, data: st.DataObject, width: int) -> Solver:
    """One of the three; the metric of a drawn positive definite matrix `I + AAᵀ/d`, whose condition number is a few."""
    name = data.draw(st.sampled_from(("LeastNorm", "Augmented", "Metric")), label="solver")
    if name == "Metric":
        return Metric(draw_metric(case, width))
    return LeastNorm() if name == "LeastNorm" else Augmented()


def draw_metric(case: Case, width: int) -> Tensor:  # (d, d)
    """`I + AAᵀ/d`, in the dtype of the case."""
    factor = torch.randn(width, width, generator=case.generator(), dtype=torch.float64)
    matrix = torch.eye(width, dtype=torch.float64) + factor @ factor.mT / width
    return matrix.to(device=case.device, dtype=case.dtype)


def draw_keep(case: Case, data: st.DataObject) -> list[int]:
    """The rows of the context that stay: any, all or none."""
    stays = data.draw(st.lists(st.booleans(), min_size=case.tokens, max_size=case.tokens), label="stays")
    return [row for row, kept in enumerate(stays) if kept]


def draw_part(case: Case, data: st.DataObject) -> Tensor:  # (…, n', d_context)
    """What stays of the context: nothing in half of the draws, else some rows."""
    if data.draw(st.booleans(), label="remove all"):
        return case.context[..., :0, :]
    return case.context[..., draw_keep(case, data), :]


def first(value: Tensor, kept: int) -> Tensor:
    """The first batch element: `(…, a)` with `kept = 1` to `(a,)`, `(…, n, a)` with `kept = 2` to `(n, a)`."""
    return value[(0,) * (value.dim() - kept)]


def moved(
    base: Tensor,  # (…, d)
    full: Tensor,  # (…, d)
) -> Tensor:  # (…) bool
    """Where the context matters: it moves some entry by more than a 256th of the largest."""
    largest = torch.maximum(base.abs().amax(-1), full.abs().amax(-1))
    return (full - base).abs().amax(-1) > largest / 256


def assume_some(condition: Tensor) -> None:
    """Try another draw unless the condition holds somewhere."""
    assume(bool(condition.any()))
