"""`trace`: all blocks and all prefixes of a prompt for the price of about two forward passes [Sec. 3, Prop. 3.1]."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from ctxblocks import ArgumentError, ContextOperator, FamilySpec, ImplicitUpdate, LeastNorm, Solver
from ctxblocks_transformers.prefixes.base_pass import base_reads
from ctxblocks_transformers.prefixes.measures import MEASURES, measure
from ctxblocks_transformers.prefixes.prompt_dynamics import PromptDynamics, Queries
from ctxblocks_transformers.prefixes.routes import ROUTES, Found, NoRouteError, Reads, ordinary
from ctxblocks_transformers.updates.derive import wide
from ctxblocks_transformers.updates.model_update import evaluation
from ctxblocks_transformers.wiring.checks import check_model, check_tokens
from ctxblocks_transformers.wiring.family import family_of, round_off
from ctxblocks_transformers.wiring.guess import probe_tokens
from ctxblocks_transformers.wiring.reads import NETWORK, BlockReads, SiteView, sites_of
from ctxblocks_transformers.wiring.view import ModelView, view_of

PROBE = 6
"""Tokens that a way is tried on."""
PROBE = 6
"""Tokens that a way is tried on."""
ROUNDING = 16
"""Units of round-off, relative to a read's largest entry, that two ways of computing the same read may lie apart."""
RouteName = Literal["auto", "copies", "states", "batches", "one by one"]


def trace(
    model: Any,
    input_ids: Tensor,  # (1, n + 1)
    *,
    queries: Queries = "last",
    site: Literal["network", "out-proj"] = "network",
    solver: Solver = LeastNorm(),
    route: RouteName = "auto",
    keep_updates: bool = False,
    family: FamilySpec | None = None,
    check: bool = True,
) -> PromptDynamics:
    """What every token of a prompt does to the weights of every block.

    Args:
        model: a causal language model or an encoder of transformers, on one device or spread over several.
        input_ids: the prompt.
        queries: `"last"`, every prefix of the context for the prompt's last token; or `"every"`, each token for itself.
        site: `"network"`, the readers of each block's network (in blocks without one the other site), or `"out-proj"`.
        solver: which of all exact updates.
        route: how to find the reads of all prefixes; by default the fastest that the model allows.
        keep_updates: whether to keep every block's updates, `2 d` numbers for each token, beside what is measured of them.
        family: how the model is wired, where the registered families do not tell.
        check: whether to look for NaN in the weights.

    Raises:
        ArgumentError: the model has no blocks that are known or can be guessed, is an encoder-decoder, quantised or
            offloaded, or does not allow the route.
        ShapeError: the prompt has one token, is a batch, or exceeds the model's positions.
        NonFiniteError: weights hold NaN.
        DegenerateQueryError: a block reads zero without context; `Augmented()` has an update there.
    """
    check_model(model, check)
    check_tokens(model, input_ids)
    _one_of("queries", queries, ("last", "every"))
    _one_of("site", site, ("network", "out-proj"))
    _one_of("route", route, ("auto", *ROUTES))
    with evaluation(model), torch.no_grad():
        view = view_of(model, family_of(model) if family is None else family)
        sites = sites_of(view, site)
        _check_present(sites)
        input_ids = input_ids.to(model.get_input_embeddings().weight.device)
        if queries == "every":
            tokens, deviation = input_ids[0], 0.0
            found = Found(ordinary(view, sites, input_ids, slice(None)), "one pass")
        else:
            tokens = input_ids[0, -1:].expand(input_ids.shape[1])
            found, deviation = _find(view, sites, input_ids, route)
        blocks = _Blocks(sites, found.reads, solver, keep_updates, empty=queries == "last")
        base_reads(view, sites, tokens, found.reads, blocks.add)
    return PromptDynamics(
        measures=blocks.measures(len(tokens)),
        sites=tuple(each.site for each in sites),
        family=view.family,
        input_ids=input_ids,
        queries=queries,
        route=found.how,
        deviation=deviation,
        updates=tuple(blocks.updates) if keep_updates else None,
        model_type=model.config.model_type,
    )


