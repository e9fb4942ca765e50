"""The choice of a route: the first one that the model supports and that agrees with an ordinary pass."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ctxblocks import ArgumentError
from ctxblocks.numerics import widen
from ctxblocks_transformers.prefixes.base_pass import joined_reads
from ctxblocks_transformers.prefixes.routes import ROUTES, NoRouteError, Prefixes, Reads, ordinary
from ctxblocks_transformers.wiring.difference import round_off
from ctxblocks_transformers.wiring.guess import probe_tokens
from ctxblocks_transformers.wiring.rotations import regimes
from ctxblocks_transformers.wiring.sites import Site

FEW = 6
"""Number of tokens on which a route is tried."""


DRAWN = 8
"""A drawn prefix is compared too: it has at most this part of the prompt, so that it costs as small a part of a pass."""


def full_reads(model: Any, sites: Sequence[Site], input_ids: Tensor, route: str) -> tuple[Reads, str, float]:
    """The reads after all prefixes by the first route that the model supports, the route in words, and its deviation.

    Prefixes whose lengths give other positions (LongRoPE, dynamic NTK) are computed apart. The deviation is the largest
    difference of the reads of the last prefix of each part, and of one drawn prefix, from those of the model run on this
    prefix alone, relative to their size.

    Raises:
        ArgumentError: the model supports none of the routes asked for.
    """
    parts = regimes(model, 1, input_ids.shape[1])
    limit, problems = round_off(model.dtype), []
    for name in ROUTES if route == "auto" else (route,):
        try:
            if name in ("states", "batches"):
                _prove(model, sites, name, limit)
            found = [_part(model, sites, input_ids, name, first - 1, last) for first, last in parts]
        except NoRouteError as error:
            problems.append(f"{name}: {error}")
            continue
        reads = [joined_reads(some) for some in zip(*(prefixes.reads for prefixes, _ in found), strict=True)]
        gap = max(max(deviation for _, deviation in found), _drawn(model, sites, input_ids, reads))
        if gap <= limit:
            how = dict.fromkeys(prefixes.how for prefixes, _ in found)
            return reads, "; ".join(how) + (f", {len(parts)} ranges of lengths apart" if len(parts) > 1 else ""), gap
        problems.append(
            f"{name}: the reads of a prefix differ by {gap:.2g} of their size from those of an ordinary pass"
        )
    raise ArgumentError(
        f"route: got {route!r}, which {type(model).__name__} does not allow ({'; '.join(problems)}); "
        f"pass route='auto', or 'one by one', which every model allows"
    )


def _part(
    model: Any, sites: Sequence[Site], input_ids: Tensor, name: str, first: int, last: int
) -> tuple[Prefixes, float]:
    """The reads after the prefixes of `first … last - 1` tokens, and the deviation of the last of them.

    Raises:
        NoRouteError: the model does not support the route.
    """
    ids = _prefix(input_ids, last - 1)
    prefixes = ROUTES["one by one" if last - first == 1 < last else name](model, sites, ids, first)
    alone = prefixes.last or ordinary(model, sites, ids, slice(-1, None))
    return prefixes, _gap(prefixes.reads, alone, slice(-1, None))


def _prefix(input_ids: Tensor, count: int) -> Tensor:  # (1, count + 1)
    """A prefix of the prompt, and its last token as the query."""
    return torch.cat((input_ids[:, :count], input_ids[:, -1:]), dim=1)


def _drawn(model: Any, sites: Sequence[Site], input_ids: Tensor, reads: Reads) -> float:
    """The deviation of a drawn short prefix from the model run on it alone."""
    most = max(1, input_ids.shape[1] // DRAWN)
    count = int(torch.randint(1, most + 1, (), generator=torch.Generator().manual_seed(most)))
    alone = ordinary(model, sites, _prefix(input_ids, count), slice(-1, None))
    return _gap(reads, alone, slice(count, count + 1))


def _prove(model: Any, sites: Sequence[Site], name: str, limit: float) -> None:
    """Compare a route on a few tokens with one pass for each prefix.

    Raises:
        NoRouteError: the reads differ.
    """
    few = probe_tokens(model, FEW)
    gap = _gap(ROUTES[name](model, sites, few, 0).reads, ROUTES["one by one"](model, sites, few, 0).reads, slice(None))
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
