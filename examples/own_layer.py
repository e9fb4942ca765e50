"""A contextual layer of one's own, registered without installing anything, held to the theorem.

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


@attrs.frozen(kw_only=True)
class FadingConfig:
    """Settings of the layer.

    Attributes:
        width: of tokens.
        decay: how much of the past each token leaves.
    """

    width: int
    decay: float = 0.8


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
        """The sum at the query."""
        n = context.shape[-2]
        powers = self.decay ** torch.arange(n, 0, -1, dtype=query.dtype, device=query.device)  # (n,)
        return self.linear(query + (powers.unsqueeze(-1) * context).sum(-2))


@hookimpl
def ctxblocks_layers() -> list[LayerSpec]:
    """Announce the layer."""
    spec = LayerSpec(
        name="fading",
        summary="exponential moving sum of tokens",
        config=FadingConfig,
        build=Fading,
        traits=lambda config: Traits(positional=True),
    )
    return [spec]


def main() -> None:
    """Register this very module and move a context into the weights of a block with the layer in it."""
    registry().register(sys.modules[__name__])
    torch.manual_seed(0)
    block = ResidualBlock(create("fading", width=8, decay=0.5), GatedMLP(8, 16), norm="sandwich").double()
    query, context = torch.randn(3, 8).double(), torch.randn(3, 10, 8).double()  # a batch of three tasks
    update = transfer(block, query, context)
    error = (block(query, update=update) - block(query, context)).abs().max()
    print(f"fading: {len(registry().layers)} layers are registered; the identity holds to {error:.1e}")


if __name__ == "__main__":
    main()
