"""Theorem 2.2 on one block: compute the update, run the block with it, and compare with the full context."""

import torch
from torch import Tensor

from ctxblocks.algebra.solvers import Augmented, LeastNorm, Solver
from ctxblocks.base.errors import DegenerateQueryError, NonFiniteError
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
    """Compare `T_{W + ΔW}(C∖Y, x)` with `T_W(C, x)` for the block of `measure` [Thm. 2.2, Cor. 2.5.1, Thm. B.2].

    The update is the one of `solve`. The result includes the scale of relative errors.
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
    """The update of `transfer`; for a degenerate query, the update by the alternative that the error message names.

    The alternatives are `Augmented()` where the solver has no update, and the output bias where `place` cannot carry the
    bias shift.

    Raises:
        DegenerateQueryError: the message names no alternative.
    """
    try:
        return transfer(block, query, context, reduced, solver=solver, site=site, place=place)
    except NonFiniteError:  # counts as an infinite error, instead of ending the rows of other layers
        return transfer(block, query, context, reduced, solver=solver, site=site, place=place, check=False)
    except DegenerateQueryError as error:
        if "place='output-bias'" in str(error):
            return solve(block, query, context, reduced, solver=solver, site=site)
        if isinstance(solver, Augmented) or "solver=Augmented()" not in str(error):
            raise
    return solve(block, query, context, reduced, solver=Augmented(), site=site, place=place)
