"""The theorems for one block [Thm. 2.2, Cor. 2.5.1, Rem. 2.4, Thm. B.2]."""

import dataclasses
from typing import cast

import pytest
import torch
from hypothesis import assume, strategies as st
from torch import Tensor

from ctxblocks.algebra.operator import ContextOperator
from ctxblocks.algebra.solvers import Augmented, LeastNorm, Metric
from ctxblocks.base.errors import DegenerateQueryError
from ctxblocks.blocks.layer import ContextualLayer, ProjectedLayer
from ctxblocks.blocks.update import Place
from ctxblocks.exactness.identity import identity, solve
from ctxblocks.exactness.kinds import NETWORKS, build
from ctxblocks.exactness.measure import Measure, Transferred
from ctxblocks.testing.cases import Case
from ctxblocks.testing.theorem_draws import (
    assume_some,
    draw_block,
    draw_keep,
    draw_metric,
    draw_part,
    draw_solver,
    first,
    moved,
)
from ctxblocks.theorems.transfer import transfer

__all__ = [
    "control_without_update",
    "degenerate_query",
    "keep_names_the_rows",
    "merged_weights",
    "not_unique",
    "projection_site",
    "transfer_is_exact",
]


def transfer_is_exact(case: Case, data: st.DataObject) -> None:
    """With the update, the block maps the reduced context to its output for the full one [Thm. 2.2, Cor. 2.5.1, Thm. B.2].

    Tested for every kind of block, network, solver and place of the bias shift, with any part of the context removed.
    """
    block = draw_block(case, data)
    place = cast(Place, data.draw(st.sampled_from(block.places), label="place"))
    solver = draw_solver(case, data, block.width)
    reduced = draw_part(case, data)
    comparison = identity(Measure(block, case.seed), case.query, case.context, reduced, solver=solver, place=place)
    assert comparison.ok, str(comparison)


def projection_site(case: Case, data: st.DataObject) -> None:
    """The identity for an update of the layer's output projection, which has no bypass [Thm. 2.2]."""
    assume(isinstance(case.layer, ProjectedLayer))
    block = draw_block(case, data)
    solver = draw_solver(case, data, block.site("out-proj").readers()["projection"].in_features)
    reduced = draw_part(case, data)
    comparison = identity(Measure(block, case.seed), case.query, case.context, reduced, solver=solver, site="out-proj")
    assert comparison.ok, str(comparison)


def keep_names_the_rows(case: Case, data: st.DataObject) -> None:
    """`keep=[…]` gives the same update as `reduced=` with those rows, bit for bit."""
    block, keep = draw_block(case, data), draw_keep(case, data)
    kept = transfer(block, case.query, case.context, keep=keep, solver=Augmented())
    reduced = transfer(block, case.query, case.context, case.context[..., keep, :], solver=Augmented())
    assert torch.equal(kept.operator.direction, reduced.operator.direction)
    assert torch.equal(kept.operator.key, reduced.operator.key)


def merged_weights(case: Case, data: st.DataObject) -> None:
    """A block with one query's update merged into its weights needs no update at its call [Eq. 1, Eq. 13–16]."""
    block = draw_block(case, data)
    place = cast(Place, data.draw(st.sampled_from(block.places), label="place"))
    solver = draw_solver(case, data, block.width)
    query, context, reduced = first(case.query, 1), first(case.context, 2), first(draw_part(case, data), 2)
    with torch.no_grad():
        update = solve(block, query, context, reduced, solver=solver, place=place)
        base, full = block.site("network").read(query, reduced), block.site("network").read(query, context)
        got, wanted = update.merged(block)(query, reduced), block(query, context)
    comparison = Measure(block, case.seed).outputs(Transferred(query, base, full, update), got, wanted)
    assert comparison.ok, str(comparison)


