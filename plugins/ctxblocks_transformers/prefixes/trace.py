"""`trace`: the updates of all blocks after every prefix of a prompt, for about two forward passes [Sec. 3, Prop. 3.1]."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from ctxblocks import ArgumentError, FamilySpec, ImplicitUpdate, LeastNorm, Read, Solver
from ctxblocks.validators import one_of
from ctxblocks_transformers.prefixes.base_pass import base_reads
from ctxblocks_transformers.prefixes.choice import full_reads
from ctxblocks_transformers.prefixes.leading import leading_tokens
from ctxblocks_transformers.prefixes.measures import MEASURES, measure
from ctxblocks_transformers.prefixes.prompt_dynamics import PromptDynamics, Queries
from ctxblocks_transformers.prefixes.routes import ROUTES, Reads, ordinary
from ctxblocks_transformers.wiring.calling import evaluation
from ctxblocks_transformers.wiring.checks import check_autocast, check_model, check_solver
from ctxblocks_transformers.wiring.effective import effective_weights
from ctxblocks_transformers.wiring.family import family_for
from ctxblocks_transformers.wiring.keep import Keep
from ctxblocks_transformers.wiring.own_run import check_own_run
from ctxblocks_transformers.wiring.reads import BlockReads
from ctxblocks_transformers.wiring.rotations import regimes, rotations_kept
from ctxblocks_transformers.wiring.sites import Site
from ctxblocks_transformers.wiring.tokens import Prompt, tokens_of
from ctxblocks_transformers.wiring.view import view_of
from ctxblocks_transformers.wiring.wirings import check_site, sites_of

ROUNDING = 16
"""Units of round-off, relative to a read's largest entry, by which two computations of the same read may differ."""
RouteName = Literal["auto", "copies", "states", "batches", "one by one"]


def trace(
    model: Any,
    input_ids: Prompt,  # (1, n + 1)
    *,
    queries: Queries = "last",
    site: Literal["network", "out-proj"] = "network",
    solver: Solver = LeastNorm(),
    route: RouteName = "auto",
    keep_updates: bool = False,
    keep: Keep = "auto",
    tokenizer: Any = None,
    family: FamilySpec | None = None,
    check: bool = True,
) -> PromptDynamics:
    """The effect of every token of a prompt on the weights of every block.

    Args:
        model: a causal language model or an encoder of transformers, on one device or spread over several.
        input_ids: the prompt as tokens: a tensor, a list, or what a tokenizer returns for one text.
        queries: `"last"`, every prefix of the context with the prompt's last token as the query; or `"every"`, each token
            as the query of the tokens before it.
        site: `"network"`, the readers of each block's network (in blocks without a network the other site), or `"out-proj"`.
        solver: which of all exact updates to take.
        route: how to compute the reads of all prefixes; by default the fastest route that the model supports.
        keep_updates: whether to keep every block's updates, `2 d` numbers for each token, in addition to their measures.
        keep: leading positions, such as `(0,)`, that are read with every query without context too; `"auto"` for the first
            token where it is special or the model's attention sink; None or `()` for none. Their steps are zero.
        tokenizer: whose special tokens count for `keep="auto"`.
        family: the wiring of the model, if no registered family describes it.
        check: whether to look for NaN in the weights.

    Raises:
        ArgumentError: the model has no blocks that are known or can be guessed, is an encoder-decoder, quantised or
            offloaded, or does not support the route; or the kept tokens do not lead the prompt, or see later ones.
        ShapeError: the prompt has one token, is a batch, or exceeds the model's positions.
        NonFiniteError: weights contain NaN or infinity.
        DegenerateQueryError: a block's input without context is zero; `Augmented()` has an update there.
    """
    check_model(model, check)
    input_ids = tokens_of(model, input_ids)
    check_autocast("trace")
    check_solver(solver)
    one_of(("last", "every")).check("queries", queries)
    one_of(("auto", *ROUTES)).check("route", route)
    check_site(site)
    with evaluation(model), rotations_kept(model), torch.no_grad():
        view = view_of(model, family_for(model, family))
        sites = sites_of(view, site)
        check_own_run(model, input_ids)
        weights = [_matrices(each) for each in sites]
        kept = leading_tokens(model, sites, input_ids, keep, tokenizer)
        parts = [(1, input_ids.shape[1])]
        if queries == "every":
            tokens, how, deviation = input_ids[0], "one pass", 0.0
            reads = ordinary(model, sites, input_ids, slice(None))
        else:
            tokens = input_ids[0, -1:].expand(input_ids.shape[1])
            reads, how, deviation = full_reads(model, sites, input_ids, route)
            parts = regimes(model, 1, input_ids.shape[1])
        count = len(kept.positions)
        same = count + 1 if count or queries == "last" else 0
        blocks = _Blocks(sites, weights, reads, solver, same, keep_updates)
        base_reads(model, sites, tokens, reads, blocks.add, input_ids[0, :count], parts)
    return PromptDynamics(
        measures=blocks.measures(),
        sites=tuple(each.name for each in sites),
        family=view.family,
        input_ids=input_ids,
        queries=queries,
        route=how,
        deviation=deviation,
        updates=tuple(blocks.updates) if keep_updates else None,
        model_type=model.config.model_type,
        kept=kept,
    )


