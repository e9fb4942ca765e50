"""How a layer's output is made of the network's and of what bypasses it, read off the numbers."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ctxblocks_transformers.wiring.tracing import Call, alike


def joined(
    layer: nn.Module,
    calls: Mapping[str, Call],
    bypasses: Mapping[str, Tensor],  # path of the module that is given r -> r (tokens, d)
    branches: Mapping[str, Tensor],  # path of the module that puts out the branch -> its output (tokens, d)
) -> dict[str, Any] | None:
    """`bypass`, `scale`, `gain` and `inner` of a specification, None where no sum gives the layer's output.

    First `a r + b y` is the layer's output, `a` and `b` attributes of the layer or one; else `r + y` is what a later
    module of the layer is given.
    """
    out = calls[""].put
    found = dict(_factors(layer, out.shape[-1]))
    for bypass, r in bypasses.items():
        for y in branches.values():
            for a, b in _pairs(found):
                if r.shape == y.shape == out.shape and alike(out, found[a] * r + found[b] * y):
                    return {"bypass": bypass, "scale": b, "gain": a}
    given = [call.given for call in calls.values() if call.path and call.given.shape == out.shape]
    for bypass, r in bypasses.items():
        for path, y in branches.items():
            if path and r.shape == y.shape == out.shape and any(alike(x, r + y) for x in given):
                return {"bypass": bypass, "inner": path}
    return None


def factor_of_sum(layer: nn.Module, out: Tensor, h: Tensor, branches: tuple[Tensor, Tensor]) -> str:
    """The attribute `s` of the layer with `out = h + s (a + b)`, "" where it is one or there is none."""
    if not out.shape == h.shape == branches[0].shape == branches[1].shape:
        return ""
    found = {name: value for name, value in _factors(layer, out.shape[-1]) if isinstance(value, float)}
    return next((name for name, value in found.items() if alike(out, h + value * (branches[0] + branches[1]))), "")


def _pairs(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Pairs of factors, those of one number first."""
    listed = list(names)
    yield from sorted(((a, b) for a in listed for b in listed), key=lambda pair: sum(map(bool, pair)))


def _factors(layer: nn.Module, width: int) -> Iterator[tuple[str, Tensor | float]]:
    """One, and every attribute of the layer that is a number, or one number for each channel."""
    yield "", 1.0
    for name, value in vars(layer).items():
        if isinstance(value, float) and value not in (0.0, 1.0):
            yield name, value
    for name, tensor in [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]:
        if tensor.numel() in (1, width) and tensor.dim() <= 1 and not bool(torch.all(tensor == 1)):
            yield name, tensor.detach()
