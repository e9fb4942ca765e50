"""Blocks, networks and layers on which the conformance suite and `ctxblocks verify` run, with random weights."""

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
NOISE = 0.1  # standard deviation of the noise on parameters, so that biases do not stay 0 and scales not 1


def admits(kind: str, layer: ContextualLayer) -> bool:
    """Whether a block of this kind accepts the layer.

    Some blocks refuse a layer that contains a skip connection, or whose tokens and queries differ in width.
    """
    block = kind.split("/")[0]
    if layer.has_skip:
        return block == "plain"
    return layer.context_width == layer.width or block in ("plain", "skip", "post-norm")


def build(kind: str, layer: ContextualLayer, seed: int, hidden: int | None = None) -> ContextualBlock:
    """A block of this kind around the layer, in its dtype and on its device.

    Args:
        kind: one of `KINDS`, such as `"pre-norm/gated"`.
        layer: the block's layer, which is not modified.
        seed: seed of the random network and norms.
        hidden: width of the network's hidden layer; by default the layer's width plus 3.
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
    """Add Gaussian noise to every parameter, in place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in modules:
            for parameter in module.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype), alpha=NOISE)


def build_layer(spec: LayerSpec, config: Any, seed: int) -> ContextualLayer:
    """The layer as its plugin builds it after `torch.manual_seed(seed)`, in float64 on the CPU."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer: ContextualLayer = spec.build(config)
    return layer.double()


def make_layer(spec: LayerSpec, config: Any, seed: int) -> ContextualLayer:
    """The layer of `build_layer`, with noise on every parameter."""
    layer = build_layer(spec, config, seed)
    randomize([layer], seed + 1)
    return layer