class _Blocks:
    """What is measured, block by block, while the pass over single tokens runs; each block's reads are then let go of."""

    def __init__(self, sites: Sequence[SiteView], full: Reads, solver: Solver, keep: bool, empty: bool) -> None:
        self.sites, self.full, self.solver, self.keep, self.empty = sites, full, solver, keep, empty
        self.updates: list[ImplicitUpdate | None] = [None] * len(sites)
        self._found: dict[int, dict[str, Tensor]] = {}

    def add(self, number: int, base: BlockReads) -> None:
        """The update of a block, and its measures."""
        site, full = self.sites[number], self.full[number]
        shift = None
        if site.site == NETWORK:
            assert full.bypass is not None
            assert base.bypass is not None
            shift = self._settled(full.bypass, base.bypass) - wide(base.bypass)
        if full.z is None or base.z is None:  # the network of a parallel block reads no other token
            assert shift is not None
            operator = ContextOperator.identity(shift)
        else:
            operator = self.solver.solve(wide(base.z), self._settled(full.z, base.z))
        full.clear()
        weights = [each.matrices() for each in site.readers()]
        self._found[number] = {name: values.cpu() for name, values in measure(operator, shift, weights).items()}
        if self.keep:
            self.updates[number] = ImplicitUpdate(operator, shift, site.site)  # type: ignore[arg-type]

    def _settled(self, full: Tensor, base: Tensor) -> Tensor:  # (n + 1, d) all
        """The full reads, and the base reads where rounding alone keeps the two apart: noise has a direction, but no meaning.

        The first of all prefixes is empty, so that its read is the base read.
        """
        full, base, eps = wide(full), wide(base), torch.finfo(full.dtype).eps
        gap, size = (full - base).abs().amax(-1, keepdim=True), base.abs().amax(-1, keepdim=True)
        same = gap <= ROUNDING * eps * size
        same[0] |= self.empty
        return torch.where(same, base, full)

    def measures(self, tokens: int) -> dict[str, Tensor]:
        """By name, all blocks; zeros for a block that reads no other token."""
        first = next(iter(self._found.values()))
        none = {name: torch.zeros_like(values) for name, values in first.items()}
        rows = [self._found.get(number, none) for number in range(len(self.sites))]
        return {name: torch.stack([row[name] for row in rows]) for name in MEASURES}


def _find(view: ModelView, sites: Sequence[SiteView], input_ids: Tensor, route: str) -> tuple[Found, float]:
    """The reads of all prefixes by the first way that the model allows, and how far its last are from an ordinary pass's.

    Raises:
        ArgumentError: the model allows none of the ways asked for.
    """
    limit, problems = round_off(view.model.dtype), []
    for name in ROUTES if route == "auto" else (route,):
        try:
            if name in ("states", "batches"):
                _prove(view, sites, name, limit)
            found = ROUTES[name](view, sites, input_ids)
        except NoRouteError as error:
            problems.append(f"{name}: {error}")
            continue
        last = found.last or ordinary(view, sites, input_ids, slice(-1, None))
        gap = _gap(found.reads, last, slice(-1, None))
        if gap <= limit:
            return found, gap
        problems.append(f"{name}: the last token reads {gap:.2g} of its size off what it reads in an ordinary pass")
    raise ArgumentError(
        f"route: got {route!r}, which {type(view.model).__name__} does not allow ({'; '.join(problems)}); "
        f"pass route='auto', or 'one by one', which every model allows"
    )


def _prove(view: ModelView, sites: Sequence[SiteView], name: str, limit: float) -> None:
    """Try a way on a few tokens against one pass for each prefix.

    Raises:
        NoRouteError: it gives something else.
    """
    few = probe_tokens(view.model, PROBE)
    gap = _gap(ROUTES[name](view, sites, few).reads, ROUTES["one by one"](view, sites, few).reads, slice(None))
    if gap > limit:
        raise NoRouteError(
            f"of {PROBE} tokens it reads {gap:.2g} of their size off what one pass for each prefix reads"
        )


def _gap(some: Reads, others: Reads, rows: slice) -> float:
    """Largest difference of what two ways read, relative to its size."""
    gaps = [0.0]
    for mine, theirs in zip(some, others, strict=True):
        for a, b in ((mine.z, theirs.z), (mine.bypass, theirs.bypass)):
            if a is not None and b is not None and b.numel():
                gaps.append(float((wide(a[rows]) - wide(b)).abs().max() / wide(b).abs().max().clamp_min(1e-30)))
    return max(gaps)


def _check_present(sites: Sequence[SiteView]) -> None:
    for site in sites:
        for weights in site.readers():
            if weights.parameter.device.type == "meta":
                raise ArgumentError(
                    f"model: {site.block.path}.{weights.path} is offloaded, needs weights that can be read; load the model "
                    f"with a device_map of devices alone, without disk or offloading"
                )


def _one_of(name: str, got: str, allowed: Sequence[str]) -> None:
    if got not in allowed:
        raise ArgumentError(f"{name}: got {got!r}, needs one of {', '.join(map(repr, allowed))}")
