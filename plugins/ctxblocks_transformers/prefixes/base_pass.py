"""The reads of every block without context: one forward pass over sequences of one token."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ctxblocks_transformers.wiring.calling import inputs_of
from ctxblocks_transformers.wiring.reads import BlockReads
from ctxblocks_transformers.wiring.sites import Hooks, Site


def base_reads(
    model: Any,
    sites: Sequence[Site],
    input_ids: Tensor,  # (n + 1,)
    full: Sequence[BlockReads],  # of the same tokens in the full run
    report: Callable[[int, BlockReads], None],
    kept: Tensor,  # (k,), the leading tokens that stay
    parts: Sequence[tuple[int, int]],
) -> None:
    """Call `report` with the index of each block and its reads of every token after the kept ones, at its own position.

    Each layer's input is replaced by that of the full run, so that its reads do not depend on the blocks before it. A
    network whose output would then not be used is skipped. Tokens in each of the parts, ranges of lengths from `first` to
    `last`, are computed apart.
    """
    if len(parts) == 1:
        _pass(model, sites, input_ids, full, report, kept, slice(None))
        return
    found: list[list[BlockReads]] = [[] for _ in sites]

    def collect(number: int, alone: BlockReads) -> None:
        found[number].append(dataclasses.replace(alone))

    for first, last in parts:
        _pass(model, sites, input_ids, full, collect, kept, slice(first - 1, last))
    for number, pieces in enumerate(found):
        if pieces:
            report(number, joined_reads(pieces))


def _pass(
    model: Any,
    sites: Sequence[Site],
    input_ids: Tensor,  # (n + 1,)
    full: Sequence[BlockReads],
    report: Callable[[int, BlockReads], None],
    kept: Tensor,  # (k,)
    part: slice,
) -> None:
    """The reads of some tokens, each in one row of a batch after the kept ones."""
    count, queries = len(kept), input_ids[part].unsqueeze(-1)  # (rows, 1)
    own = torch.arange(len(input_ids))[part].clamp_min(count).unsqueeze(-1)  # (rows, 1)
    ids = torch.cat((kept.expand(len(queries), -1), queries), dim=1)  # (rows, k + 1)
    positions = torch.cat((torch.arange(count).expand(len(queries), -1), own), dim=1)
    first = _kept_inputs(model, sites, ids[-1:], positions[-1:]) if count else [None] * len(sites)
    where = torch.arange(len(queries)) * (count + 1) + count
    with Hooks() as hooks:
        for number, (site, reads) in enumerate(zip(sites, full, strict=True)):
            layer, network, alone = site.block.layer, site.block.spec.network, BlockReads()
            hooks.before(layer, functools.partial(_enter, reads, first[number], part))
            if site.name:
                site.watch(hooks, alone, where if count else slice(None))
                hooks.result(layer, functools.partial(_leave, functools.partial(report, number), alone))
            if network and reads.simple:
                hooks.skip(site.block.modules[network])
        body(model)(**inputs_of(model, ids, positions))


def _kept_inputs(
    model: Any, sites: Sequence[Site], ids: Tensor, positions: Tensor
) -> list[Tensor | None]:  # (k, d) each
    """Every layer's inputs at the kept tokens, which no later token changes; the last position sets the length."""
    every = [BlockReads() for _ in sites]
    with Hooks() as hooks:
        for site, reads in zip(sites, every, strict=True):
            site.watch(hooks, reads)
        body(model)(**inputs_of(model, ids, positions))
    return [None if each.entered is None else each.entered[:-1].clone() for each in every]


def body(model: Any) -> Any:
    """The model without its head, whose outputs are not needed."""
    return getattr(model, "base_model", model)


def _enter(full: BlockReads, kept: Tensor | None, part: slice, x: Tensor) -> Tensor:
    """The layer's input in the full run; where all tokens are computed at once, it is used once and released."""
    assert full.entered is not None
    entered = full.entered[part].to(x).unsqueeze(1)  # (rows, 1, d)
    if part == slice(None):
        full.entered = None
    if kept is not None:
        entered = torch.cat((kept.to(x).expand(len(entered), -1, -1), entered), dim=1)
    return entered.reshape(x.shape)


def _leave(report: Callable[[BlockReads], None], alone: BlockReads, _: Any) -> None:
    """Report the reads of a layer that has been left, and release them."""
    report(alone)
    alone.entered = alone.z = alone.bypass = None


def joined_reads(parts: Sequence[BlockReads]) -> BlockReads:
    """The reads of one block, concatenated."""

    def joined(some: list[Tensor | None]) -> Tensor | None:
        tensors = [part for part in some if part is not None]
        return torch.cat(tensors) if tensors else None

    return BlockReads(
        joined([part.entered for part in parts]),
        joined([part.z for part in parts]),
        joined([part.bypass for part in parts]),
        parts[0].simple,
    )
