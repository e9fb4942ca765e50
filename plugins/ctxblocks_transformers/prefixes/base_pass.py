"""What every block reads of a token that stands alone: one forward pass over sequences of one token."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ctxblocks_transformers.updates.model_update import inputs_of
from ctxblocks_transformers.wiring.hooks import Hooks
from ctxblocks_transformers.wiring.reads import BlockReads, SiteView
from ctxblocks_transformers.wiring.view import ModelView


def base_reads(
    view: ModelView,
    sites: Sequence[SiteView],
    input_ids: Tensor,  # (n + 1,)
    full: Sequence[BlockReads],  # of the same tokens in the full run
    found: Callable[[int, BlockReads], None],
) -> None:
    """Call `found` with the number of each block and its reads of every token alone, at its own position.

    Each block is given what the tokens were in the full run, so that its reads do not hang on the blocks before it, and
    networks whose outputs only a next block would see are left out.
    """
    positions = torch.arange(len(input_ids)).unsqueeze(-1)  # (n + 1, 1)
    inputs = inputs_of(view.model, input_ids.unsqueeze(-1), positions)
    with Hooks() as hooks:
        for number, (site, reads) in enumerate(zip(sites, full, strict=True)):
            _install(hooks, site, reads, functools.partial(found, number))
        body(view.model)(**inputs)


def body(model: Any) -> Any:
    """The model without its head, whose outputs nobody asks for."""
    return getattr(model, "base_model", model)


def _install(hooks: Hooks, site: SiteView, full: BlockReads, found: Callable[[BlockReads], None]) -> None:
    layer, network, alone = site.block.layer, site.block.spec.network, BlockReads()

    def enter(x: Tensor) -> Tensor:
        entered, full.entered = full.entered, None  # used once, and let go of
        assert entered is not None
        return entered.to(x).reshape(x.shape)

    def leave(_: Any) -> None:
        found(alone)
        alone.clear()

    hooks.before(layer, enter)
    if site.site:
        site.watch(hooks, alone)
        hooks.result(layer, leave)
    if network and full.simple:
        hooks.enter_context(_left_out(site.block.module(network)))


@contextlib.contextmanager
def _left_out(module: nn.Module) -> Iterator[None]:
    """A network that gives back what it is given."""
    own = vars(module).get("forward")  # that of a model spread over devices is wrapped
    module.forward = lambda x, *args, **kwargs: x
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own
