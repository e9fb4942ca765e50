"""Four routes to the reads of every block after every prefix of a prompt, from the prefix of `first` tokens on."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ctxblocks import ArgumentError
from ctxblocks_transformers.prefixes.base_pass import body, joined_reads
from ctxblocks_transformers.prefixes.copies import MASK, SELF_SLOT, CopiesRun, NoCopiesError, copies
from ctxblocks_transformers.wiring.calling import accepted, inputs_of, states, states_kept
from ctxblocks_transformers.wiring.reads import BlockReads
from ctxblocks_transformers.wiring.sites import Hooks, Site

Reads = list[BlockReads]


@dataclasses.dataclass(frozen=True)
class Prefixes:
    """The reads of every block after every prefix.

    Attributes:
        reads: the reads of the query after `0 … n` tokens, for every block.
        how: the route in words.
        last: the reads of the query after all tokens in an ordinary pass; None where there was none.
    """

    reads: Reads
    how: str
    last: Reads | None = None


TOKENS = 8192
"""Largest number of tokens in a batch of prefixes."""


class NoRouteError(Exception):
    """The model does not support a route."""


def by_copies(model: Any, sites: Sequence[Site], input_ids: Tensor, first: int = 0) -> Prefixes:
    """One forward pass of two rows: the prompt, and copies of its last token. See `copies`.

    Raises:
        NoRouteError: a block reads other tokens by something other than exchangeable attention.
    """
    length = input_ids.shape[1]
    both = torch.cat((input_ids, input_ids[:, -1:].expand(1, length)))  # (2, n + 1)
    try:
        with copies(model) as run:
            reads = _watched(sites, slice(length - 1, None), lambda: _run(model, both))
    except NoCopiesError as error:
        raise NoRouteError(str(error)) from error
    parts = [
        (each.at(slice(1 + first, None)), each.at(slice(0, 1))) for each in reads
    ]  # the copies, and the prompt's last token
    return Prefixes([copied for copied, _ in parts], _how(run, sites), [last for _, last in parts])


def by_states(model: Any, sites: Sequence[Site], input_ids: Tensor, first: int = 0) -> Prefixes:
    """One token at a time with the model's own cache: a step of the prompt and a step of the query from the same state.

    Raises:
        NoRouteError: the model keeps no state that can be copied from one sequence to another.
    """
    from transformers import DynamicCache

    if first:
        raise NoRouteError("the states of shorter prefixes have other positions, which depend on the length")
    model = body(model)
    names = accepted(model)
    name = next((name for name in ("past_key_values", "cache_params") if name in names), None)
    if name is None or "use_cache" not in names:
        raise NoRouteError("the model keeps no state")
    steps: list[Reads] = []
    cache = DynamicCache(config=model.config)
    with states_kept(model):
        for i, token in enumerate(input_ids[0]):
            pair = torch.stack((token, input_ids[0, -1])).unsqueeze(-1)  # (2, 1)
            inputs = inputs_of(model, pair, torch.tensor([i])) | {name: cache, "use_cache": True}
            inputs.pop(
                "attention_mask", None
            )  # nothing is padded, and some models take it as the mask of the new token alone
            try:
                steps.append(_watched(sites, slice(1, None), functools.partial(model, **inputs)))
                _copy_states(model, cache, pair.device)
            except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
                raise NoRouteError(f"the model's own state fails at token {i}: {error}") from error
    return Prefixes([joined_reads(reads) for reads in zip(*steps, strict=True)], "states")


def by_batches(
    model: Any, sites: Sequence[Site], input_ids: Tensor, first: int = 0, *, tokens: int = TOKENS
) -> Prefixes:
    """Each prefix as one row of a batch, right-padded with tokens that a causal model ignores."""
    ranges = _batches(first, input_ids.shape[1], tokens)
    batches = [_batch(model, sites, input_ids, start, end) for start, end in ranges]
    return Prefixes(
        [joined_reads(reads) for reads in zip(*batches, strict=True)], "batches" if tokens > 1 else "one by one"
    )


def by_one(model: Any, sites: Sequence[Site], input_ids: Tensor, first: int = 0) -> Prefixes:
    """One forward pass for each prefix: the definition, and the only route for models that are not causal."""
    return by_batches(model, sites, input_ids, first, tokens=1)


Route = Callable[[Any, Sequence[Site], Tensor, int], Prefixes]
ROUTES: dict[str, Route] = {"copies": by_copies, "states": by_states, "batches": by_batches, "one by one": by_one}
"""The routes, the fastest first."""


def ordinary(model: Any, sites: Sequence[Site], input_ids: Tensor, tokens: slice) -> Reads:
    """The reads of some tokens of the prompt in one ordinary pass."""
    return _watched(sites, tokens, lambda: _run(model, input_ids))


def _batches(first: int, length: int, tokens: int) -> Iterator[tuple[int, int]]:
    """Ranges of prefixes that fit into one batch; the longest of each range fills a row."""
    while first < length:
        rows = next(k for k in itertools.count(1) if first + k >= length or (k + 1) * (first + k + 1) > tokens)
        yield first, first + rows
        first += rows


def _batch(model: Any, sites: Sequence[Site], input_ids: Tensor, first: int, last: int) -> Reads:
    rows = input_ids[:, -1:].repeat(last - first, last)  # (prefixes, longest + 1), the query everywhere
    for row, prefix in enumerate(range(first, last)):
        rows[row, :prefix] = input_ids[0, :prefix]
    index = torch.arange(last - first) * last + torch.arange(first, last)  # where each prefix ends
    return _watched(sites, index.to(input_ids.device), lambda: _run(model, rows))


def _run(model: Any, input_ids: Tensor) -> None:
    body(model)(**inputs_of(model, input_ids, torch.arange(input_ids.shape[1])))


def _watched(sites: Sequence[Site], tokens: slice | Tensor, run: Callable[[], Any]) -> Reads:
    """The blocks' reads of some tokens during a run."""
    every = [BlockReads() for _ in sites]
    with Hooks() as hooks:
        hooks.before(sites[0].block.layer, _check_streams)
        for site, reads in zip(sites, every, strict=True):
            site.watch(hooks, reads, tokens)
        run()
    return every


