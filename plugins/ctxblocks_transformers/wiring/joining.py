"""How a layer adds its network's output to the residual stream, inferred from recorded values."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ctxblocks_transformers.wiring.tracing import Call, alike


def joined(
    layer: nn.Module,
    calls: Mapping[str, Call],
    bypasses: Mapping[str, Tensor],  # path of the module whose input is r -> r (tokens, d)
    branches: Mapping[str, Tensor],  # path of the module whose output is the branch -> that output (tokens, d)
) -> dict[str, Any] | None:
    """`bypass`, `scale`, `gain` and `inner` of a specification, None where no sum gives the layer's output.

    First, `a r + b y` is compared with the layer's output, where `a` and `b` are attributes of the layer or one; then
    `r + y` with the inputs of the layer's modules.
    """
    out = calls[""].output
    factors = dict(_factors(layer, out.shape[-1]))
    for bypass, r in bypasses.items():
        for y in branches.values():
            for a, b in _pairs(factors):
                if r.shape == y.shape == out.shape and alike(out, factors[a] * r + factors[b] * y):
                    return {"bypass": bypass, "scale": b, "gain": a}
    inputs = [call.input for call in calls.values() if call.path and call.input.shape == out.shape]
    for bypass, r in bypasses.items():
        for path, y in branches.items():
            if path and r.shape == y.shape == out.shape and any(alike(x, r + y) for x in inputs):
                return {"bypass": bypass, "inner": path}
    return None


def factor_of_sum(layer: nn.Module, out: Tensor, h: Tensor, branches: tuple[Tensor, Tensor]) -> str:
    """The attribute `s` of the layer for which `out = h + s (a + b)`, "" if `s` is one or there is none."""
    if not out.shape == h.shape == branches[0].shape == branches[1].shape:
        return ""
    numbers = {name: value for name, value in _factors(layer, out.shape[-1]) if isinstance(value, float)}
    return next((name for name, value in numbers.items() if alike(out, h + value * (branches[0] + branches[1]))), "")


def _pairs(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Pairs of factors, those with most ones first."""
    listed = list(names)
    yield from sorted(((a, b) for a in listed for b in listed), key=lambda pair: sum(map(bool, pair)))


def _factors(layer: nn.Module, width: int) -> Iterator[tuple[str, Tensor | float]]:
    """One, and every attribute of the layer that is a number or a number for each channel."""
    yield "", 1.0
    for name, value in vars(layer).items():
        if isinstance(value, float) and value not in (0.0, 1.0):
            yield name, value
    for name, tensor in [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]:
        if tensor.numel() in (1, width) and tensor.dim() <= 1 and not bool(torch.all(tensor == 1)):
            yield name, tensor.detach()
