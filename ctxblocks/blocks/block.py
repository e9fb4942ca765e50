"""Contextual blocks: a contextual layer, the network after it, and the residual stream around the network.

A block consists of three maps: `contextualize` computes the network's input `z` and the residual stream `r`, the network
maps `z` to its output, and `join` combines that output with `r`. The theorems (`transfer`, `dynamics`, …) are written
once, in terms of these three maps.
"""

import copy
from typing import Self

import torch
from torch import Tensor, nn

from ctxblocks.algebra.operator import ContextOperator
from ctxblocks.base.checks import check_batch, check_call
from ctxblocks.base.errors import ArgumentError, ShapeError
from ctxblocks.blocks.layer import ProjectedLayer
from ctxblocks.blocks.maps import BlockMaps
from ctxblocks.blocks.read import Read
from ctxblocks.blocks.sites import SITES, Site
from ctxblocks.blocks.update import ImplicitUpdate
from ctxblocks.blocks.weights import LinearWeights
from ctxblocks.validators import one_of


class ContextualBlock(BlockMaps):
    """`T(C, x)`, a contextual layer followed by a network [Def. 2.1, Def. B.1].

    Args:
        layer: `A(C, x)`.
        network: the network after the layer.
        norms: norm modules by their position; `"enter"` is applied to query and context before the layer.
    """

    places: tuple[str, ...] = ("output-bias", "last-layer")
    """The places that can take the bias shift in this block."""

    @property
    def in_order(self) -> tuple[Self, ...]:
        """The block itself; the theorem functions treat it as a stack of one block."""
        return (self,)

    def complete(
        self,
        read: Read,  # (…, d)
        update: ImplicitUpdate | None = None,
        chunk: int | None = None,
    ) -> Tensor:  # (…, d)
        """The block's output from its read, with an update of site `"network"` applied if given.

        This method is the only code that applies an update of the network: `join(r + Δb', network(P z))`, or with the bias
        shift in the last dense layer or in the scale of the last norm. A single query and all prefixes of a context use
        the same code.

        Args:
            read: the network's input and the residual stream.
            update: an update of the same batch shape and of site `"network"`.
            chunk: number of rows, over the whole batch, that the network processes at a time; None for all at once.
        """
        if update is None:
            return self.join(read.bypass, self.network.rows(read.z, None, chunk))
        if update.last_layer() is not None:
            return self.join(read.bypass, self.network(read.z, update.operator, update.last_layer()))
        output = self.network.rows(read.z, update.operator, chunk)
        if update.shift is None:
            return self.join(read.bypass, output)
        if update.carrier is not None:
            return self.join(read.bypass, output) + update.carrier * self.normalized(output)
        assert read.bypass is not None
        return self.join(read.bypass + update.shift, output)

    def forward(
        self,
        query: Tensor,  # (…, d)
        context: Tensor | None = None,  # (…, n, d_context); None is no tokens
        update: ImplicitUpdate | None = None,
    ) -> Tensor:  # (…, d)
        """`T(C, x)`, with the update applied if given.

        Raises:
            ShapeError, DtypeError, DeviceError: the arguments do not fit the layer or each other.
            ArgumentError: the update is for another kind of block.
        """
        context = self.no_tokens(query) if context is None else context
        self.check_call(query, context)
        if update is None:
            return self.complete(self.read(query, context))
        update = update[..., -1] if update.per_token else update
        self.check_update(update)
        check_batch("update", update.operator.key, query)
        site = self.site(update.site)
        return site.complete(query, site.read(query, context), update)

    def sequence(
        self,
        tokens: Tensor,  # (…, n, d)
        update: ImplicitUpdate | None = None,  # batched (…, n), one for each token
    ) -> Tensor:  # (…, n, d)
        """The output at every token with the tokens before it as context, each with its own update if given."""
        if update is None:
            return self.complete(self.contextualize_tokens(tokens))
        self.check_update(update)
        check_batch("update", update.operator.key, tokens)
        if tokens.shape[-2] == 0:
            return tokens.clone()
        site = self.site(update.site)
        return site.complete(tokens, site.read_causal(tokens, tokens[..., :-1, :]), update)

    def site(self, name: str) -> Site:
        """The site of that name.

        Raises:
            ArgumentError: there is no site of that name, or the layer does not end in a projection.
        """
        if name == "network":
            return Site(
                lambda: self.network.readers,
                self.read,
                self.contextualize_causal,
                self._complete_read,
                self._patched_read,
            )
        one_of(SITES).check("site", name)
        if not isinstance(self.layer, ProjectedLayer):
            raise ArgumentError(
                f"site: got 'out-proj' for {type(self.layer).__name__}, needs a ProjectedLayer, one that ends in a dense "
                f"projection; use site='network'"
            )
        return Site(self._projection, self._mix, self._mix_causal, self._complete_mixed, self._read_mixed)

    def _projection(self) -> dict[str, nn.Linear]:
        assert isinstance(self.layer, ProjectedLayer)
        return {"projection": self.layer.projection}

    def _complete_read(self, query: Tensor, read: Read, update: ImplicitUpdate | None) -> Tensor:
        return self.complete(read, update)

    def _patched_read(self, query: Tensor, read: Read, update: ImplicitUpdate | None) -> Tensor:
        return read.z if update is None else update.operator.apply(read.z)

    def _complete_mixed(self, query: Tensor, read: Read, update: ImplicitUpdate | None) -> Tensor:
        return self.complete(self._project(query, read, update))

    def _read_mixed(self, query: Tensor, read: Read, update: ImplicitUpdate | None) -> Tensor:
        return self._project(query, read, update).z

    def _project(self, query: Tensor, read: Read, update: ImplicitUpdate | None) -> Read:
        """`z` and `r` of the block, from the input of the layer's output projection."""
        assert isinstance(self.layer, ProjectedLayer)
        projected = self.layer.projection(self._patched_read(query, read, update))
        return self.split(query, self.layer.finish(self.enter(query), projected))

    def check_call(self, query: Tensor, context: Tensor, name: str = "context") -> None:
        """Raise unless query and context fit the layer and each other."""
        check_call(self.layer, query, context, self.layer.width, self.layer.context_width, name)

    def check_place(self, place: str) -> None:
        """Raise unless this block has the place for the bias shift."""
        if place not in self.places:
            raise ArgumentError(
                f"place: got {place!r}, needs one of {', '.join(map(repr, self.places))} in a {self.kind()}; "
                f"pass one of these to transfer(…, place=…)"
            )

    def check_update(self, update: ImplicitUpdate) -> None:
        """Raise unless the update's site, place and width fit this block."""
        width = next(iter(self.site(update.site).readers().values())).in_features
        if update.operator.key.shape[-1] != width:
            raise ShapeError(
                f"update: got width {update.operator.key.shape[-1]}, needs {width}, the width of {update.site!r} here"
            )
        if update.shift is not None and not self.has_bypass:
            raise ArgumentError(
                f"update: got a bias shift, needs none in a {self.kind()}, which has no residual stream; "
                f"make the update with transfer(…) for this block"
            )
        self.check_place(update.place)

    def carrier(
        self,
        place: str,
        z: Tensor,  # (…, d), the network's input without `Y`
        operator: ContextOperator,  # (…, d)
        shift: Tensor,  # (…, d)
    ) -> tuple[Tensor | None, Tensor, str]:
        """The tensor from which the place makes the bias shift, a mask of where there is none, and the reason for that.

        It is the key of the last dense layer for `"last-layer"` and None for `"output-bias"`. Blocks with more places
        override this method.
        """
        if place == "output-bias":
            return None, torch.zeros((), dtype=torch.bool, device=z.device), ""
        key, absent = self.network.last_key(z, operator)
        return key, absent & (shift != 0).any(-1), "the input of the last dense layer is zero"

    def normalized(self, output: Tensor) -> Tensor:  # (…, d) -> (…, d)
        """`n̂`, the vector that is multiplied by the scale of the norm after the network; only in sandwich blocks."""
        raise ArgumentError(f"place: got 'post-norm' in a {self.kind()}, needs a block with norm='sandwich'")

    def merged(self, update: ImplicitUpdate) -> Self:
        """A copy of the block with the update written into its weights; called by `ImplicitUpdate.merged`, which checks it."""
        merged = copy.deepcopy(self)
        for linear in merged.site(update.site).readers().values():
            LinearWeights.of(linear).change(update.operator).add()
        if update.shift is not None:
            merged.add_shift(update)
        return merged

    def add_shift(self, update: ImplicitUpdate) -> None:
        """Write the bias shift of an update into the parameters, in place: last dense layers or output bias."""
        assert update.shift is not None
        if (last := update.last_layer()) is not None:
            self.network.add_last(last)
        else:
            self.network.add_output_bias(update.shift)
