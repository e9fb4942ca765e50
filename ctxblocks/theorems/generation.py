"""Corollary 2.6.1: one update per generated token replaces the prompt."""

from collections.abc import Sequence
from typing import overload

import torch
from torch import Tensor

from ctxblocks.algebra.solvers import LeastNorm, Solver
from ctxblocks.base.checks import check_finite, check_tokens, readable
from ctxblocks.base.errors import ShapeError
from ctxblocks.blocks.block import ContextualBlock
from ctxblocks.blocks.read import Read
from ctxblocks.blocks.stack import Stack
from ctxblocks.blocks.update import ImplicitUpdate
from ctxblocks.theorems.arguments import ADVICE, Block, check_tensors, solvers_of
from ctxblocks.theorems.implicit_update import Placement


@overload
def transfer_generation(
    block: ContextualBlock, prompt: Tensor, response: Tensor, *, solver: Solver = ..., check: bool = ...
) -> ImplicitUpdate: ...
@overload
def transfer_generation(
    block: Stack, prompt: Tensor, response: Tensor, *, solver: Solver | Sequence[Solver] = ..., check: bool = ...
) -> list[ImplicitUpdate]: ...
def transfer_generation(
    block: Block,
    prompt: Tensor,  # (…, p ≥ 1, d)
    response: Tensor,  # (…, t ≥ 1, d)
    *,
    solver: Solver | Sequence[Solver] = LeastNorm(),
    check: bool = True,
) -> ImplicitUpdate | list[ImplicitUpdate]:
    """Updates `ΔW_j(U)` with which a model predicts every token of a response without the prompt `U` [Cor. 2.6.1, Eq. 3–5].

    Update `j = 0 … t − 1`, along the last batch axis, is for the prediction of `r_{j+1}`. For `j = 0` the query is the last
    token of the prompt, and all tokens before it are removed. For `j ≥ 1` the query is `r_j`, the tokens `r_1 … r_{j−1}`
    stay in the context and the prompt is removed:
    `block(r_j, response[..., :j − 1, :], update=updates[..., j])` is the output after `U, r_1 … r_j`.

    Args:
        block: a block, or a `Stack`, for which the result is one update for each block; response tokens in the context
            are not patched.
        prompt: `U`.
        response: `r_1 … r_t`; the last prediction is that of `r_t`, so the value of `r_t` is not used.
        solver: chooses one of the exact updates; one solver, or one for each block.
        check: whether to check values (finite, not degenerate).

    Raises:
        ShapeError: prompt or response are empty, or their batch shapes differ.
        NonFiniteError: prompt, response or a read of a block hold NaN or infinity.
        DegenerateQueryError: the network's input without the prompt is zero for some token.
    """
    placement, steps = Placement(check=check), response.shape[-2] if response.dim() > 1 else 0
    if prompt.dim() < 2 or prompt.shape[-2] < 1 or steps < 1:
        raise ShapeError(
            f"prompt, response: got shapes {tuple(prompt.shape)} and {tuple(response.shape)}, needs at least one token in each"
        )
    check_tensors(block, prompt[..., -1, :], prompt, check, "prompt")
    check_tokens("response", response, prompt[..., -1, :], prompt.shape[-1])
    if check and readable(response):
        check_finite("response", response[..., :-1, :], ADVICE)
    blocks, first = block.in_order, prompt.shape[-2] - 1
    tokens = block.read_in(torch.cat([prompt, response[..., :-1, :]], dim=-2))  # (…, p + t − 1, d)
    patched, kept, updates = tokens[..., first:, :], tokens[..., first + 1 :, :], []  # (…, t, d), (…, t − 1, d)
    for number, (each, its_solver) in enumerate(zip(blocks, solvers_of(solver, len(blocks)), strict=True)):
        full, base = each.contextualize_tokens(tokens), _response_reads(each, patched, kept)
        full_rows = full.rows(slice(first, None))
        updates.append(placement.update(each, base, full_rows, its_solver, number, "prediction"))
        tokens, patched, kept = each.complete(full), each.complete(base, updates[-1]), each.sequence(kept)
    return updates if isinstance(block, Stack) else updates[0]


def _response_reads(
    block: ContextualBlock,
    patched: Tensor,  # (…, t, d): the prompt's last token, then r_1 … r_{t−1}
    kept: Tensor,  # (…, t − 1, d): r_1 … r_{t−1}, not patched
) -> Read:
    """The reads of a forward pass without the prompt: the first token without context, `r_j` after `r_1 … r_{j−1}`."""
    alone = block.contextualize(patched[..., 0, :], kept[..., :0, :])
    parts = [Read(alone.z.unsqueeze(-2), None if alone.bypass is None else alone.bypass.unsqueeze(-2))]
    if kept.shape[-2]:
        parts.append(block.contextualize_causal(patched[..., 1:, :], kept[..., :-1, :]))
    bypasses = [part.bypass for part in parts if part.bypass is not None]
    z = torch.cat([part.z for part in parts], dim=-2)
    return Read(z, torch.cat(bypasses, dim=-2) if bypasses else None, alone.depends)
