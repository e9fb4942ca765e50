"""The reads of every block without context: one forward pass over sequences of one token."""

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
) -> None:
    """Call `report` with the index of each block and its reads of every token alone, at the token's own position.

    Each layer's input is replaced by that of the full run, so that its reads do not depend on the blocks before it. A
    network whose output would then not be used is skipped.
    """
    positions = torch.arange(len(input_ids)).unsqueeze(-1)  # (n + 1, 1)
    inputs = inputs_of(model, input_ids.unsqueeze(-1), positions)
    with Hooks() as hooks:
        for number, (site, reads) in enumerate(zip(sites, full, strict=True)):
            layer, network, alone = site.block.layer, site.block.spec.network, BlockReads()
            hooks.before(layer, functools.partial(_enter, reads))
            if site.name:
                site.watch(hooks, alone)
                hooks.result(layer, functools.partial(_leave, functools.partial(report, number), alone))
            if network and reads.simple:
                hooks.skip(site.block.modules[network])
        body(model)(**inputs)


def body(model: Any) -> Any:
    """The model without its head, whose outputs are not needed."""
    return getattr(model, "base_model", model)


def _enter(full: BlockReads, x: Tensor) -> Tensor:
    """The layer's input in the full run, which is used once and released."""
    entered, full.entered = full.entered, None
    assert entered is not None
    return entered.to(x).reshape(x.shape)


def _leave(report: Callable[[BlockReads], None], alone: BlockReads, _: Any) -> None:
    """Report the reads of a layer that has been left, and release them."""
    report(alone)
    alone.entered = alone.z = alone.bypass = None
