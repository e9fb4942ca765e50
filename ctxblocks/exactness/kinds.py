"""Block kinds and networks that every property and `ctxblocks verify` are tried on."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ctxblocks.blocks.block import ContextualBlock
from ctxblocks.blocks.layer import ContextualLayer
from ctxblocks.blocks.mixture import MixtureOfExperts
from ctxblocks.blocks.networks import MLP, GatedMLP, Network
from ctxblocks.blocks.residual import ParallelBlock, PlainBlock, ResidualBlock
from ctxblocks.registration.specs import LayerSpec

BLOCKS: dict[str, Callable[[ContextualLayer, Network], ContextualBlock]] = {
    "plain": PlainBlock,
    "skip": ResidualBlock,
    "pre-norm": lambda layer, network: ResidualBlock(layer, network, norm="pre"),
    "post-norm": lambda layer, network: ResidualBlock(layer, network, norm="post"),
    "sandwich": lambda layer, network: ResidualBlock(layer, network, norm="sandwich"),
    "parallel": ParallelBlock,
}
NETWORKS: dict[str, Callable[[int, int], Network]] = {
    "mlp": MLP,
    "gated": GatedMLP,
    "moe": lambda width, hidden: MixtureOfExperts(width, hidden, experts=4, active=2),
}
KINDS = tuple(f"{block}/{network}" for block in BLOCKS for network in NETWORKS)
NOISE = 0.1  # added to every parameter, so that zero biases and unit scales are seen too


def admits(kind: str, layer: ContextualLayer) -> bool:
    """Whether a block of that kind can hold the layer.

    A layer with a skip of its own, or with tokens of another width than its query, fits some blocks only; those refuse it.
    """
    block = kind.split("/")[0]
    if layer.has_skip:
        return block == "plain"
    return layer.context_width == layer.width or block in ("plain", "skip", "post-norm")


def build(kind: str, layer: ContextualLayer, seed: int, hidden: int | None = None) -> ContextualBlock:
    """A block of that kind around the layer, in its dtype and on its device, the rest of it randomised from the seed.

    Args:
        kind: one of `KINDS`.
        layer: left as it is.
        seed: of the network and the norms.
        hidden: the network's; by default the layer's width plus 3.
    """
    block, network = kind.split("/")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built = BLOCKS[block](layer, NETWORKS[network](layer.width, hidden or layer.width + 3))
    randomize([module for name, module in built.named_children() if name != "layer"], seed + 1)
    like = next(layer.parameters(), torch.empty(0))
    for name, module in built.named_children():
        if name != "layer":
            module.to(device=like.device, dtype=like.dtype)
    return built


def randomize(modules: list[nn.Module], seed: int) -> None:
    """Add noise to every parameter, in place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in modules:
            for parameter in module.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype), alpha=NOISE)


def make_layer(spec: LayerSpec, config: Any, seed: int) -> ContextualLayer:
    """The layer of that configuration in float64 on the CPU, every parameter randomised from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer: ContextualLayer = spec.build(config)
    layer = layer.double()
    randomize([layer], seed + 1)
    return layer
