"""The choice of a route: the first one that the model supports and that agrees with an ordinary pass."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ctxblocks import ArgumentError
from ctxblocks.numerics import widen
from ctxblocks_transformers.prefixes.routes import ROUTES, NoRouteError, Reads, ordinary
from ctxblocks_transformers.wiring.difference import round_off
from ctxblocks_transformers.wiring.guess import probe_tokens
from ctxblocks_transformers.wiring.sites import Site

FEW = 6
"""Number of tokens on which a route is tried."""


def full_reads(model: Any, sites: Sequence[Site], input_ids: Tensor, route: str) -> tuple[Reads, str, float]:
    """The reads after all prefixes by the first route that the model supports, the route in words, and its deviation.

    The deviation is the largest difference of the last token's reads from those of an ordinary pass, relative to their size.

    Raises:
        ArgumentError: the model supports none of the routes asked for.
    """
    limit, problems = round_off(model.dtype), []
    for name in ROUTES if route == "auto" else (route,):
        try:
            if name in ("states", "batches"):
                _prove(model, sites, name, limit)
            prefixes = ROUTES[name](model, sites, input_ids)
        except NoRouteError as error:
            problems.append(f"{name}: {error}")
            continue
        last = prefixes.last or ordinary(model, sites, input_ids, slice(-1, None))
        gap = _gap(prefixes.reads, last, slice(-1, None))
        if gap <= limit:
            return prefixes.reads, prefixes.how, gap
        problems.append(
            f"{name}: the last token's reads differ by {gap:.2g} of their size from those of an ordinary pass"
        )
    raise ArgumentError(
        f"route: got {route!r}, which {type(model).__name__} does not allow ({'; '.join(problems)}); "
        f"pass route='auto', or 'one by one', which every model allows"
    )


def _prove(model: Any, sites: Sequence[Site], name: str, limit: float) -> None:
    """Compare a route on a few tokens with one pass for each prefix.

    Raises:
        NoRouteError: the reads differ.
    """
    few = probe_tokens(model, FEW)
    gap = _gap(ROUTES[name](model, sites, few).reads, ROUTES["one by one"](model, sites, few).reads, slice(None))
    if gap > limit:
        raise NoRouteError(
            f"for {FEW} tokens its reads differ by {gap:.2g} of their size from those of one pass for each prefix"
        )


def _gap(some: Reads, others: Reads, rows: slice) -> float:
    """Largest difference between the reads of two routes, relative to their size."""
    gaps = [0.0]
    for mine, theirs in zip(some, others, strict=True):
        for a, b in ((mine.z, theirs.z), (mine.bypass, theirs.bypass)):
            if a is not None and b is not None and b.numel():
                gaps.append(float((widen(a[rows]) - widen(b)).abs().max() / widen(b).abs().max().clamp_min(1e-30)))
    return max(gaps)
