"""Draws of the theorem group in addition to the case: blocks, solvers, and the rows of the context that stay."""

from collections.abc import Sequence

import torch
from hypothesis import assume, strategies as st
from torch import Tensor

from ctxblocks.algebra.solvers import Augmented, LeastNorm, Metric, Solver
from ctxblocks.blocks.block import ContextualBlock
from ctxblocks.exactness.kinds import KINDS, admits, build
from ctxblocks.testing.cases import Case

SMOOTH = tuple(kind for kind in KINDS if kind.endswith("/gated"))
DENSE = tuple(kind for kind in KINDS if not kind.endswith("/moe"))


def draw_block(case: Case, data: st.DataObject, kinds: Sequence[str] = KINDS) -> ContextualBlock:
    """A block of a drawn kind that accepts the layer."""
    fitting = [kind for kind in kinds if admits(kind, case.layer)]
    kind = data.draw(st.sampled_from(fitting), label="block")
    return build(kind, case.layer, case.seed)


def draw_solver(case: Case, data: st.DataObject, width: int) -> Solver:
    """One of the three solvers; the matrix of `Metric` is that of `draw_metric`."""
    name = data.draw(st.sampled_from(("LeastNorm", "Augmented", "Metric")), label="solver")
    if name == "Metric":
        return Metric(draw_metric(case.query, case.generator(), width))
    return LeastNorm() if name == "LeastNorm" else Augmented()


def draw_metric(like: Tensor, generator: torch.Generator, width: int) -> Tensor:  # (d, d)
    """`I + AAᵀ/d` with Gaussian `A`, positive definite with a small condition number, in the dtype and device of `like`."""
    factor = torch.randn(width, width, generator=generator, dtype=torch.float64)
    matrix = torch.eye(width, dtype=torch.float64) + factor @ factor.mT / width
    return matrix.to(like)


def draw_keep(case: Case, data: st.DataObject) -> list[int]:
    """The indices of the rows of the context that stay: any subset."""
    stays = data.draw(st.lists(st.booleans(), min_size=case.tokens, max_size=case.tokens), label="rows that stay")
    return [row for row, kept in enumerate(stays) if kept]


def draw_part(case: Case, data: st.DataObject) -> Tensor:  # (…, n', d_context)
    """The reduced context: empty in half of the draws, else a subset of the rows."""
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
    """Where the context changes the read: some entry changes by more than 1/256 of the largest entry."""
    largest = torch.maximum(base.abs().amax(-1), full.abs().amax(-1))
    return (full - base).abs().amax(-1) > largest / 256


def assume_some(condition: Tensor) -> None:
    """Reject the draw unless the condition holds for some element."""
    assume(bool(condition.any()))
