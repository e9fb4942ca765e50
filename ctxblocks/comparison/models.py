"""Models of equal size: a stack of blocks for each layer."""

import torch
from torch import Tensor, nn

from ctxblocks.blocks.layer import ContextualLayer
from ctxblocks.blocks.networks import MLP
from ctxblocks.blocks.residual import ResidualBlock
from ctxblocks.blocks.stack import Stack
from ctxblocks.comparison.config import CompareConfig
from ctxblocks.registration.registry import create
from ctxblocks.registration.tasks import Prompts
from ctxblocks.runs.seeds import derive_seed


def build(config: CompareConfig, layer: str, seed: int) -> Stack:
    """An untrained model: pre-norm blocks between two linear maps, with MLPs that compensate for the size of the layer.

    The largest layer gets an MLP twice as wide as the block; the MLPs of other layers are wider, so that all models have as
    many parameters.
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
    """The hidden width with which the block of a layer comes closest in size to that of the largest layer."""
    per_unit = 2 * config.width + 1  # a row of the first matrix with its bias, and a column of the second
    largest = max(_size(config, each) for each in config.layers) + per_unit * 2 * config.width
    return max(1, round((largest - _size(config, layer)) / per_unit))


def _size(config: CompareConfig, layer: str) -> int:
    with torch.random.fork_rng(devices=[]):
        built: ContextualLayer = create(layer, width=config.width)
    return count(built)


def count(module: nn.Module) -> int:
    """The number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def predictions(model: Stack, prompts: Prompts) -> Tensor:  # (tasks, n + 1)
    """`ŷ` after the first `i` tokens: the last entry of the output at the query."""
    return model.prefixes(prompts.query, prompts.context)[..., -1]
