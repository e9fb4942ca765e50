"""Stacks of one layer each, with as many parameters as the others."""

import torch
from torch import Tensor, nn

from ctxblocks.blocks.layer import ContextualLayer
from ctxblocks.blocks.networks import MLP
from ctxblocks.blocks.residual import ResidualBlock
from ctxblocks.blocks.stack import Stack
from ctxblocks.comparison.config import CompareConfig
from ctxblocks.experiments.tasks import derive_seed
from ctxblocks.registration.registry import create
from ctxblocks.registration.tasks import Prompts


def build(config: CompareConfig, layer: str, seed: int) -> Stack:
    """An untrained model: pre-norm blocks between two linear maps; the hidden width makes up for the layer's size.

    The largest of the layers compared has an MLP twice as wide as the block; the others' are as much wider as their
    layers have fewer parameters.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, "weights", layer, seed))
        hidden = _hidden(config, layer)
        blocks = [
            ResidualBlock(create(layer, width=config.width), MLP(config.width, hidden), norm="pre")
            for _ in range(config.blocks)
        ]
        model = Stack(blocks, nn.Linear(config.inputs + 1, config.width), nn.Linear(config.width, config.inputs + 1))
    return model.to(config.torch_device)


def _hidden(config: CompareConfig, layer: str) -> int:
    """The hidden width with which the layer's block is nearest in size to the largest one."""
    per_unit = 2 * config.width + 1  # a row of the first matrix with its bias, and a column of the second
    largest = max(_size(config, each) for each in config.layers) + per_unit * 2 * config.width
    return max(1, round((largest - _size(config, layer)) / per_unit))


def _size(config: CompareConfig, layer: str) -> int:
    with torch.random.fork_rng(devices=[]):
        built: ContextualLayer = create(layer, width=config.width)
    return count(built)


def count(module: nn.Module) -> int:
    """Its parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def predictions(model: Stack, prompts: Prompts) -> Tensor:  # (tasks, n + 1)
    """`ŷ` behind the first `i` tokens, the last entry of the output at the query."""
    return model.prefixes(prompts.query, prompts.context)[..., -1]