def not_unique(case: Case, data: st.DataObject) -> None:
    """`ΔW + K` with `K A(C∖Y, x) = 0` is exact too, and its norm is not smaller [Rem. 2.4]; here `K = Wδ vᵀ` with `vᵀz = 0`."""
    block, reduced = draw_block(case, data), draw_part(case, data)
    assume(block.reads_context)
    base, full = (block.site("network").read(case.query, tokens) for tokens in (reduced, case.context))
    z = base.z.detach().double()
    assume(bool((z != 0).any(-1).all()))
    drawn = torch.randn(z.shape, generator=case.generator(), dtype=torch.float64).to(z.device)
    least = transfer(block, case.query, case.context, reduced)
    size = least.operator.key.double().norm(dim=-1, keepdim=True)
    v = size * (drawn - z * (drawn * z).sum(-1, keepdim=True) / (z * z).sum(-1, keepdim=True))
    key = (least.operator.key.double() + v).to(case.dtype)
    assume(bool(torch.isfinite(key).all()))
    other = dataclasses.replace(least, operator=ContextOperator(least.operator.direction, key))
    with torch.no_grad():
        got, wanted = block(case.query, reduced, update=other), block(case.query, case.context)
    comparison = Measure(block, case.seed).outputs(Transferred(case.query, base, full, other), got, wanted)
    assert comparison.ok, str(comparison)
    # ‖k + v‖² = ‖k‖² + ‖v‖², up to the rounding of k and v to the dtype
    shorter = other.operator.key.double().norm(dim=-1) < (1 - 8 * torch.finfo(case.dtype).eps) * size.squeeze(-1)
    assert not shorter.any()


def control_without_update(case: Case, data: st.DataObject) -> None:
    """Where the context changes the read, an output without the update, operator or shift is beyond the tolerance."""
    for kind in ("plain/gated",) if case.layer.has_skip else ("plain/gated", "skip/gated"):
        block, reduced = build(kind, case.layer, case.seed), draw_part(case, data)
        base, full = (block.site("network").read(case.query, tokens) for tokens in (reduced, case.context))
        matters = moved(base.z, full.z)
        assume_some(matters)
        update = solve(block, case.query, case.context, reduced)
        used = Transferred(case.query, base, full, update)
        faulty = [None, dataclasses.replace(update, operator=ContextOperator.identity(base.z))]
        if update.shift is not None:
            faulty.append(dataclasses.replace(update, shift=torch.zeros_like(update.shift)))
        measure = Measure(block, case.seed)
        with torch.no_grad():
            wanted = block(case.query, case.context)
            for wrong in faulty:
                got = block(case.query, reduced, update=wrong)
                comparison = measure.outputs(used, got, wanted)
                assert (comparison.error > comparison.tolerance)[matters].all(), str(comparison)


class _Centred(ContextualLayer):
    """`A(C, x) − A(x)`: zero without context, so that every query is degenerate."""

    def __init__(self, layer: ContextualLayer) -> None:
        super().__init__(layer.width, layer.context_width)
        self.layer = layer

    def forward(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d_context)
    ) -> Tensor:  # (…, d)
        """The context vector `δ(C)` of the wrapped layer."""
        centred: Tensor = self.layer(query, context) - self.layer(query, context[..., :0, :])
        return centred


def degenerate_query(case: Case, data: st.DataObject) -> None:
    """If the read without context is zero, the errors of `LeastNorm` and `Metric` name `Augmented`, which is exact."""
    name = data.draw(st.sampled_from(tuple(NETWORKS)), label="network")
    layer = _Centred(case.layer)
    block = build(f"plain/{name}", layer, case.seed)
    empty = case.context[..., :0, :]
    with torch.no_grad():
        assume_some(layer(case.query, case.context) != 0)
    for solver in (LeastNorm(), Metric(draw_metric(case.query, case.generator(), layer.width))):
        with pytest.raises(DegenerateQueryError, match=r"solver=Augmented\(\)"):
            transfer(block, case.query, case.context, solver=solver)
    comparison = identity(Measure(block, case.seed), case.query, case.context, empty, solver=Augmented())
    assert comparison.ok, str(comparison)
