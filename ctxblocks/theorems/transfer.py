"""Theorem 2.2 and its kin: moving a context, or a part of it, into the weights of a block or a stack of blocks."""

import dataclasses
from collections.abc import Sequence
from typing import overload

import torch
from torch import Tensor

from ctxblocks.algebra.solvers import LeastNorm, Solver
from ctxblocks.base.errors import ArgumentError
from ctxblocks.blocks.block import ContextualBlock
from ctxblocks.blocks.read import Read
from ctxblocks.blocks.sites import complete_at, read_at, read_causal_at
from ctxblocks.blocks.stack import Stack
from ctxblocks.blocks.update import ImplicitUpdate, Place, Site
from ctxblocks.theorems.plan import Block, Plan, blocks_of, check_problem, kept_rows, read_in, solvers_of


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
    """The update that stands for what `context` has and `reduced` lacks [Thm. 2.2, Cor. 2.5.1, Thm. B.2, App. C].

    `block(query, reduced, update=transfer(block, query, context, reduced))` equals `block(query, context)`.

    Args:
        block: a block, or a `Stack`, which gets one update for each block [Eq. 20–22]; the query is patched at every
            block against what the reduced run, already patched below, really reads there.
        query: `x`.
        context: `C`.
        reduced: `C∖Y`, the context that stays; none by default.
        keep: instead of `reduced`, the increasing indices of the rows of `context` that stay.
        patch_kept: with `keep`, also restore the outputs of the `t` rows that stay: updates `(…, t + 1, d)`, query last.
        solver: which of all exact updates; one, or one for each block.
        site: `"network"`, or `"out-proj"`, the layer's own output projection.
        place: where the bypass shift goes: `"output-bias"`, `"last-layer"` (not in a sandwich) or `"post-norm"` (only there).
        check: whether to look at values; not done inside `torch.compile` and functorch transforms, where a degenerate
            query gives NaN.

    Raises:
        ShapeError, DtypeError, DeviceError: the arguments do not fit the block or each other.
        NonFiniteError: query or context hold NaN or infinity.
        DegenerateQueryError: the read without `Y` is zero; `Augmented()` has an update there.
        ArgumentError: a site or place that the block lacks, or arguments that exclude each other.
    """
    plan = Plan(site, place, check)
    check_problem(block, query, context, plan)
    if keep is not None and reduced is not None:
        raise ArgumentError("keep: got it beside reduced, needs one of the two; leave reduced out")
    if patch_kept and keep is None:
        raise ArgumentError("patch_kept: got it without keep, needs the rows that stay; pass keep=[…]")
    solvers = solvers_of(block, solver)
    if keep is not None:
        rows = kept_rows(keep, context.shape[-2])
        if patch_kept:
            return _single(block, _transfer_tokens(block, query, context, rows, (solvers, plan)))
        reduced = context[..., rows, :]
    reduced = context[..., :0, :] if reduced is None else reduced
    check_problem(block, query, reduced, plan, "reduced")
    return _single(block, _transfer_query(block, query, context, reduced, (solvers, plan)))


def _single(block: Block, updates: list[ImplicitUpdate]) -> ImplicitUpdate | list[ImplicitUpdate]:
    return updates if isinstance(block, Stack) else updates[0]


How = tuple[list[Solver], Plan]


def _transfer_query(block: Block, query: Tensor, context: Tensor, reduced: Tensor, how: How) -> list[ImplicitUpdate]:
    """The query alone is patched; the context that stays runs as it is."""
    (solvers, plan), blocks = how, blocks_of(block)
    query, context, reduced = read_in(block, query), read_in(block, context), read_in(block, reduced)
    patched, updates = query, []
    for number, (each, solver) in enumerate(zip(blocks, solvers, strict=True)):
        full, base = read_at(plan.site, each, query, context), read_at(plan.site, each, patched, reduced)
        updates.append(plan.update(each, solver, base, full))
        if number + 1 < len(blocks):
            query = complete_at(plan.site, each, query, full)
            patched = complete_at(plan.site, each, patched, base, updates[-1])
            context, reduced = each.sequence(context), each.sequence(reduced)
    return updates


def _transfer_tokens(block: Block, query: Tensor, context: Tensor, keep: list[int], how: How) -> list[ImplicitUpdate]:
    """Every token that stays is patched as the query is, each as the query of those before it."""
    (solvers, plan), blocks = how, blocks_of(block)
    tokens = read_in(block, torch.cat([context, query.unsqueeze(-2)], dim=-2))  # (…, n + 1, d)
    rows = [*keep, context.shape[-2]]
    patched, updates = tokens[..., rows, :], []  # (…, t + 1, d)
    for number, (each, solver) in enumerate(zip(blocks, solvers, strict=True)):
        full = read_causal_at(plan.site, each, tokens, tokens[..., :-1, :])
        base = read_causal_at(plan.site, each, patched, patched[..., :-1, :])
        chosen = Read(full.z[..., rows, :], None if full.bypass is None else full.bypass[..., rows, :])
        updates.append(dataclasses.replace(plan.update(each, solver, base, chosen), per_token=True))
        if number + 1 < len(blocks):
            tokens = complete_at(plan.site, each, tokens, full)
            patched = complete_at(plan.site, each, patched, base, updates[-1])
    return updates
