"""Theorem 2.2 on one block: make the update, run with it and without, and compare."""

import torch
from torch import Tensor

from ctxblocks.algebra.solvers import Augmented, LeastNorm, Solver
from ctxblocks.base.errors import DegenerateQueryError
from ctxblocks.blocks.block import ContextualBlock
from ctxblocks.blocks.update import ImplicitUpdate, Place, Site
from ctxblocks.exactness.measure import Measure, Transferred
from ctxblocks.exactness.tolerance import Comparison
from ctxblocks.theorems.transfer import transfer


def identity(
    measure: Measure,
    query: Tensor,  # (…, d)
    context: Tensor,  # (…, n, d_context)
    reduced: Tensor,  # (…, n', d_context)
    *,
    solver: Solver = LeastNorm(),
    site: Site = "network",
    place: Place = "output-bias",
) -> Comparison:
    """`T_W(C, x)` of the measured block against `T_{W + ΔW}(C∖Y, x)` [Thm. 2.2, Cor. 2.5.1, Thm. B.2].

    The comparison carries the scale of relative errors. Where the solver or the place is degenerate, the error's message
    must name the way out, which is then taken.
    """
    block = measure.block
    with torch.no_grad():
        update = solve(block, query, context, reduced, solver=solver, site=site, place=place)
        used = Transferred(query, block.site(site).read(query, reduced), block.site(site).read(query, context), update)
        wanted, got, without = block(query, context), block(query, reduced, update=update), block(query, reduced)
        return measure.outputs(used, got, wanted, without)


def solve(
    block: ContextualBlock,
    query: Tensor,  # (…, d)
    context: Tensor,  # (…, n, d_context)
    reduced: Tensor,  # (…, n', d_context)
    *,
    solver: Solver = LeastNorm(),
    site: Site = "network",
    place: Place = "output-bias",
) -> ImplicitUpdate:
    """The update, by `Augmented()` where the solver has none, and with an output bias where the place cannot carry it."""
    try:
        return transfer(block, query, context, reduced, solver=solver, site=site, place=place)
    except DegenerateQueryError as error:
        if "place='output-bias'" in str(error):
            return solve(block, query, context, reduced, solver=solver, site=site)
        if isinstance(solver, Augmented) or "solver=Augmented()" not in str(error):
            raise
    return solve(block, query, context, reduced, solver=Augmented(), site=site, place=place)
