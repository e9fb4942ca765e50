"""Contextual layers, the interface that plugin authors implement.

A contextual layer is a function `A(C, x)` of a query and a context of any length, including zero [Def. 2.1].
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

    A subclass sets `width` (and `context_width`, if context tokens have another width) and implements `forward`. The other
    methods have defaults that call `forward` once per row. The defaults define these methods: an override must agree with
    them, for instance `layer.causal(queries, context)` with `ContextualLayer.causal(layer, queries, context)`.

    Positions: in `forward`, the token `c_j` has position `j − 1` and the query position `n`; in `causal`, `q_i` has position
    `i`; in `suffixes`, positions start at 0 for every suffix.

    Args:
        width: d, the width of the query and of the output.
        context_width: the width of a context token; equal to `width` except in a cross-attention.
    """

    width: int
    context_width: int
    has_skip: bool = False
    """Whether the layer adds its query to its output; blocks that add this skip connection themselves refuse such a layer."""

    def __init__(self, width: int, context_width: int | None = None) -> None:
        super().__init__()
        self.width = width
        self.context_width = width if context_width is None else context_width

    def __call__(self, query: Tensor, context: Tensor, *more: Any) -> Tensor:
        """Check shapes, dtypes and devices, then call `forward`."""
        check_call(self, query, context, self.width, self.context_width)
        output: Tensor = super().__call__(query, context, *more)
        return output

    def unchecked(self, query: Tensor, context: Tensor) -> Tensor:  # (…, d), (…, n, d_context) -> (…, d)
        """Call `forward` without checks, for callers that have already checked the arguments."""
        output: Tensor = super().__call__(query, context)
        return output

    @abc.abstractmethod
    def forward(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d_context), n ≥ 0
    ) -> Tensor:  # (…, d)
        """`A(C, x)`, the output at the query; for an empty context, `A(x)`."""

    def causal(
        self,
        queries: Tensor,  # (…, n + 1, d)
        context: Tensor,  # (…, n, d_context)
    ) -> Tensor:  # (…, n + 1, d)
        """`A(C_i, q_i)` for `i = 0 … n`, with `C_i` the first `i` tokens; `q_i` has position `i`."""
        self.check_causal(queries, context)
        rows = [self(queries[..., i, :], context[..., :i, :]) for i in range(queries.shape[-2])]
        return torch.stack(rows, dim=-2)

    def prefixes(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d_context)
    ) -> Tensor:  # (…, n + 1, d)
        """`A(C_i, x)` for `i = 0 … n`: `causal` with the same query in every row [Sec. 3]."""
        self.check_call(query, context)
        rows = context.shape[-2] + 1
        return self.causal(query.unsqueeze(-2).expand(*query.shape[:-1], rows, self.width), context)

    def suffixes(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d_context)
    ) -> Tensor:  # (…, n + 1, d)
        """`A(c_{i+1} … c_n, x)` for `i = 0 … n`; row 0 has the whole context, row `n` an empty one [App. E]."""
        self.check_call(query, context)
        rows = [self(query, context[..., i:, :]) for i in range(context.shape[-2] + 1)]
        return torch.stack(rows, dim=-2)

    def sequence(
        self,
        tokens: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n, d)
        """`A(t_1 … t_{i−1}, t_i)` for every token `t_i`: the usual causal forward pass over a sequence.

        Raises:
            ShapeError: context tokens and queries have different widths (a cross-attention).
        """
        self.check_sequence(tokens)
        if tokens.shape[-2] == 0:
            return tokens.clone()
        return self.causal(tokens, tokens[..., :-1, :])

    def state_size(self, tokens: int) -> int:
        """The number of entries of the state from which the layer computes its output for any query after that many tokens.

        It is counted for one batch element, without parameters and without the token count itself. By default the state is
        the context. Recurrent layers override this method with the size of their hidden state, which does not depend on
        `tokens` if it is allocated at its full size from the start.

        Raises:
            ArgumentError: `tokens` is not an integer ≥ 0.
        """
        self.check_state_size(tokens)
        return tokens * self.context_width

    def check_call(self, query: Tensor, context: Tensor) -> None:
        """Raise unless query and context fit `forward`, `prefixes` and `suffixes`; overrides of these call it first."""
        check_call(self, query, context, self.width, self.context_width)

    def check_causal(self, queries: Tensor, context: Tensor) -> None:
        """Raise unless `(queries, context)` fit `causal`; overrides call it first."""
        check_causal(self, queries, context, self.width, self.context_width)

    def check_sequence(self, tokens: Tensor) -> None:
        """Raise unless `tokens` fit `sequence`; overrides of it call this method first."""
        if self.context_width != self.width:
            raise ShapeError(
                f"sequence: {type(self).__name__} has context tokens of width {self.context_width} and queries of width "
                f"{self.width}, needs one width for both; call causal(queries, context) instead"
            )
        check_sequence(self, tokens, self.width)

    def check_state_size(self, tokens: int) -> None:
        """Raise unless `tokens` is valid for `state_size`; overrides of it call this method first."""
        if not isinstance(tokens, int) or tokens < 0:
            raise ArgumentError(
                f"tokens: got {tokens!r}, needs an integer ≥ 0, the length of a context; for no context give 0"
            )


class ProjectedLayer(ContextualLayer):
    """A contextual layer that ends in a dense projection, the second site for an update (`site="out-proj"`).

    `A(C, x) = finish(x, projection(mix(x, C)))`. A subclass sets `projection` and implements `mix`; `forward` is final.
    """

    projection: nn.Linear

    @abc.abstractmethod
    def mix(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d_context)
    ) -> Tensor:  # (…, projection.in_features)
        """The input of the projection."""

    def finish(
        self,
        query: Tensor,  # (…, d)
        projected: Tensor,  # (…, d)
    ) -> Tensor:  # (…, d)
        """The part of the layer after the projection, which does not depend on the context; by default the identity."""
        return projected

    @final  # type: ignore[misc]  # nn.Module declares forward as an attribute
    def forward(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d_context)
        operator: ContextOperator | None = None,  # on (…, projection.in_features)
    ) -> Tensor:  # (…, d)
        """`finish(x, projection(P mix(x, C)))`, where `P` is `operator`, or the identity if that is None."""
        mixed = self.mix(query, context)
        if operator is not None:
            mixed = operator.apply(mixed)
        return self.finish(query, self.projection(mixed))
