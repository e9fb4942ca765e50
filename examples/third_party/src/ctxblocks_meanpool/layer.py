"""The layer, its configuration and its claims."""

import attrs
import torch
from torch import Tensor, nn

from ctxblocks import ArgumentError, ProjectedLayer, Traits


@attrs.frozen(kw_only=True)
class MeanPoolConfig:
    """Gated mean pooling.

    Attributes:
        width: of the query, the tokens and the output.
        gated: whether the query gates the mean, entry by entry.
        bias: whether values, gate and projection have one.
    """

    width: int
    gated: bool = True
    bias: bool = False

    def __attrs_post_init__(self) -> None:
        """Refuse widths below 1."""
        if self.width < 1:
            raise ArgumentError(
                f"MeanPoolConfig: got width={self.width}, needs at least 1; choose the width of your tokens"
            )


class MeanPool(ProjectedLayer):
    """`A(C, x) = O (σ(G x) ⊙ m)`, `m = (V c_1 + … + V c_n + V x) / (n + 1)`.

    The query is one of the tokens of the mean, so that no context at all is a case like any other.
    """

    def __init__(self, config: MeanPoolConfig) -> None:
        super().__init__(config.width)
        self.value = nn.Linear(config.width, config.width, bias=config.bias)
        self.gate = nn.Linear(config.width, config.width, bias=config.bias) if config.gated else None
        self.projection = nn.Linear(config.width, config.width, bias=config.bias)

    def mix(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, d)
        """The gated mean over context and query."""
        tokens = torch.cat([context, query.unsqueeze(-2)], dim=-2)  # (…, n + 1, d)
        return self._gated(query, self.value(tokens).mean(dim=-2))

    def causal(
        self,
        queries: Tensor,  # (…, n + 1, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, n + 1, d)
        """All rows from one running sum over the context, kept in float32 at least."""
        self.check_causal(queries, context)
        own = self.value(queries)  # (…, n + 1, d)
        wide = torch.promote_types(own.dtype, torch.float32)
        sums = nn.functional.pad(self.value(context).to(wide).cumsum(dim=-2), (0, 0, 1, 0))  # row i: c_1 … c_i
        counts = torch.arange(1, queries.shape[-2] + 1, dtype=wide, device=queries.device).unsqueeze(-1)  # (n + 1, 1)
        means = ((sums + own.to(wide)) / counts).to(own.dtype)
        output: Tensor = self.projection(self._gated(queries, means))
        return output

    def _gated(
        self,
        query: Tensor,  # (…, d)
        mean: Tensor,  # (…, d)
    ) -> Tensor:  # (…, d)
        return mean if self.gate is None else torch.sigmoid(self.gate(query)) * mean


def claims(config: MeanPoolConfig) -> Traits:
    """A mean does not know the order of its terms."""
    return Traits(permutation_invariant=True)
