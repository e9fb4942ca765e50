"""The reads of every block without context: one forward pass over sequences of one token."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

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
            _install(hooks, site, reads, functools.partial(report, number))
        body(model)(**inputs)


def body(model: Any) -> Any:
    """The model without its head, whose outputs are not needed."""
    return getattr(model, "base_model", model)


def _install(hooks: Hooks, site: Site, full: BlockReads, report: Callable[[BlockReads], None]) -> None:
    layer, network, alone = site.block.layer, site.block.spec.network, BlockReads()

    def enter(x: Tensor) -> Tensor:
        entered, full.entered = full.entered, None  # used once, and released
        assert entered is not None
        return entered.to(x).reshape(x.shape)

    def leave(_: Any) -> None:
        report(alone)
        alone.clear()

    hooks.before(layer, enter)
    if site.name:
        site.watch(hooks, alone)
        hooks.result(layer, leave)
    if network and full.simple:
        hooks.enter_context(_skipped(site.block.modules[network]))


@contextlib.contextmanager
def _skipped(module: nn.Module) -> Iterator[None]:
    """A network whose output is its input."""
    own = vars(module).get("forward")  # set on the instance where a model is spread over devices
    module.forward = lambda x, *args, **kwargs: x
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own