def _check_streams(x: Tensor) -> None:
    if x.dim() != 3:
        raise ArgumentError(
            f"model: a layer is given shape {tuple(x.shape)}, needs (batch, tokens, d) for a trace; for a model with several "
            f"residual streams call transfer_model for each prefix"
        )


def _how(run: CopiesRun, sites: Sequence[Site]) -> str:
    """How the attention layers computed the copies.

    Raises:
        NoRouteError: a block's mixer did not call the exchanged attention function.
    """
    kinds = []
    for site in (site for site in sites if site.name):
        mixer = site.block.modules[site.block.spec.mixer]
        done = {run.attended[id(module)] for module in mixer.modules() if id(module) in run.attended}
        if not done:
            raise NoRouteError(
                f"layer {site.block.index} mixes tokens by {type(mixer).__name__}, which cannot be computed for copies"
            )
        kinds.append(MASK if MASK in done else SELF_SLOT)
    if len(set(kinds)) < 2:
        return f"copies, by {kinds[0] if kinds else 'no attention'}"
    return f"copies, by {SELF_SLOT} in {kinds.count(SELF_SLOT)} blocks and by {MASK} in {kinds.count(MASK)}"


def _copy_states(model: nn.Module, cache: Any, device: torch.device) -> None:
    """Copy the first sequence's state to the second."""
    first = torch.zeros(2, dtype=torch.int64, device=device)
    cache.reorder_cache(first)
    for module, name, value in states(model):
        if value is not None and len(value) == 2:
            setattr(module, name, value[first.to(value.device)])
