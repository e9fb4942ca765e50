"""The ways to what every block reads of a query behind every prefix of its context."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ctxblocks import ArgumentError
from ctxblocks_transformers.prefixes.base_pass import body
from ctxblocks_transformers.prefixes.copies import MASK, SELF_SLOT, CopiesRun, NoCopiesError, copies
from ctxblocks_transformers.updates.model_update import inputs_of
from ctxblocks_transformers.updates.states import states, states_kept
from ctxblocks_transformers.wiring.checks import accepted
from ctxblocks_transformers.wiring.hooks import Hooks
from ctxblocks_transformers.wiring.reads import BlockReads, SiteView
from ctxblocks_transformers.wiring.view import ModelView

Reads = list[BlockReads]


@dataclasses.dataclass(frozen=True)
class Found:
    """What a way led to.

    Attributes:
        reads: of every block, of the query behind `0 … n` tokens.
        how: the way in words.
        last: of every block, of the query behind all tokens in an ordinary pass; None where there was none.
    """

    reads: Reads
    how: str
    last: Reads | None = None


TOKENS = 8192
"""Tokens of a batch of prefixes."""


class NoRouteError(Exception):
    """The model does not allow this way."""


def by_copies(view: ModelView, sites: Sequence[SiteView], input_ids: Tensor) -> Found:
    """One forward pass of two rows: the prompt, and copies of its last token. See `copies`.

    Raises:
        NoRouteError: a block reads other tokens otherwise than by attention that can be exchanged.
    """
    length = input_ids.shape[1]
    both = torch.cat((input_ids, input_ids[:, -1:].expand(1, length)))  # (2, n + 1)
    try:
        with copies(view.model) as run:
            found = _watched(view, sites, slice(length - 1, None), lambda: _run(view, both))
    except NoCopiesError as error:
        raise NoRouteError(str(error)) from error
    how, one = _how(run, sites), slice(0, 1)
    return Found([_some(reads, slice(1, None)) for reads in found], how, [_some(reads, one) for reads in found])


def by_states(view: ModelView, sites: Sequence[SiteView], input_ids: Tensor) -> Found:
    """Token by token with the model's own cache: a step of the prompt and one of the query from the same state.

    Raises:
        NoRouteError: the model keeps no state that can be copied from one sequence to another.
    """
    from transformers import DynamicCache

    model, names = body(view.model), accepted(body(view.model))
    name = next((name for name in ("past_key_values", "cache_params") if name in names), None)
    if name is None or "use_cache" not in names:
        raise NoRouteError("the model keeps no state")
    found: list[Reads] = []
    cache = DynamicCache(config=model.config)
    with states_kept(model):
        for i, token in enumerate(input_ids[0]):
            pair = torch.stack((token, input_ids[0, -1])).unsqueeze(-1)  # (2, 1)
            inputs = inputs_of(model, pair, torch.tensor([i])) | {name: cache, "use_cache": True}
            inputs.pop("attention_mask", None)  # nothing is padded, and some models take it for that of the new token
            try:
                found.append(_watched(view, sites, slice(1, None), functools.partial(model, **inputs)))
                _copy_states(model, cache, pair.device)
            except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
                raise NoRouteError(f"the model's own state fails at token {i}: {error}") from error
    return Found([_joined(reads) for reads in zip(*found, strict=True)], "states")


def by_batches(view: ModelView, sites: Sequence[SiteView], input_ids: Tensor, tokens: int = TOKENS) -> Found:
    """Every prefix as a sequence of its own, several in a batch, behind them what a causal model does not look at."""
    found = [_batch(view, sites, input_ids, first, last) for first, last in _batches(input_ids.shape[1], tokens)]
    return Found([_joined(reads) for reads in zip(*found, strict=True)], "batches" if tokens > 1 else "one by one")


def by_one(view: ModelView, sites: Sequence[SiteView], input_ids: Tensor) -> Found:
    """One forward pass for each prefix: the definition, and the only way with models that look ahead."""
    return by_batches(view, sites, input_ids, tokens=1)


Route = Callable[[ModelView, Sequence[SiteView], Tensor], Found]
ROUTES: dict[str, Route] = {"copies": by_copies, "states": by_states, "batches": by_batches, "one by one": by_one}
"""The fastest first."""


def ordinary(view: ModelView, sites: Sequence[SiteView], input_ids: Tensor, tokens: slice) -> Reads:
    """What the blocks read of some tokens of the prompt in one pass."""
    return _watched(view, sites, tokens, lambda: _run(view, input_ids))


def _batches(length: int, tokens: int) -> Iterator[tuple[int, int]]:
    """Ranges of prefixes, the longest in each filling a row of the batch."""
    first = 0
    while first < length:
        rows = next(k for k in itertools.count(1) if first + k >= length or (k + 1) * (first + k + 1) > tokens)
        yield first, first + rows
        first += rows


def _batch(view: ModelView, sites: Sequence[SiteView], input_ids: Tensor, first: int, last: int) -> Reads:
    rows = input_ids[:, -1:].repeat(last - first, last)  # (prefixes, longest + 1), the query everywhere
    for row, prefix in enumerate(range(first, last)):
        rows[row, :prefix] = input_ids[0, :prefix]
    index = torch.arange(last - first) * last + torch.arange(first, last)  # where each prefix ends
    return _watched(view, sites, index.to(input_ids.device), lambda: _run(view, rows))


def _run(view: ModelView, input_ids: Tensor) -> None:
    body(view.model)(**inputs_of(view.model, input_ids, torch.arange(input_ids.shape[1])))


def _watched(view: ModelView, sites: Sequence[SiteView], tokens: slice | Tensor, run: Callable[[], Any]) -> Reads:
    """What the blocks read of some tokens while something runs."""
    found = [BlockReads() for _ in sites]
    with Hooks() as hooks:
        for site, reads in zip(sites, found, strict=True):
            hooks.before(site.block.layer, _check_streams)
            site.watch(hooks, reads, tokens)
        run()
    return found


def _check_streams(x: Tensor) -> None:
    if x.dim() != 3:
        raise ArgumentError(
            f"model: a layer is given shape {tuple(x.shape)}, needs (batch, tokens, d) for a trace; of a model with several "
            f"streams take transfer_model, prefix by prefix"
        )


def _some(reads: BlockReads, rows: slice) -> BlockReads:
    parts = (reads.entered, reads.z, reads.bypass)
    entered, z, bypass = (None if part is None else part[rows] for part in parts)
    return BlockReads(entered, z, bypass, reads.simple)


def _joined(parts: Sequence[BlockReads]) -> BlockReads:
    """The reads of one block, one part after another."""

    def joined(some: list[Tensor | None]) -> Tensor | None:
        found = [part for part in some if part is not None]
        return torch.cat(found) if found else None

    return BlockReads(
        joined([part.entered for part in parts]),
        joined([part.z for part in parts]),
        joined([part.bypass for part in parts]),
        parts[0].simple,
    )


def _how(run: CopiesRun, sites: Sequence[SiteView]) -> str:
    """What the attention layers did.

    Raises:
        NoRouteError: a block's mixer attended without being asked.
    """
    kinds = []
    for site in (site for site in sites if site.site):
        mixer = site.block.module(site.block.spec.mixer)
        done = {run.attended[id(module)] for module in mixer.modules() if id(module) in run.attended}
        if not done:
            raise NoRouteError(
                f"layer {site.block.index} mixes tokens by {type(mixer).__name__}, whose reads have no copies"
            )
        kinds.append(MASK if MASK in done else SELF_SLOT)
    if len(set(kinds)) < 2:
        return f"copies, by {kinds[0] if kinds else 'no attention'}"
    return f"copies, by {SELF_SLOT} in {kinds.count(SELF_SLOT)} blocks and by {MASK} in {kinds.count(MASK)}"


def _copy_states(model: nn.Module, cache: Any, device: torch.device) -> None:
    """The first sequence's state in place of the second's."""
    first = torch.zeros(2, dtype=torch.int64, device=device)
    cache.reorder_cache(first)
    for module, name, value in states(model):
        if value is not None and len(value) == 2:
            setattr(module, name, value[first.to(value.device)])
