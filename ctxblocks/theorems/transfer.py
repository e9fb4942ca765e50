"""Moving a context, or a part of it, into the weights of a block or a stack of blocks [Thm. 2.2, Cor. 2.5.1, App. C]."""

import dataclasses
from collections.abc import Sequence
from typing import overload

import torch
from torch import Tensor

from ctxblocks.algebra.solvers import LeastNorm, Solver
from ctxblocks.base.errors import ArgumentError
from ctxblocks.blocks.block import ContextualBlock
from ctxblocks.blocks.sites import Site as BlockSite
from ctxblocks.blocks.stack import Stack
from ctxblocks.blocks.update import ImplicitUpdate, Place, Site
from ctxblocks.theorems.arguments import Block, check_problem, check_tensors, kept_rows, solvers_of
from ctxblocks.theorems.implicit_update import Placement


@overload
def transfer(
    block: ContextualBlock,
    query: Tensor,
    context: Tensor,
    reduced: Tensor | None = ...,
    *,
    keep: Sequence[int] | Tensor | None = ...,
    patch_kept: bool = ...,
    solver: Solver | Sequence[Solver] = ...,
    site: Site = ...,
    place: Place = ...,
    check: bool = ...,
) -> ImplicitUpdate: ...
@overload
def transfer(
    block: Stack,
    query: Tensor,
    context: Tensor,
    reduced: Tensor | None = ...,
    *,
    keep: Sequence[int] | Tensor | None = ...,
    patch_kept: bool = ...,
    solver: Solver | Sequence[Solver] = ...,
    site: Site = ...,
    place: Place = ...,
    check: bool = ...,
) -> list[ImplicitUpdate]: ...
def transfer(
    block: Block,
    query: Tensor,  # (…, d)
    context: Tensor,  # (…, n, d_context)
    reduced: Tensor | None = None,  # (…, n', d_context); None is no tokens
    *,
    keep: Sequence[int] | Tensor | None = None,
    patch_kept: bool = False,
    solver: Solver | Sequence[Solver] = LeastNorm(),
    site: Site = "network",
    place: Place = "output-bias",
    check: bool = True,
) -> ImplicitUpdate | list[ImplicitUpdate]:
    """The update that replaces the tokens of `context` that `reduced` lacks [Thm. 2.2, Cor. 2.5.1, Thm. B.2, App. C].

    `block(query, reduced, update=transfer(block, query, context, reduced))` equals `block(query, context)`.

    Args:
        block: a block, or a `Stack`, for which the result is one update for each block [Eq. 20–22]; the base read of each
            block comes from the forward pass with `reduced` in which the updates of all earlier blocks are in place.
        query: `x`.
        context: `C`.
        reduced: `C∖Y`, the context that stays; empty by default.
        keep: instead of `reduced`, the indices of the rows of `context` that stay, in increasing order.
        patch_kept: with `keep`, also restore the outputs of the `t` rows that stay: the updates are `(…, t + 1, d)`, the
            last one for the query.
        solver: chooses one of the exact updates; one solver, or one for each block.
        site: `"network"`, or `"out-proj"`, the layer's own output projection.
        place: the parameter that takes the bias shift: `"output-bias"`, `"last-layer"` (not in sandwich blocks) or
            `"post-norm"` (only in sandwich blocks).
        check: whether to check values (finite, not degenerate); not done inside `torch.compile` and functorch transforms,
            where a degenerate query gives NaN.

    Raises:
        ShapeError, DtypeError, DeviceError: the arguments do not fit the block or each other.
        NonFiniteError: query, context or a read of a block hold NaN or infinity.
        DegenerateQueryError: the network's input without `Y` is zero; use `Augmented()`.
        ArgumentError: the block does not have the site or place, or the arguments exclude each other.
    """
    placement = Placement(site, place, check)
    sites = check_problem(block, query, context, placement)
    if keep is not None and reduced is not None:
        raise ArgumentError("keep: got it together with reduced, needs one of the two; leave out reduced")
    if patch_kept and keep is None:
        raise ArgumentError("patch_kept: got it without keep, needs the rows that stay; pass keep=[…]")
    settings = (sites, solvers_of(solver, len(sites)), placement)
    rows = [] if keep is None else kept_rows(keep, context.shape[-2])
    if patch_kept:
        updates = _transfer_tokens(block, query, context, rows, settings)
    else:
        if reduced is None:
            reduced = context[..., rows, :]
        else:
            check_tensors(block, query, reduced, check, "reduced")
        updates = _transfer_query(block, query, context, reduced, settings)
    return updates if isinstance(block, Stack) else updates[0]


Settings = tuple[list[BlockSite], list[Solver], Placement]


def _transfer_query(
    block: Block, query: Tensor, context: Tensor, reduced: Tensor, settings: Settings
) -> list[ImplicitUpdate]:
    """Updates of the query alone; the context that stays is not patched."""
    sites, solvers, placement = settings
    query, context, reduced = block.read_in(query), block.read_in(context), block.read_in(reduced)
    patched, updates = query, []
    for number, (each, site, solver) in enumerate(zip(block.in_order, sites, solvers, strict=True)):
        full, base = site.read(query, context), site.read(patched, reduced)
        updates.append(placement.update(each, base, full, solver, number, "query"))
        if number + 1 < len(solvers):
            query = site.complete(query, full, None)
            patched = site.complete(patched, base, updates[-1])
            context, reduced = each.sequence(context), each.sequence(reduced)
    return updates


def _transfer_tokens(
    block: Block, query: Tensor, context: Tensor, keep: list[int], settings: Settings
) -> list[ImplicitUpdate]:
    """Updates of every token that stays, each as the query of the tokens before it, and of the query."""
    sites, solvers, placement = settings
    tokens = block.read_in(torch.cat([context, query.unsqueeze(-2)], dim=-2))  # (…, n + 1, d)
    rows = [*keep, context.shape[-2]]
    patched, updates = tokens[..., rows, :], []  # (…, t + 1, d)
    for number, (each, site, solver) in enumerate(zip(block.in_order, sites, solvers, strict=True)):
        full, base = (site.read_causal(part, part[..., :-1, :]) for part in (tokens, patched))
        update = placement.update(each, base, full.rows(rows), solver, number, "kept token")
        updates.append(dataclasses.replace(update, per_token=True))
        if number + 1 < len(solvers):
            tokens = site.complete(tokens, full, None)
            patched = site.complete(patched, base, updates[-1])
    return updates
