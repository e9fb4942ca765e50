"""Forward passes of a model that record the reads of its blocks, or update every block on the way."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ctxblocks import ArgumentError, ImplicitUpdate, Solver
from ctxblocks_transformers.wiring.calling import inputs_of
from ctxblocks_transformers.wiring.reads import BlockReads, outputs_of
from ctxblocks_transformers.wiring.sites import Hooks, Site


def observe(model: Any, sites: Sequence[Site], inputs: Mapping[str, Any]) -> tuple[list[BlockReads], Tensor]:
    """One forward pass: the reads of every block, and the model's output `(tokens, vocabulary or d)`."""
    reads = [BlockReads() for _ in sites]
    with Hooks() as hooks:
        for site, each in zip(sites, reads, strict=True):
            site.watch(hooks, each)
        output = model(**inputs)
    return reads, outputs_of(output)


def complete(
    model: Any, sites: Sequence[Site], inputs: Mapping[str, Any], make: Callable[[int, BlockReads], ImplicitUpdate]
) -> Tensor:  # (tokens, vocabulary or d)
    """One forward pass in which each block's update is made from its number and reads, and applied at once; the output.

    A block's reads thus come from blocks that are already updated, so that its update makes up for their rounding too.
    """
    with Hooks() as hooks:
        for number, site in enumerate(sites):
            site.complete(hooks, functools.partial(make, number))
        output = model(**inputs)
    return outputs_of(output)


@dataclasses.dataclass(frozen=True)
class Removal:
    """The updates that stand for the tokens removed from a prompt, and the outputs of the tokens that remain.

    Attributes:
        updates: for every block `(tokens, d)`, None for a block that reads no other token.
        full: the outputs with the full prompt `(tokens, vocabulary or d)`.
        plain: the outputs without the removed tokens.
        output: the outputs without the removed tokens, but with the updates.
    """

    updates: list[ImplicitUpdate | None]
    full: Tensor
    plain: Tensor
    output: Tensor


def full_pass(
    model: Any,
    sites: Sequence[Site],
    input_ids: Tensor,  # (1, T)
) -> tuple[list[BlockReads], Tensor]:
    """`observe` of a whole prompt.

    Raises:
        ArgumentError: the model has one output for the whole prompt, as classifiers of texts have.
    """
    reads, output = observe(model, sites, inputs_of(model, input_ids, torch.arange(input_ids.shape[1])))
    if len(output) != input_ids.shape[1]:
        raise ArgumentError(
            f"model: {type(model).__name__} gives {len(output)} output(s) for {input_ids.shape[1]} tokens, needs one for each "
            f"token; pass the model below its head, {type(model).__name__.lower()}.base_model"
        )
    return reads, output


def remove(
    model: Any,
    sites: Sequence[Site],
    input_ids: Tensor,  # (1, T)
    positions: Tensor,  # (tokens,), of those that remain
    solvers: Sequence[Solver],
    full_run: tuple[list[BlockReads], Tensor] | None = None,
) -> Removal:
    """One pass over the prompt, one over the remaining tokens, and one in which these are updated, block by block.

    Args:
        full_run: what `observe` recorded of the prompt, if that pass was made already.

    Raises:
        ArgumentError: the input of the first layer depends on the removed tokens.
        DegenerateQueryError: a solver has no update for a block.
    """
    reads, every = full_run or full_pass(model, sites, input_ids)
    full = [each.at(positions) for each in reads]
    inputs = inputs_of(model, input_ids[:, positions.to(input_ids.device)], positions)
    base, plain = observe(model, sites, inputs)
    check_start(model, full[0], base[0])
    updates: list[ImplicitUpdate | None] = [None] * len(sites)

    def make(number: int, base: BlockReads) -> ImplicitUpdate:
        updates[number] = update = sites[number].update(base, full[number], solvers[number])
        return update

    return Removal(updates, every[positions.to(every.device)], plain, complete(model, sites, inputs, make))


def check_start(model: Any, full: BlockReads, base: BlockReads) -> None:
    """Refuse models in which the input of the first layer depends on other tokens: an update would have to undo that too.

    Raises:
        ArgumentError: the first layer's inputs differ between the two reads of the same tokens.
    """
    assert full.entered is not None
    assert base.entered is not None
    gap = float((base.entered - full.entered).detach().abs().max())
    if gap > 100 * torch.finfo(full.entered.dtype).eps * float(full.entered.abs().max()):
        raise ArgumentError(
            f"model: the inputs of the first layer at the remaining tokens differ from those in the full prompt (by {gap:.3g}), "
            f"needs embeddings that do not depend on the removed tokens; {type(model).__name__} does not take their positions"
        )
