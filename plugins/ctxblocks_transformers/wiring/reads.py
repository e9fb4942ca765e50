"""What the blocks of a model read: one ordinary forward pass, watched."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ctxblocks import ArgumentError
from ctxblocks_transformers.wiring.hooks import Change, Hooks, rows
from ctxblocks_transformers.wiring.view import BlockView, ModelView, Weights

NETWORK, PROJECTION = "network", "out-proj"
EVERY = slice(None)


@dataclasses.dataclass
class BlockReads:
    """What one block read of every token.

    Attributes:
        entered: `h (tokens, d)`, what the layer was given; of several streams all, one after the other.
        z: `(tokens, d)`, what the site's dense layers read; None where the block has no such site.
        bypass: `r (tokens, d)`; of a parallel block the mixer's output; None at the second site.
        simple: whether the network puts out one tensor, as wide as the layer.
    """

    entered: Tensor | None = None
    z: Tensor | None = None
    bypass: Tensor | None = None
    simple: bool = False

    def clear(self) -> None:
        """Let go of the tensors."""
        self.entered = self.z = self.bypass = None


@dataclasses.dataclass(frozen=True)
class SiteView:
    """A block, and where in it the update goes.

    Attributes:
        block: the block.
        site: `"network"`, `"out-proj"`, or "" for a block that reads no other token.
    """

    block: BlockView
    site: str

    def watch(self, hooks: Hooks, reads: BlockReads, tokens: slice | Tensor = EVERY) -> None:
        """Record what the block reads of some tokens whenever the model is called."""

        def entered(x: Tensor) -> None:
            reads.entered = _picked(by_token(x), tokens)

        def read(x: Tensor) -> None:
            reads.z = _picked(x, tokens)

        def simple(output: Any) -> None:
            width = None if reads.entered is None else reads.entered.shape[-1]
            reads.simple = isinstance(output, Tensor) and output.shape[-1] == width

        hooks.before(self.block.layer, entered)
        if self.block.spec.network:
            hooks.result(self.block.module(self.block.spec.network), simple)
        if self.site == PROJECTION:
            hooks.before(self.block.module(self.block.spec.projection), read)
        if self.site == NETWORK:
            self.watch_bypass(hooks, reads, tokens)
            if self.block.spec.wiring != "parallel":
                self.at_entry(hooks, read)

    def at_entry(self, hooks: Hooks, change: Change) -> None:
        """Call `change` with what the site's dense layers read; what it returns takes its place."""
        spec = self.block.spec
        if self.site == NETWORK and spec.source:
            hooks.after(self.block.module(spec.source), change)
        else:
            hooks.before(self.block.module(spec.projection if self.site == PROJECTION else spec.network), change)

    def readers(self) -> list[Weights]:
        """The weights that the update changes."""
        if self.site == PROJECTION:
            return [self.block.weights(self.block.spec.projection)]
        return self.block.readers() if self.site == NETWORK else []

    def watch_bypass(self, hooks: Hooks, reads: BlockReads, tokens: slice | Tensor = EVERY) -> None:
        """Record what bypasses the network, before the network is called."""
        spec = self.block.spec

        def bypass(x: Tensor) -> None:
            found = _picked(x, tokens)
            reads.bypass = found * self.block.gain if spec.gain else found

        if spec.wiring == "parallel":
            scale = self.block.scale
            hooks.after(self.block.module(spec.mixer), lambda x: bypass(x * scale))
        else:
            hooks.before(self.block.module(spec.bypass or spec.network), bypass)


def _picked(x: Tensor, tokens: slice | Tensor) -> Tensor:
    """A copy of some rows."""
    found = rows(x)
    return found[tokens].clone() if isinstance(tokens, slice) else found[tokens.to(x.device)]


def sites_of(view: ModelView, site: str) -> tuple[SiteView, ...]:
    """The site of every block: the one asked for, and the second one in blocks without a network.

    Raises:
        ArgumentError: a block's mixer has no output projection that an update could be put on.
    """
    for block in view.blocks:
        if _site(block, site) == PROJECTION and not block.spec.projection:
            raise ArgumentError(
                f"site: got 'out-proj', needs 'network' for {view.model.config.model_type!r}: the mixer of layer "
                f"{block.index}, {block.spec.mixer!r}, has no one output projection that reads a token at a time"
            )
    return tuple(SiteView(block, _site(block, site)) for block in view.blocks)


def observe(view: ModelView, sites: tuple[SiteView, ...], inputs: Mapping[str, Any]) -> tuple[list[BlockReads], Tensor]:
    """One forward pass: what every block read, and the model's output `(tokens, vocabulary or d)`."""
    found = [BlockReads() for _ in sites]
    with Hooks() as hooks:
        for site, reads in zip(sites, found, strict=True):
            site.watch(hooks, reads)
        output = view.model(**inputs)
    return found, outputs_of(output)


def by_token(x: Tensor) -> Tensor:  # (1, tokens, …, d) or (…, 1, tokens, d) -> (tokens, …)
    """One row for each token: of a layer with several streams all of them, wherever their axis is."""
    if x.dim() < 4 or 1 not in x.shape[:-2]:
        return rows(x)
    return x.movedim(x.shape.index(1) + 1, 0).flatten(1)


def outputs_of(result: Any) -> Tensor:  # (tokens, …)
    """Logits, or the last hidden states of a model without a head, one row for each token."""
    logits = getattr(result, "logits", None)
    return rows(result[0] if logits is None else logits)


def _site(block: BlockView, asked: str) -> str:
    if not block.spec.mixer:
        return ""
    return PROJECTION if asked == PROJECTION or block.spec.wiring == "mixer-only" else NETWORK
