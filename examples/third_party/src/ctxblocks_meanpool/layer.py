"""The layer, its configuration and its traits."""

import attrs
import torch
from torch import Tensor, nn

from ctxblocks import ProjectedLayer, Traits
from ctxblocks.numerics import widen
from ctxblocks.validators import at_least


@attrs.frozen(kw_only=True)
class MeanPoolConfig:
    """Gated mean pooling.

    Attributes:
        width: d, of the query, the tokens and the output.
        gated: whether the mean is multiplied by a gate computed from the query.
        bias: whether values, gate and projection have biases.
    """

    width: int = attrs.field(validator=at_least(1, advice="choose the width of your tokens", by_class=True))
    gated: bool = True
    bias: bool = False


class MeanPool(ProjectedLayer):
    """`A(C, x) = O (σ(G x) ⊙ m)`, `m = (V c_1 + … + V c_n + V x) / (n + 1)`.

    The mean includes the query, so that it is defined without context too.
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
        """All rows from one running sum over the context, in float32 for half types."""
        self.check_causal(queries, context)
        own = self.value(queries)  # (…, n + 1, d)
        sums = nn.functional.pad(widen(self.value(context)).cumsum(dim=-2), (0, 0, 1, 0))  # row i: c_1 … c_i
        counts = torch.arange(1, queries.shape[-2] + 1, dtype=sums.dtype, device=sums.device).unsqueeze(
            -1
        )  # (n + 1, 1)
        means = ((sums + widen(own)) / counts).to(own.dtype)
        output: Tensor = self.projection(self._gated(queries, means))
        return output

    def _gated(
        self,
        query: Tensor,  # (…, d)
        mean: Tensor,  # (…, d)
    ) -> Tensor:  # (…, d)
        return mean if self.gate is None else torch.sigmoid(self.gate(query)) * mean


def traits(config: MeanPoolConfig) -> Traits:
    """A mean does not depend on the order of its terms."""
    return Traits(permutation_invariant=True)
