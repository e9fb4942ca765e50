"""Contextual blocks: a contextual layer, the network that reads it, and what bypasses the network.

A block is three maps: `contextualize` splits what the layer gives into the read `z` and the bypass `r`, the network maps
`z`, and `join` puts the two together. Whoever knows these three knows where a context acts, and the theorems
(`transfer`, `dynamics`, …) are written over them once.
"""

import abc

import torch
from torch import Tensor, nn

from ctxblocks.algebra.operator import ContextOperator
from ctxblocks.base.checks import check_batch
from ctxblocks.base.errors import ArgumentError, ShapeError
from ctxblocks.blocks.layer import ContextualLayer, ProjectedLayer
from ctxblocks.blocks.networks import Network
from ctxblocks.blocks.read import Read
from ctxblocks.blocks.update import ImplicitUpdate, Site, one_of


class ContextualBlock(nn.Module, abc.ABC):
    """`T(C, x)`, a contextual layer followed by a network [Def. 2.1, Def. B.1].

    Args:
        layer: `A(C, x)`.
        network: reads what the layer gives.
    """

    layer: ContextualLayer
    network: Network
    reads_context: bool = True
    """Whether the network's read depends on the context (in a parallel block it does not)."""
    has_bypass: bool = True
    """Whether anything bypasses the network (in a plain block nothing does)."""
    places: tuple[str, ...] = ("output-bias", "last-layer")
    """Where the bypass shift may go."""

    def __init__(self, layer: ContextualLayer, network: Network) -> None:
        super().__init__()
        if layer.width != network.width:
            raise ShapeError(
                f"network: got width {network.width}, needs {layer.width}, the layer's; build it with that width"
            )
        self.layer = layer
        self.network = network

    @property
    def width(self) -> int:
        """d, of the query and of the output."""
        return self.layer.width

    def enter(
        self,
        tokens: Tensor,  # (…, d)
    ) -> Tensor:  # (…, d)
        """What the layer is given of a token, query or context; by default the token itself."""
        return tokens

    @abc.abstractmethod
    def split(
        self,
        query: Tensor,  # (…, d)
        mixed: Tensor,  # (…, d), the layer's output
    ) -> Read:
        """The read `z` and the bypass `r`, from the query and what the layer made of it."""

    @abc.abstractmethod
    def join(
        self,
        bypass: Tensor | None,  # (…, d), with the shift
        output: Tensor,  # (…, d), the network's
    ) -> Tensor:  # (…, d)
        """The block's output."""

    def contextualize(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d_context)
        operator: ContextOperator | None = None,  # on what the layer's projection reads
    ) -> Read:
        """`z` and `r` at the query."""
        given = (self.enter(query), self.enter(context))
        return self.split(query, self.layer(*given) if operator is None else self.layer(*given, operator))

    def contextualize_causal(
        self,
        queries: Tensor,  # (…, n + 1, d)
        context: Tensor,  # (…, n, d_context)
    ) -> Read:
        """`z` and `r` of `q_i` after `c_1 … c_i`, `i = 0 … n`."""
        return self.split(queries, self.layer.causal(self.enter(queries), self.enter(context)))

    def contextualize_prefixes(
        self,
        copies: Tensor,  # (…, 1 or n + 1, d): one query, or its copies as the blocks below have made them
        context: Tensor,  # (…, n, d_context)
    ) -> Read:
        """`z` and `r` of copy `i` after `c_1 … c_i`, `i = 0 … n`; a single query is mixed once for all [Sec. 3]."""
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

    def complete(self, read: Read, update: ImplicitUpdate | None = None) -> Tensor:  # (…, d)
        """The rest of the block after the read, with a network-site update in place if given."""
        if update is None:
            return self.join(read.bypass, self.network(read.z))
        output = self.network(read.z, update.operator, update.last_layer())
        if update.shift is None or update.place == "last-layer":
            return self.join(read.bypass, output)
        if update.place == "post-norm":
            assert update.carrier is not None
            return self.join(read.bypass, output) + update.carrier * self.normalized(output)
        assert read.bypass is not None
        return self.join(read.bypass + update.shift, output)

    def forward(
        self,
        query: Tensor,  # (…, d)
        context: Tensor | None = None,  # (…, n, d_context); None is no tokens
        update: ImplicitUpdate | None = None,
    ) -> Tensor:  # (…, d)
        """`T(C, x)`, with the update in place where given.

        Raises:
            ShapeError, DtypeError, DeviceError: the arguments do not fit the layer or each other.
            ArgumentError: the update belongs to another kind of block.
        """
        context = self.no_tokens(query) if context is None else context
        if update is None:
            return self.complete(self.contextualize(query, context))
        if update.per_token:
            update = update[..., -1]
        self.check_update(update)
        check_batch("update", update.operator.key, query)
        if update.site == "out-proj":
            return self.complete(self.contextualize(query, context, update.operator))
        return self.complete(self.contextualize(query, context), update)

    def sequence(
        self,
        tokens: Tensor,  # (…, n, d)
        update: ImplicitUpdate | None = None,  # batched (…, n), one for each token
    ) -> Tensor:  # (…, n, d)
        """Every token as the query of those before it, each with its own update where given."""
        if update is None:
            return self.complete(self.contextualize_tokens(tokens))
        self.check_update(update)
        check_batch("update", update.operator.key, tokens)
        if update.site == "network":
            return self.complete(self.contextualize_tokens(tokens), update)
        rows = [self(tokens[..., i, :], tokens[..., :i, :], update[..., i]) for i in range(tokens.shape[-2])]
        return torch.stack(rows, dim=-2) if rows else tokens.clone()

    def no_tokens(self, query: Tensor) -> Tensor:  # (…, d) -> (…, 0, d_context)
        """An empty context for the query."""
        return query.new_empty((*query.shape[:-1], 0, self.layer.context_width))

    def readers(self, site: Site) -> dict[str, nn.Linear]:
        """The linear maps that the operator of a site acts on."""
        one_of("site", site, ("network", "out-proj"))
        return self.network.readers if site == "network" else {"projection": self.projected_layer().projection}

    def projected_layer(self) -> ProjectedLayer:
        """The layer, if it ends in a projection.

        Raises:
            ArgumentError: it does not.
        """
        if not isinstance(self.layer, ProjectedLayer):
            raise ArgumentError(
                f"site: got 'out-proj' for {type(self.layer).__name__}, needs a ProjectedLayer, one that ends in a dense "
                f"projection; use site='network'"
            )
        return self.layer

    def check_update(self, update: ImplicitUpdate) -> None:
        """Raise unless the update is of a site, place and width that this block has."""
        width = next(iter(self.readers(update.site).values())).in_features
        if update.operator.key.shape[-1] != width:
            raise ShapeError(
                f"update: got width {update.operator.key.shape[-1]}, needs {width}, what {update.site!r} reads here"
            )
        if update.shift is not None and not self.has_bypass:
            raise ArgumentError(
                f"update: got a bypass shift, needs none in a {self.kind()}, where nothing bypasses the network; "
                f"make the update with transfer(…) for this block"
            )
        if update.place not in self.places:
            raise ArgumentError(
                f"update: got place {update.place!r}, needs one of {', '.join(map(repr, self.places))} in a {self.kind()}; "
                f"make the update with transfer(…, place=…) for this block"
            )

    def kind(self) -> str:
        """What error messages call this block."""
        return type(self).__name__

    def normalized(self, output: Tensor) -> Tensor:  # (…, d) -> (…, d)
        """`n̂`, what the scale of the norm after the network multiplies; only sandwich blocks have one."""
        raise ArgumentError(
            f"place: got 'post-norm' for a {self.kind()}, needs a sandwich block; use place='output-bias'"
        )

    def scale_output(self, change: Tensor | None) -> None:
        """Add to the scale of the norm after the network, in place; only sandwich blocks have one."""
        raise ArgumentError(
            f"place: got 'post-norm' for a {self.kind()}, needs a sandwich block; use place='output-bias'"
        )

    def add_output_bias(self, shift: Tensor) -> None:
        """Write a bypass shift into the weights, in place: by default the bias of the network's output."""
        self.network.add_output_bias(shift)


class PlainBlock(ContextualBlock):
    """`f(A(C, x))` [Def. 2.1]: the network reads the layer, nothing bypasses it."""

    has_bypass = False

    def split(
        self,
        query: Tensor,  # (…, d)
        mixed: Tensor,  # (…, d)
    ) -> Read:
        """`z = A(C, x)`."""
        return Read(mixed)

    def join(
        self,
        bypass: Tensor | None,
        output: Tensor,  # (…, d)
    ) -> Tensor:  # (…, d)
        """The network's output."""
        return output
