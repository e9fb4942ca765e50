"""A small correct layer and every kind of block, for tests of the core that need no plugin."""

from typing import TypeVar

import torch
from torch import Tensor, nn

from ctxblocks import (
    MLP,
    ContextualBlock,
    GatedMLP,
    MixtureOfExperts,
    Network,
    ParallelBlock,
    PlainBlock,
    ProjectedLayer,
    ResidualBlock,
)

M = TypeVar("M", bound=nn.Module)
WIDTH, HIDDEN = 4, 6
NETWORKS = ("mlp", "gated", "moe")
BLOCKS = ("plain", "skip", "pre-norm", "post-norm", "sandwich", "parallel")


class Pool(ProjectedLayer):
    """`W_o` times the mean of `tanh(W_v t)` over all tokens `t`, in which the query counts twice."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__(width)
        self.values = nn.Linear(width, width + 1)
        self.projection = nn.Linear(width + 1, width)

    def mix(self, query: Tensor, context: Tensor) -> Tensor:
        tokens = torch.cat([context, query.unsqueeze(-2), query.unsqueeze(-2)], dim=-2)
        return torch.tanh(self.values(tokens)).mean(-2)


def network(kind: str, width: int = WIDTH) -> Network:
    if kind == "mlp":
        return MLP(width, HIDDEN)
    return GatedMLP(width, HIDDEN) if kind == "gated" else MixtureOfExperts(width, HIDDEN, experts=4, active=2)


def block(kind: str, net: str = "mlp", seed: int = 0) -> ContextualBlock:
    """A block of that kind in float64 with random parameters."""
    layer, following = Pool(), network(net)
    made: ContextualBlock
    if kind == "plain":
        made = PlainBlock(layer, following)
    elif kind == "parallel":
        made = ParallelBlock(layer, following)
    else:
        made = ResidualBlock(layer, following, norm={"skip": "none"}.get(kind, kind.removesuffix("-norm")))  # type: ignore[arg-type]
    return drawn(made.double(), seed)


def drawn(module: M, seed: int = 0) -> M:
    """The module after drawing its parameters from a normal distribution with standard deviation ½."""
    gen = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=gen, dtype=torch.float64))
    return module


def problem(*batch: int, n: int = 5, seed: int = 1, width: int = WIDTH) -> tuple[Tensor, Tensor]:
    gen = torch.Generator().manual_seed(seed)
    query = torch.randn(*batch, width, generator=gen, dtype=torch.float64)
    return query, torch.randn(*batch, n, width, generator=gen, dtype=torch.float64)
