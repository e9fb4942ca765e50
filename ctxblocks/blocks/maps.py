"""The maps of a block: to its network's input `z` and its residual stream `r`, and from the network's output to its own."""

import abc
from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor, nn

from ctxblocks.base.checks import check_call
from ctxblocks.base.errors import ShapeError
from ctxblocks.blocks.layer import ContextualLayer, ProjectedLayer
from ctxblocks.blocks.networks import Network
from ctxblocks.blocks.read import Read


class BlockMaps(nn.Module, abc.ABC):
    """The parts of a block and the maps to the network's input and from its output.

    Args:
        layer: `A(C, x)`.
        network: reads the layer's output.
        norms: modules on the way, by their place: `"enter"` is applied to query and context before the layer.
    """

    layer: ContextualLayer
    network: Network
    reads_context: bool = True
    """Whether the network's input depends on the context (in a parallel block it does not)."""
    has_bypass: bool = True
    """Whether anything bypasses the network (in a plain block nothing does)."""

    def __init__(self, layer: ContextualLayer, network: Network, norms: Mapping[str, nn.Module] = {}) -> None:
        super().__init__()
        if layer.width != network.width:
            raise ShapeError(
                f"network: got width {network.width}, needs {layer.width}, the layer's; build it with that width"
            )
        self.layer = layer
        self.network = network
        self.norms = nn.ModuleDict(norms)

    @property
    def width(self) -> int:
        """d, of the query and of the output."""
        return self.layer.width

    @property
    def in_order(self) -> tuple[Self, ...]:
        """The block itself: theorems treat it as a stack of one."""
        return (self,)

    def read_in(self, tokens: Tensor) -> Tensor:  # (…, d) -> (…, d)
        """The tokens as they are; a `Stack` may map them first."""
        return tokens

    def norm_at(self, place: str, x: Tensor) -> Tensor:  # (…, d) -> (…, d)
        """`x` under the norm of a place, or `x` where the block has none there."""
        if place not in self.norms:
            return x
        normed: Tensor = self.norms[place](x)
        return normed

    def enter(
        self,
        tokens: Tensor,  # (…, d)
    ) -> Tensor:  # (…, d)
        """The layer's input for a token, query or context: `N₀ t`, or the token itself where there is no such norm."""
        return self.norm_at("enter", tokens)

    @abc.abstractmethod
    def split(
        self,
        query: Tensor,  # (…, d)
        mixed: Tensor,  # (…, d), the layer's output
    ) -> Read:
        """The network's input `z` and the residual stream `r`, from the query and the layer's output."""

    @abc.abstractmethod
    def join(
        self,
        bypass: Tensor | None,  # (…, d), with the bias shift
        output: Tensor,  # (…, d), the network's
    ) -> Tensor:  # (…, d)
        """The block's output."""

    def contextualize(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d_context)
    ) -> Read:
        """`z` and `r` at the query.

        Raises:
            ShapeError, DtypeError, DeviceError: the arguments do not fit the layer or each other.
        """
        self.check_call(query, context)
        return self.read(query, context)

    def read(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d_context)
    ) -> Read:
        """`contextualize` for arguments that were checked before."""
        return self.split(query, self.layer.unchecked(self.enter(query), self.enter(context)))

    def contextualize_causal(
        self,
        queries: Tensor,  # (…, n + 1, d)
        context: Tensor,  # (…, n, d_context)
    ) -> Read:
        """`z` and `r` of `q_i` after `c_1 … c_i`, `i = 0 … n`."""
        return self.split(queries, self.layer.causal(self.enter(queries), self.enter(context)))

    def contextualize_prefixes(
        self,
        copies: Tensor,  # (…, 1 or n + 1, d): one query, or one for each prefix
        context: Tensor,  # (…, n, d_context)
    ) -> Read:
        """`z` and `r` of query `i` after `c_1 … c_i`, `i = 0 … n`; a single query is mixed once for all prefixes [Sec. 3]."""
        if copies.shape[-2] != 1 or context.shape[-2] == 0:
            return self.contextualize_causal(copies, context)
        mixed = self.layer.prefixes(self.enter(copies.squeeze(-2)), self.enter(context))
        return self.split(copies.expand_as(mixed), mixed)

    def contextualize_tokens(
        self,
        tokens: Tensor,  # (…, n, d)
    ) -> Read:
        """`z` and `r` of every token after those before it."""
        return self.split(tokens, self.layer.sequence(self.enter(tokens)))

    def no_tokens(self, query: Tensor) -> Tensor:  # (…, d) -> (…, 0, d_context)
        """An empty context for the query."""
        return query.new_empty((*query.shape[:-1], 0, self.layer.context_width))

    def check_call(self, query: Tensor, context: Tensor, name: str = "context") -> None:
        """Raise unless query and context fit the layer and each other."""
        check_call(self.layer, query, context, self.width, self.layer.context_width, name)

    def kind(self) -> str:
        """The name of this block in error messages."""
        return type(self).__name__

    def _mix(self, query: Tensor, context: Tensor) -> Read:
        """The input of the layer's output projection; everything after it is the theorem's `f`, so nothing bypasses it."""
        assert isinstance(self.layer, ProjectedLayer)
        return Read(self.layer.mix(self.enter(query), self.enter(context)))

    def _mix_causal(self, queries: Tensor, context: Tensor) -> Read:
        rows = [self._mix(queries[..., i, :], context[..., :i, :]).z for i in range(queries.shape[-2])]
        return Read(torch.stack(rows, dim=-2))
