"""`transfer_model`: what a prompt does to a model's weights [Thm. 2.2, Thm. B.2, App. C]."""

from collections.abc import Sequence
from typing import Any, Literal

import torch

from ctxblocks import ArgumentError, FamilySpec, LeastNorm, Solver
from ctxblocks_transformers.updates.model_update import ModelUpdate
from ctxblocks_transformers.wiring.calling import evaluation
from ctxblocks_transformers.wiring.checks import check_model, check_query
from ctxblocks_transformers.wiring.difference import allowed, refuse_inert
from ctxblocks_transformers.wiring.family import family_for
from ctxblocks_transformers.wiring.fingerprint import fingerprint
from ctxblocks_transformers.wiring.keep import Keep, kept_tokens
from ctxblocks_transformers.wiring.own_run import check_own_run
from ctxblocks_transformers.wiring.passes import full_pass, remove
from ctxblocks_transformers.wiring.rotations import rotations_kept
from ctxblocks_transformers.wiring.tokens import Prompt, tokens_of
from ctxblocks_transformers.wiring.view import view_of
from ctxblocks_transformers.wiring.wirings import check_site, sites_of


def transfer_model(
    model: Any,
    input_ids: Prompt,  # (1, T)
    keep: Keep = "auto",
    *,
    query: int = -1,
    tokenizer: Any = None,
    site: Literal["network", "out-proj"] = "network",
    solver: Solver | Sequence[Solver] = LeastNorm(),
    family: FamilySpec | None = None,
    check: bool = True,
) -> ModelUpdate:
    """The updates of all blocks with which the remaining tokens give the query's output with the full prompt.

    Three passes: over the prompt, over the remaining tokens, and over these with each block's update made and applied in
    turn, so that it makes up for the rounding of the blocks before it. The model is not changed.

    Args:
        model: a causal language model or an encoder of transformers.
        input_ids: the prompt as tokens: a tensor, a list, or what a tokenizer returns for one text.
        keep: positions that remain in addition to the query's, `()` for none. By default the first token remains where it
            is a special one or an outlier: without it a trained model's lone query would become its attention sink.
        query: the position of the token whose output counts; by default the last.
        tokenizer: whose special tokens count besides those that the model's configuration names.
        site: `"network"`, the readers of each block's network (in blocks without a network the other site), or `"out-proj"`,
            the output projection of each block's mixer.
        solver: which of all exact updates to take; one, or one for each block.
        family: the wiring of the model, if no registered family describes it.
        check: whether to look for NaN in the weights.

    Raises:
        ArgumentError: the model has no blocks that are known or can be guessed, is wired differently from its type (checked
            unless a family is given), is an encoder-decoder or quantised; or a position is not in the prompt.
        ShapeError: the prompt has one token, is a batch, or exceeds the model's positions.
        NonFiniteError: weights contain NaN or infinity.
        DegenerateQueryError: a block's input without context is zero; `Augmented()` has an update there.
        InertUpdateError: the update has no effect.
    """
    check_model(model, check)
    input_ids = tokens_of(model, input_ids)
    check_site(site)
    query = check_query(query, input_ids.shape[1])
    with evaluation(model), rotations_kept(model), torch.no_grad():
        view = view_of(model, family_for(model, family))
        sites = sites_of(view, site)
        run = full_pass(model, sites, input_ids)
        check_own_run(model, input_ids, run[1])
        kept = kept_tokens(model, sites, input_ids, keep, query=query, tokenizer=tokenizer, reads=run[0])
        remain = sorted({*kept.positions, query})
        row, positions = remain.index(query), torch.tensor(remain)
        removal = remove(model, sites, input_ids, positions, solvers_of(solver, len(sites)), run)
    update = ModelUpdate(
        updates=tuple(removal.updates),
        sites=tuple(each.name for each in sites),
        family=view.family,
        input_ids=input_ids,
        positions=positions,
        query=row,
        full=removal.full[row],
        plain=removal.plain[row],
        found=removal.output[row],
        model_type=model.config.model_type,
        model_name=model.config._name_or_path,
        dtype=model.dtype,
        kept_reason=kept.reason,
        weights=fingerprint(model),
    )
    _refuse_wrong(update, model, guessed_or_registered=family is None)
    return update


def _refuse_wrong(update: ModelUpdate, model: Any, guessed_or_registered: bool) -> None:
    """Refuse an update without effect, and one that shows that the family is not the model's.

    Raises:
        InertUpdateError: the update has no effect.
        ArgumentError: the output with the update is not that with the full context, and the family is not the caller's.
    """
    report = update.report
    refuse_inert(report)
    if guessed_or_registered and not report.full <= (limit := allowed(report, model.dtype)):
        raise ArgumentError(
            f"model: with its updates the query's output is {report.full:.3g} from that with the full context, "
            f"whose effect is {report.effect:.3g}, needs at most {limit:.3g}; {type(model).__name__} is not wired as the "
            f"family {update.family.name!r} says: pass family=guess(model), or site='out-proj'"
        )


def solvers_of(solver: Solver | Sequence[Solver], blocks: int) -> list[Solver]:
    """One solver for each block.

    Raises:
        ArgumentError: there are more or fewer than blocks, or one is no solver.
    """
    listed = isinstance(solver, Sequence) and all(isinstance(each, Solver) for each in solver)
    if not listed and not isinstance(solver, Solver):
        raise ArgumentError(f"solver: got {solver!r}, needs a solver such as LeastNorm(), or one for each block")
    solvers = [solver] * blocks if isinstance(solver, Solver) else list(solver)
    if len(solvers) != blocks:
        raise ArgumentError(f"solver: got {len(solvers)}, needs one, or one for each of the {blocks} blocks")
    return solvers
