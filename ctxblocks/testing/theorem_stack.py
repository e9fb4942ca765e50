"""Stacks of blocks and generated responses [App. C, Rem. 2.6, Cor. 2.6.1]."""

from collections.abc import Sequence

import torch
from hypothesis import assume, strategies as st
from torch import Tensor

from ctxblocks.algebra.solvers import Augmented, LeastNorm, Solver
from ctxblocks.base.errors import DegenerateQueryError
from ctxblocks.blocks.stack import Stack
from ctxblocks.blocks.update import ImplicitUpdate
from ctxblocks.exactness.kinds import KINDS, admits, build
from ctxblocks.exactness.measure import Measure, Transferred
from ctxblocks.testing.cases import Case
from ctxblocks.testing.theorem_draws import DENSE, draw_block, draw_keep
from ctxblocks.testing.theorem_simulation import simulate
from ctxblocks.theorems.arguments import Block
from ctxblocks.theorems.generation import transfer_generation
from ctxblocks.theorems.transfer import transfer

__all__ = ["generation_is_reproduced", "kept_tokens_are_restored", "stack_is_patched_block_by_block"]


def draw_stack(case: Case, data: st.DataObject, kinds: Sequence[str] = KINDS) -> Stack:
    """Two blocks of drawn kinds around the same layer, with different networks."""
    assume(case.layer.context_width == case.layer.width)
    fitting = [kind for kind in kinds if admits(kind, case.layer)]
    drawn = data.draw(st.tuples(st.sampled_from(fitting), st.sampled_from(fitting)), label="blocks")
    return Stack([build(kind, case.layer, case.seed + number) for number, kind in enumerate(drawn)])


def draw_solver_for(case: Case, data: st.DataObject, block: Block) -> Solver:
    """`LeastNorm` or `Augmented`; always `Augmented` if some read is zero."""
    if data.draw(st.booleans(), label="augmented"):
        return Augmented()
    try:
        transfer(block, case.query, case.context)
    except DegenerateQueryError:
        return Augmented()
    return LeastNorm()


def stack_is_patched_block_by_block(case: Case, data: st.DataObject) -> None:
    """After every block the query's activation equals that of the full run, for any reduced context [App. C, Eq. 17–22].

    The tolerance is that of one block. Each `δ` is relative to the actual read of the reduced run with the updates of the
    earlier blocks, so rounding errors of earlier blocks are part of both reads and do not accumulate.
    """
    stack, keep = draw_stack(case, data), draw_keep(case, data)
    solver = draw_solver_for(case, data, stack)
    reduced = case.context[..., keep, :]
    with torch.no_grad():
        try:
            updates = transfer(stack, case.query, case.context, keep=keep, solver=solver)
        except DegenerateQueryError:
            updates = transfer(stack, case.query, case.context, keep=keep, solver=Augmented())
        runs = [stack.activations(case.query, case.context), stack.activations(case.query, reduced, updates)]
        full, patched = ([case.query, *run] for run in runs)
        tokens = [case.context, reduced]
        for number, (block, update) in enumerate(zip(stack, updates, strict=True)):
            reads = [
                block.site("network").read(q, t)
                for q, t in zip((patched[number], full[number]), tokens[::-1], strict=True)
            ]
            used = Transferred(full[number], reads[0], reads[1], update)
            comparison = Measure(block, case.seed).outputs(used, patched[number + 1], full[number + 1])
            assert comparison.ok, f"block {number}: {comparison}"
            if not comparison.counted.all():
                return  # a router chose other experts, so that later blocks compute another function
            tokens = [block.sequence(each) for each in tokens]


def _activations(stack: Stack, tokens: Tensor, updates: Sequence[ImplicitUpdate] | None) -> Tensor:  # (…, L, n, d)
    """The activations of all tokens after every block."""
    activations = []
    for number, block in enumerate(stack):
        tokens = block.sequence(tokens, None if updates is None else updates[number])
        activations.append(tokens)
    return torch.stack(activations, dim=-3)


def kept_tokens_are_restored(case: Case, data: st.DataObject) -> None:
    """With updates for each token that stays, the activations of these tokens agree after every block [App. C]."""
    stack, keep = draw_stack(case, data, DENSE), draw_keep(case, data)
    rows = [*keep, case.tokens]

    def patched(model: Block, query: Tensor, context: Tensor) -> Tensor:
        assert isinstance(model, Stack)
        updates = transfer(model, query, context, keep=keep, patch_kept=True, solver=Augmented())
        tokens = torch.cat([context, query.unsqueeze(-2)], dim=-2)
        return _activations(model, tokens[..., rows, :], updates)

    def direct(model: Block, query: Tensor, context: Tensor) -> Tensor:
        assert isinstance(model, Stack)
        tokens = torch.cat([context, query.unsqueeze(-2)], dim=-2)
        return _activations(model, tokens, None)[..., rows, :]

    comparison = simulate(case, stack, patched, direct, case.query, case.context)
    assert comparison.ok, str(comparison)


def _prompt_and_response(query: Tensor, context: Tensor, split: int) -> tuple[Tensor, Tensor]:
    """`U` and `R`: the first `split` tokens of `[C, x]` and the remaining ones."""
    tokens = torch.cat([context, query.unsqueeze(-2)], dim=-2)
    return tokens[..., :split, :], tokens[..., split:, :]


def generation_is_reproduced(case: Case, data: st.DataObject) -> None:
    """With one update per token, every prediction of the response is the same without the prompt [Rem. 2.6, Cor. 2.6.1]."""
    assume(case.tokens >= 1 and case.layer.context_width == case.layer.width)
    model = draw_stack(case, data, DENSE) if data.draw(st.booleans(), label="stack") else draw_block(case, data, DENSE)
    split = data.draw(st.integers(1, case.tokens), label="prompt tokens")
    solver = draw_solver_for(case, data, model)

    def without_prompt(model: Block, query: Tensor, context: Tensor) -> Tensor:
        prompt, response = _prompt_and_response(query, context, split)
        try:
            updates = transfer_generation(model, prompt, response, solver=solver)
        except DegenerateQueryError:
            updates = transfer_generation(model, prompt, response, solver=Augmented())
        outputs = [_step(model, prompt[..., -1, :], response[..., :0, :], updates, 0)]
        for j in range(1, response.shape[-2]):
            outputs.append(_step(model, response[..., j - 1, :], response[..., : j - 1, :], updates, j))
        return torch.stack(outputs, dim=-2)

    def with_prompt(model: Block, query: Tensor, context: Tensor) -> Tensor:
        tokens = torch.cat([context, query.unsqueeze(-2)], dim=-2)
        predicting = range(split - 1, tokens.shape[-2] - 1)
        return torch.stack([model(tokens[..., i, :], tokens[..., :i, :]) for i in predicting], dim=-2)

    comparison = simulate(case, model, without_prompt, with_prompt, case.query, case.context)
    assert comparison.ok, str(comparison)


def _step(
    model: Block, query: Tensor, kept: Tensor, updates: ImplicitUpdate | list[ImplicitUpdate], j: int
) -> Tensor:  # (…, d)
    """The prediction of `r_{j+1}` by the model without the prompt."""
    if isinstance(updates, list):
        patches: list[ImplicitUpdate] | ImplicitUpdate = [update[..., j] for update in updates]
    else:
        patches = updates[..., j]
    predicted: Tensor = model(query, kept, patches)
    return predicted
