"""Contextual layers: the one thing that a plugin author writes.

A contextual layer is a function `A(C, x)` of a query and a context of any length, zero included [paper, Def. 2.1].
"""

import abc
from typing import Any, final

import torch
from torch import Tensor, nn

from ctxblocks.algebra.operator import ContextOperator
from ctxblocks.base.checks import check_call, check_causal, check_sequence
from ctxblocks.base.errors import ArgumentError, ShapeError


class ContextualLayer(nn.Module, abc.ABC):
    """A function `A(C, x)` of a query `x` and a context `C` of any length; `A(∅, x) = A(x)` [Def. 2.1].

    A subclass sets `width` (and `context_width`, if its tokens are of another width) and writes `forward`. The other
    methods have defaults that call `forward` once per row: these are their definitions, and an override must agree
    with them, `ContextualLayer.causal(layer, queries, context)` against `layer.causal(queries, context)`.

    Positions: in `forward`, `c_j` stands at `j − 1` and the query at `n`; in `causal`, `q_i` stands at `i`;
    `suffixes` restarts at 0.

    Args:
        width: d, of the query and of the output.
        context_width: of a context token; `width` unless the layer is a cross-attention.
    """

    width: int
    context_width: int
    has_skip: bool = False
    """Whether the layer adds its query to its output; blocks that add the skip themselves refuse such a layer."""

    def __init__(self, width: int, context_width: int | None = None) -> None:
        super().__init__()
        self.width = width
        self.context_width = width if context_width is None else context_width

    def __call__(self, query: Tensor, context: Tensor, *more: Any) -> Tensor:
        """Check shapes, dtypes and devices, then `forward`."""
        check_call(self, query, context, self.width, self.context_width)
        output: Tensor = super().__call__(query, context, *more)
        return output

    def unchecked(self, query: Tensor, context: Tensor) -> Tensor:  # (…, d), (…, n, d_context) -> (…, d)
        """The call without its checks, for callers that have checked the same arguments."""
        output: Tensor = super().__call__(query, context)
        return output

    @abc.abstractmethod
    def forward(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d_context), n ≥ 0
    ) -> Tensor:  # (…, d)
        """`A(C, x)`: the output at the query; with no tokens, `A(x)`."""

    def causal(
        self,
        queries: Tensor,  # (…, n + 1, d)
        context: Tensor,  # (…, n, d_context)
    ) -> Tensor:  # (…, n + 1, d)
        """`A(C_i, q_i)` for `i = 0 … n`, `C_i` the first `i` tokens; query `i` stands at position `i`."""
        self.check_causal(queries, context)
        rows = [self(queries[..., i, :], context[..., :i, :]) for i in range(queries.shape[-2])]
        return torch.stack(rows, dim=-2)

    def prefixes(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d_context)
    ) -> Tensor:  # (…, n + 1, d)
        """`A(C_i, x)` for `i = 0 … n`: `causal` with one query throughout [Sec. 3]."""
        self.check_call(query, context)
        rows = context.shape[-2] + 1
        return self.causal(query.unsqueeze(-2).expand(*query.shape[:-1], rows, self.width), context)

    def suffixes(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d_context)
    ) -> Tensor:  # (…, n + 1, d)
        """`A(c_{i+1} … c_n, x)` for `i = 0 … n`; row 0 has the whole context, row `n` none [App. E]."""
        self.check_call(query, context)
        rows = [self(query, context[..., i:, :]) for i in range(context.shape[-2] + 1)]
        return torch.stack(rows, dim=-2)

    def sequence(
        self,
        tokens: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n, d)
        """`A(t_1 … t_{i−1}, t_i)` for every token: the layer's ordinary causal forward pass over a sequence.

        Raises:
            ShapeError: the layer's tokens have another width than its queries (a cross-attention).
        """
        self.check_sequence(tokens)
        if tokens.shape[-2] == 0:
            return tokens.clone()
        return self.causal(tokens, tokens[..., :-1, :])

    def state_size(self, tokens: int) -> int:
        """How many numbers the layer keeps of a context of that many tokens, so that any later query can be answered.

        Counted for one batch element, beside the parameters and beside how many tokens there were. A layer without a
        state of its own keeps the tokens; one that reads token by token overrides this with what it then carries, which
        is there from the start where its size is fixed.

        Raises:
            ArgumentError: `tokens` is not an integer from 0 on.
        """
        self.check_state_size(tokens)
        return tokens * self.context_width

    def check_call(self, query: Tensor, context: Tensor) -> None:
        """Raise unless `(query, context)` fit `forward`, `prefixes` and `suffixes`; overrides call it first."""
        check_call(self, query, context, self.width, self.context_width)

    def check_causal(self, queries: Tensor, context: Tensor) -> None:
        """Raise unless `(queries, context)` fit `causal`; overrides call it first."""
        check_causal(self, queries, context, self.width, self.context_width)

    def check_sequence(self, tokens: Tensor) -> None:
        """Raise unless `tokens` fit `sequence`; overrides call it first."""
        if self.context_width != self.width:
            raise ShapeError(
                f"sequence: {type(self).__name__} reads tokens of width {self.context_width} and queries of width {self.width}, "
                f"needs one width for both; call causal(queries, context) instead"
            )
        check_sequence(self, tokens, self.width)

    def check_state_size(self, tokens: int) -> None:
        """Raise unless `tokens` fits `state_size`; overrides call it first."""
        if not isinstance(tokens, int) or tokens < 0:
            raise ArgumentError(
                f"tokens: got {tokens!r}, needs an integer ≥ 0, the length of a context; for no context give 0"
            )


class ProjectedLayer(ContextualLayer):
    """A contextual layer that ends in a dense projection, the second site of an update (`site="out-proj"`).

    `A(C, x) = finish(x, projection(mix(x, C)))`. A subclass sets `projection` and writes `mix`; `forward` is final.
    """

    projection: nn.Linear

    @abc.abstractmethod
    def mix(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d_context)
    ) -> Tensor:  # (…, projection.in_features)
        """What the projection reads."""

    def finish(
        self,
        query: Tensor,  # (…, d)
        projected: Tensor,  # (…, d)
    ) -> Tensor:  # (…, d)
        """What follows the projection: free of the context, by default nothing."""
        return projected

    @final  # type: ignore[misc]  # nn.Module declares forward as an attribute
    def forward(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d_context)
        operator: ContextOperator | None = None,  # on (…, projection.in_features)
    ) -> Tensor:  # (…, d)
        """`finish(x, projection(P mix(x, C)))`, with `P` the identity unless given."""
        mixed = self.mix(query, context)
        if operator is not None:
            mixed = operator.apply(mixed)
        return self.finish(query, self.projection(mixed))
