"""The maps of a block: from tokens to the network's input `z` and the residual stream `r`, and to the block's output."""

import abc
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ctxblocks.base.checks import check_call
from ctxblocks.base.errors import ShapeError
from ctxblocks.blocks.layer import ContextualLayer, ProjectedLayer
from ctxblocks.blocks.networks import Network
from ctxblocks.blocks.read import Read


class BlockMaps(nn.Module, abc.ABC):
    """The parts of a block, and the maps before and after its network.

    Args:
        layer: `A(C, x)`.
        network: the network after the layer.
        norms: norm modules by their position; `"enter"` is applied to query and context before the layer.
    """

    layer: ContextualLayer
    network: Network
    reads_context: bool = True
    """Whether the network's input depends on the context (False for parallel blocks)."""
    has_bypass: bool = True
    """Whether the block has a residual stream around its network (False for plain blocks)."""

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
        """d, the width of the query and of the output."""
        return self.layer.width

    def read_in(self, tokens: Tensor) -> Tensor:  # (…, d) -> (…, d)
        """The tokens unchanged; a `Stack` may have a map before its first block."""
        return tokens

    def norm_at(self, place: str, x: Tensor) -> Tensor:  # (…, d) -> (…, d)
        """`x` after the norm at that position, or `x` unchanged if the block has no norm there."""
        if place not in self.norms:
            return x
        normed: Tensor = self.norms[place](x)
        return normed

    def enter(
        self,
        tokens: Tensor,  # (…, d)
    ) -> Tensor:  # (…, d)
        """The input of the layer for query or context tokens: `N₀ t`, or `t` if the block has no norm `N₀`."""
        return self.norm_at("enter", tokens)

    @abc.abstractmethod
    def split(
        self,
        query: Tensor,  # (…, d)
        mixed: Tensor,  # (…, d), the layer's output
    ) -> Read:
        """The network's input `z` and the residual stream `r`, computed from the query and the layer's output."""

    @abc.abstractmethod
    def join(
        self,
        bypass: Tensor | None,  # (…, d), the residual stream, with the bias shift
        output: Tensor,  # (…, d), the network's
    ) -> Tensor:  # (…, d)
        """The block's output, computed from the residual stream and the network's output."""

    def contextualize(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d_context)
    ) -> Read:
        """`z` and `r` at the query.

        Raises:
            ShapeError, DtypeError, DeviceError: the arguments do not fit the layer or each other.
        """
        check_call(self.layer, query, context, self.width, self.layer.context_width)
        return self.read(query, context)

    def read(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d_context)
    ) -> Read:
        """`contextualize` without checks, for arguments that have already been checked."""
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
        copies: Tensor,  # (…, 1 or n + 1, d): one query for all prefixes, or one for each
        context: Tensor,  # (…, n, d_context)
    ) -> Read:
        """`z` and `r` of query `i` after `c_1 … c_i`, `i = 0 … n`; for a single query by `layer.prefixes` [Sec. 3]."""
        if copies.shape[-2] != 1 or context.shape[-2] == 0:
            return self.contextualize_causal(copies, context)
        mixed = self.layer.prefixes(self.enter(copies.squeeze(-2)), self.enter(context))
        return self.split(copies.expand_as(mixed), mixed)

    def contextualize_tokens(
        self,
        tokens: Tensor,  # (…, n, d)
    ) -> Read:
        """`z` and `r` of every token, with the tokens before it as context."""
        return self.split(tokens, self.layer.sequence(self.enter(tokens)))

    def no_tokens(self, query: Tensor) -> Tensor:  # (…, d) -> (…, 0, d_context)
        """An empty context of the query's batch shape."""
        return query.new_empty((*query.shape[:-1], 0, self.layer.context_width))

    def kind(self) -> str:
        """The name of this block in error messages."""
        return type(self).__name__

    def _mix(self, query: Tensor, context: Tensor) -> Read:
        """The input of the layer's output projection, without a residual stream: all that follows is the `f` of Theorem 2.2."""
        assert isinstance(self.layer, ProjectedLayer)
        return Read(self.layer.mix(self.enter(query), self.enter(context)))

    def _mix_causal(self, queries: Tensor, context: Tensor) -> Read:
        rows = [self._mix(queries[..., i, :], context[..., :i, :]).z for i in range(queries.shape[-2])]
        return Read(torch.stack(rows, dim=-2))
