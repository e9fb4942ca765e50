"""Layers that each violate one property of the contract, and the correct layer from which they are derived."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from ctxblocks import ContextualLayer, LayerSpec, Traits, hookimpl, registry


@attrs.frozen(kw_only=True)
class Config:
    """The configuration of every layer here."""

    width: int


@attrs.define(kw_only=True)
class MutableConfig:
    """A configuration that can be changed after the layer was built."""

    width: int


class Honest(ContextualLayer):
    """`A(C, x) = O tanh(x + V c_n + V c_{n−1} / 2 + … )`: later tokens have larger weights."""

    def __init__(self, config: Config) -> None:
        super().__init__(config.width)
        self.value = nn.Linear(config.width, config.width)
        self.output = nn.Linear(config.width, config.width)

    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        weights = 0.5 ** torch.arange(context.shape[-2] - 1, -1, -1, dtype=query.dtype, device=query.device)
        output: Tensor = self.output(torch.tanh(query + (weights.unsqueeze(-1) * self.value(context)).sum(-2)))
        return output


class IgnoresContext(Honest):
    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        return super().forward(query, context[..., :0, :])


class MixesBatch(Honest):
    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        output = super().forward(query, context)
        return output - 0.1 * output.flatten(0, -2).mean(0) if output.dim() > 1 else output


class Remembers(Honest):
    last: Tensor | None = None

    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        before, self.last = self.last, query.detach().mean()
        output = super().forward(query, context)
        return output if before is None else output + 0.1 * before


class MutatesContext(Honest):
    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        with torch.no_grad():
            context.mul_(2)
        return super().forward(query, context)


class CountsCalls(Honest):
    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.calls: Tensor
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(query, context)


class DropsOut(Honest):
    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        return nn.functional.dropout(super().forward(query, context), 0.2, self.training)


class Random(Honest):
    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        return super().forward(query, context) * (1 + 0.1 * torch.rand(()).to(query))


class PrefixesOffByOne(Honest):
    def prefixes(self, query: Tensor, context: Tensor) -> Tensor:
        return super().prefixes(query, context).roll(1, dims=-2)


class SuffixesOffByOne(Honest):
    def suffixes(self, query: Tensor, context: Tensor) -> Tensor:
        return super().suffixes(query, context).roll(1, dims=-2)


class SequenceSeesItself(Honest):
    def sequence(self, tokens: Tensor) -> Tensor:
        self.check_sequence(tokens)
        rows = [self(tokens[..., i, :], tokens[..., : i + 1, :]) for i in range(tokens.shape[-2])]
        return torch.stack(rows, dim=-2) if rows else tokens.clone()


class LooksAhead(Honest):
    def causal(self, queries: Tensor, context: Tensor) -> Tensor:
        self.check_causal(queries, context)
        rows = [self(queries[..., i, :], context[..., : i + 1, :]) for i in range(queries.shape[-2])]
        return torch.stack(rows, dim=-2)


class CutsGradient(Honest):
    def causal(self, queries: Tensor, context: Tensor) -> Tensor:
        return super().causal(queries, context.detach())


class ForgetsBeyond64(Honest):
    def causal(self, queries: Tensor, context: Tensor) -> Tensor:
        self.check_causal(queries, context)
        rows = [self(queries[..., i, :], context[..., i - i % 64 : i, :]) for i in range(queries.shape[-2])]
        return torch.stack(rows, dim=-2)


class WrongDtype(Honest):
    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        return super().forward(query, context).float()


class KeepsAxis(Honest):
    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        return super().forward(query, context).unsqueeze(-2)


class BreaksOnNoTokens(Honest):
    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        return super().forward(query, context.mean(-2, keepdim=True))


class GradientAtZero(Honest):
    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        return super().forward(query, context) * query.square().sum(-1, keepdim=True).sqrt()


class OtherWithoutGradients(Honest):
    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        output = super().forward(query, context)
        return output if torch.is_grad_enabled() else 1.1 * output


class ReadsMemory(Honest):
    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        packed = torch.empty(context.shape, dtype=context.dtype)  # contiguous
        return super().forward(
            query, torch.as_strided(context, packed.shape, packed.stride()) if context.numel() else context
        )


class HidesState(Honest):
    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.scale = 1 + float(torch.rand(()))

    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        return self.scale * super().forward(query, context)


class Unchecked(Honest):
    def __call__(self, query: Tensor, context: Tensor) -> Tensor:
        output: Tensor = nn.Module.__call__(self, query[..., : self.width], context[..., : self.width])
        return output


class Converts(Honest):
    def __call__(self, query: Tensor, context: Tensor) -> Tensor:
        like = self.output.weight
        return super().__call__(query.to(like), context.to(like))


class OtherWidth(Honest):
    def __init__(self, config: Config) -> None:
        super().__init__(Config(width=config.width + 1))


class Orderless(Honest):
    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        output: Tensor = self.output(torch.tanh(query + self.value(context).sum(-2)))
        return output


class Additive(Honest):
    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        output: Tensor = self.output(query) + self.value(context).sum(-2)
        return output


class Windowed(Honest):
    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        return super().forward(query, context[..., -2:, :])


class Cross(Honest):
    """The correct layer with tokens of a width larger by 2 than the query's."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.context_width = config.width + 2
        self.value = nn.Linear(self.context_width, config.width)


class CrossSequence(Cross):
    def sequence(self, tokens: Tensor) -> Tensor:
        return tokens.clone()


def spec(build: Callable[[Any], Any] = Honest, **changes: Any) -> LayerSpec:
    """A specification with the name `fault` and these changes; by default of the correct layer."""
    return LayerSpec(**{"name": "fault", "summary": "a layer", "config": Config, "build": build, **changes})


def claiming(**claims: Any) -> Callable[[Any], Traits]:
    """A function that returns these claims for every configuration."""
    return lambda config: Traits(**claims)


class Plugin:
    """A plugin that provides one layer."""

    def __init__(self, layer: LayerSpec) -> None:
        self.layer = layer

    @hookimpl
    def ctxblocks_layers(self) -> list[LayerSpec]:
        return [self.layer]


@contextmanager
def registered(layer: LayerSpec) -> Iterator[LayerSpec]:
    """The registry contains this layer within the context."""
    plugin = Plugin(layer)
    registry().register(plugin)
    try:
        yield layer
    finally:
        registry().unregister(plugin)
