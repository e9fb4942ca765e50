"""`transfer_model`: what a prompt does to a model's weights [Thm. 2.2, Thm. B.2, App. C]."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from ctxblocks import ArgumentError, FamilySpec, LeastNorm, Solver
from ctxblocks_transformers.updates.derive import derive
from ctxblocks_transformers.updates.difference import refuse_inert
from ctxblocks_transformers.updates.model_update import ModelUpdate, evaluation, inputs_of
from ctxblocks_transformers.wiring.checks import check_model, check_tokens, staying
from ctxblocks_transformers.wiring.family import allowed, family_of
from ctxblocks_transformers.wiring.reads import BlockReads, observe, sites_of
from ctxblocks_transformers.wiring.view import ModelView, view_of


def transfer_model(
    model: Any,
    input_ids: Tensor,  # (1, T)
    keep: Sequence[int] | None = None,
    *,
    query: int = -1,
    site: Literal["network", "out-proj"] = "network",
    solver: Solver | Sequence[Solver] = LeastNorm(),
    family: FamilySpec | None = None,
    check: bool = True,
) -> ModelUpdate:
    """The updates of all blocks with which the tokens that stay give the query's output with the full prompt.

    One pass over the prompt, one over the tokens that stay, and one in which each block is measured behind blocks that
    are patched already. The model is left as it was.

    Args:
        model: a causal language model or an encoder of transformers.
        input_ids: the prompt.
        keep: positions that stay beside the query's; by default none, so that everything else is removed.
        query: the token whose output counts; the last by default.
        site: `"network"`, the readers of each block's network (in blocks without one the other site), or `"out-proj"`,
            the output projection of each block's mixer.
        solver: which of all exact updates; one, or one for each block.
        family: how the model is wired, where the registered families do not tell.
        check: whether to look for NaN in the weights.

    Raises:
        ArgumentError: the model has no blocks that are known or can be guessed, is wired otherwise than its type (looked at
            unless a family is given), is an encoder-decoder or quantised; or a position is not in the prompt.
        ShapeError: the prompt has one token, is a batch, or exceeds the model's positions.
        NonFiniteError: weights hold NaN.
        DegenerateQueryError: a block reads zero without context; `Augmented()` has an update there.
        InertUpdateError: the update changes nothing.
    """
    check_model(model, check)
    check_tokens(model, input_ids)
    check_site(site)
    stay = staying(input_ids.shape[1], keep, query)
    with evaluation(model), torch.no_grad():
        view = view_of(model, family_of(model) if family is None else family)
        update = remove(view, input_ids, stay, query % input_ids.shape[1], site, solver)
    refuse_inert(update.report)
    if family is None and not update.report.full <= (limit := allowed(update.report, model.dtype)):
        raise ArgumentError(
            f"model: with its updates the query's output is {update.report.full:.3g} from that with the full context, which "
            f"itself does {update.report.effect:.3g}, needs at most {limit:.3g}; {type(model).__name__} is not wired as the "
            f"family {update.family.name!r} says: pass family=guess(model), or site='out-proj'"
        )
    return update


def check_site(site: str) -> None:
    """Raise unless a site has that name."""
    if site not in ("network", "out-proj"):
        raise ArgumentError(f"site: got {site!r}, needs 'network' or 'out-proj'")


def remove(
    view: ModelView, input_ids: Tensor, stay: list[int], query: int, site: str, solver: Solver | Sequence[Solver]
) -> ModelUpdate:
    """The three passes of `transfer_model`, all arguments having been checked."""
    model, sites = view.model, sites_of(view, site)
    solvers = solvers_of(solver, len(sites))
    positions, everything = torch.tensor(stay), torch.arange(input_ids.shape[1])
    reads, output = observe(view, sites, inputs_of(model, input_ids, everything))
    fewer = inputs_of(model, input_ids[:, positions.to(input_ids.device)], positions)
    row = stay.index(query)
    alone, plain = observe(view, sites, fewer)
    check_start(model, reads[0], alone[0], positions)
    updates, found = derive(view, sites, fewer, [some(each, positions) for each in reads], solvers)
    return ModelUpdate(
        updates=tuple(updates),
        sites=tuple(each.site for each in sites),
        family=view.family,
        input_ids=input_ids,
        positions=positions,
        query=row,
        full=output[query],
        plain=plain[row],
        found=found[row],
        model_type=model.config.model_type,
        model_name=model.config._name_or_path,
        dtype=model.dtype,
    )


def solvers_of(solver: Solver | Sequence[Solver], blocks: int) -> list[Solver]:
    """One solver for each block.

    Raises:
        ArgumentError: there are more or fewer than blocks.
    """
    solvers = [solver] * blocks if isinstance(solver, Solver) else list(solver)
    if len(solvers) != blocks:
        raise ArgumentError(f"solver: got {len(solvers)}, needs one, or one for each of the {blocks} blocks")
    return solvers


def some(reads: BlockReads, positions: Tensor) -> BlockReads:
    """The reads of some tokens."""
    parts = (reads.entered, reads.z, reads.bypass)
    entered, z, bypass = (None if part is None else part[positions.to(part.device)] for part in parts)
    return BlockReads(entered, z, bypass)


def check_start(model: Any, full: BlockReads, alone: BlockReads, positions: Tensor) -> None:
    """Refuse models whose tokens enter otherwise when they stand alone: an update would have to make up for that too.

    Raises:
        ArgumentError: the first layer is given something else.
    """
    assert full.entered is not None
    assert alone.entered is not None
    gap = float((alone.entered - full.entered[positions.to(full.entered.device)]).detach().abs().max())
    if gap > 100 * torch.finfo(full.entered.dtype).eps * float(full.entered.abs().max()):
        raise ArgumentError(
            f"model: the tokens that stay enter the first layer otherwise than in the prompt (by {gap:.3g}), needs "
            f"embeddings that do not depend on what was removed; {type(model).__name__} does not take their positions"
        )