class _Blocks:
    """The updates of all blocks, made and measured during the pass over single tokens; each block's reads are then released."""

    def __init__(
        self, sites: Sequence[Site], weights: list[list[Tensor]], full: Reads, solver: Solver, same: int, keep: bool
    ) -> None:
        self.sites, self.weights, self.full = sites, weights, full
        self.solver, self.same, self.keep = solver, same, keep
        self.updates: list[ImplicitUpdate | None] = [None] * len(sites)
        self._measures: dict[int, dict[str, Tensor]] = {}

    def add(self, number: int, alone: BlockReads) -> None:
        """Make the update of a block, and measure it."""
        site, recorded = self.sites[number], self.full[number]
        base, full = site.read(alone), site.read(recorded)
        base = Read(_known(full.z, base.z, self.same), _known(full.bypass, base.bypass, self.same), base.depends)
        z = _settled(recorded.z, full.z, base.z, self.same)
        bypass = None if base.bypass is None else _settled(recorded.bypass, full.bypass, base.bypass, self.same)
        recorded.z = recorded.bypass = None  # released
        update = site.update_of(base, Read(z, bypass, full.depends), self.solver, per_token=False)
        self._measures[number] = {name: x.cpu() for name, x in measure(update, self.weights[number]).items()}
        self.updates[number] = update if self.keep else None

    def measures(self) -> dict[str, Tensor]:
        """The measures of all blocks by name; zeros for a block that reads no other token."""
        first = next(iter(self._measures.values()))
        none = {name: torch.zeros_like(values) for name, values in first.items()}
        rows = [self._measures.get(number, none) for number in range(len(self.sites))]
        return {name: torch.stack([row[name] for row in rows]) for name in MEASURES}


def _known(full: Tensor | None, base: Tensor | None, count: int) -> Any:  # (n + 1, d)
    """The base reads; those after kept tokens alone are the full reads (one that sees nothing at all has its own)."""
    if full is None or base is None or count < 2:
        return base
    return torch.cat((full[:count], base[count:]))


def _settled(
    recorded: Tensor | None,  # (n + 1, d), in the model's dtype
    full: Tensor | None,  # (n + 1, d), the same in at least float32
    base: Tensor,  # (n + 1, d)
    count: int,
) -> Tensor:  # (n + 1, d)
    """The full reads, replaced by the base reads where the two differ by round-off alone, whose direction is noise.

    The first `count` prefixes hold nothing but kept tokens, so that their reads are the base reads.
    """
    if recorded is None or full is None:
        return base
    eps = torch.finfo(recorded.dtype).eps
    gap, size = (full - base).abs().amax(-1, keepdim=True), base.abs().amax(-1, keepdim=True)
    same = gap <= ROUNDING * eps * size
    same[:count] = True
    return torch.where(same, base, full)


def _matrices(site: Site) -> list[Tensor]:  # (…, m, d) each
    """The matrices that act on the site's input.

    Raises:
        ArgumentError: some are offloaded.
    """
    matrices = []
    for path, matrix in effective_weights(site).items():
        matrices.append(matrix)
        if matrices[-1].device.type == "meta":
            raise ArgumentError(
                f"model: {site.block.path}.{path} is offloaded, needs weights that can be read; load the model with a "
                f"device_map of devices alone, without disk or offloading"
            )
    return matrices
