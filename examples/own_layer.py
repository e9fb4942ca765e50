"""A custom contextual layer, registered without installing a package, and the theorem on a block with it.

Run it with `python examples/own_layer.py`; it takes a few seconds.
"""

import sys

import attrs
import torch
from torch import Tensor, nn

from ctxblocks import (
    ContextualLayer,
    GatedMLP,
    LayerSpec,
    ResidualBlock,
    Traits,
    create,
    hookimpl,
    registry,
    transfer,
)
from ctxblocks.validators import at_least, share


@attrs.frozen(kw_only=True)
class FadingConfig:
    """Settings of the layer.

    Attributes:
        width: d, of query, tokens and output.
        decay: factor by which each token decays the earlier ones.
    """

    width: int = attrs.field(validator=at_least(1))
    decay: float = attrs.field(default=0.8, validator=share())


class Fading(ContextualLayer):
    """`Σ_j decay^{n − j} W c_j + W x`: an exponential moving sum."""

    def __init__(self, config: FadingConfig) -> None:
        super().__init__(config.width)
        self.decay = config.decay
        self.linear = nn.Linear(config.width, config.width, bias=False)

    def forward(
        self,
        query: Tensor,  # (…, d)
        context: Tensor,  # (…, n, d)
    ) -> Tensor:  # (…, d)
        """The moving sum at the query."""
        n = context.shape[-2]
        powers = self.decay ** torch.arange(n, 0, -1, dtype=query.dtype, device=query.device)  # (n,)
        return self.linear(query + (powers.unsqueeze(-1) * context).sum(-2))


@hookimpl
def ctxblocks_layers() -> list[LayerSpec]:
    """The layers of this plugin."""
    spec = LayerSpec(
        name="fading",
        summary="exponential moving sum of tokens",
        config=FadingConfig,
        build=Fading,
        traits=lambda config: Traits(positional=True),
    )
    return [spec]


def main() -> None:
    """Register this module as a plugin, and compute the update of a context for a block with the layer."""
    registry().register(sys.modules[__name__])
    torch.manual_seed(0)
    block = ResidualBlock(create("fading", width=8, decay=0.5), GatedMLP(8, 16), norm="sandwich").double()
    query, context = torch.randn(3, 8).double(), torch.randn(3, 10, 8).double()  # a batch of three tasks
    update = transfer(block, query, context)
    error = (block(query, update=update) - block(query, context)).abs().max()
    print(f"fading: {len(registry().layers)} layers are registered; the identity holds to {error:.1e}")


if __name__ == "__main__":
    main()
