"""The models of the experiments, built from their configurations."""

import torch
from torch import Tensor, nn

from ctxblocks.blocks.block import ContextualBlock
from ctxblocks.blocks.networks import MLP
from ctxblocks.blocks.residual import PlainBlock, ResidualBlock
from ctxblocks.blocks.stack import Stack
from ctxblocks.experiments.presets import Configuration, ModelConfig
from ctxblocks.registration.registry import create
from ctxblocks.registration.tasks import Prompts
from ctxblocks.runs.seeds import derive_seed
from ctxblocks.theorems.transfer import transfer

Model = ContextualBlock | Stack


def build(config: Configuration, model: ModelConfig) -> Model:
    """The untrained model: the same seed gives the same weights on every device and in every dtype."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, "weights", model.name))
        built = _plain(config, model) if model.width is None else _stack(config, model, model.width)
    return built.to(config.device, config.torch_dtype)


def _plain(config: Configuration, model: ModelConfig) -> Model:
    layer = create(model.layer, width=config.width, **model.options)
    return PlainBlock(layer, MLP(config.width, model.network_width))


def _stack(config: Configuration, model: ModelConfig, width: int) -> Model:
    blocks = [
        ResidualBlock(
            create(model.layer, width=width, **model.options),
            MLP(width, model.network_width),
            norm=model.norm or "none",
        )
        for _ in range(model.blocks)
    ]
    return Stack(blocks, nn.Linear(config.width, width), nn.Linear(width, config.width))


def predict(model: Model, prompts: Prompts) -> Tensor:  # (tasks,)
    """`ŷ`, the last component of the output at the query, with the context."""
    output: Tensor = model(prompts.query, prompts.context)
    return output[..., -1]


def predict_updated(model: Model, prompts: Prompts) -> Tensor:  # (tasks,)
    """`ŷ` of the query alone, without any context, by weights that contain the update of the context [Eq. 2]."""
    if isinstance(model, Stack):
        output: Tensor = model(prompts.query, None, update=transfer(model, prompts.query, prompts.context))
    else:
        output = model(prompts.query, None, update=transfer(model, prompts.query, prompts.context))
    return output[..., -1]
