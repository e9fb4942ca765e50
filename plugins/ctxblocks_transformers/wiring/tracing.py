"""The inputs and outputs of all modules of one layer, recorded in one pass."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ctxblocks import ArgumentError
from ctxblocks_transformers.wiring.sites import Hooks, rows


@dataclasses.dataclass(frozen=True)
class Call:
    """The first call of a module.

    Attributes:
        path: in the layer, "" for the layer itself.
        module: the module.
        input: its first tensor argument, one row for each token.
        output: its first output tensor, one row for each token.
    """

    path: str
    module: nn.Module
    input: Tensor
    output: Tensor


def trace(model: nn.Module, layer: nn.Module, inputs: Mapping[str, Any], perturb: bool = False) -> dict[str, Call]:
    """The calls of all modules of a layer by path, in the order in which they ended.

    With `perturb`, the layer's inputs are changed at every token but the last.

    Raises:
        ArgumentError: the layer is called more than once in a pass, so that a change of its weights acts several times.
    """
    given: dict[str, Tensor] = {}
    calls: dict[str, Call] = {}
    with torch.no_grad(), Hooks() as hooks:
        if perturb:
            length = inputs["input_ids"].shape[1]
            hooks.before(layer, lambda x: _perturbed(x, x.shape.index(length)))
        for path, module in layer.named_modules():
            if not isinstance(module, nn.ModuleList):
                hooks.enter_context(_watched(path, module, given, calls))
        counted: list[Tensor] = []
        hooks.before(layer, counted.append)
        model(**inputs)
    if len(counted) > 1:
        raise ArgumentError(
            f"model: {type(model).__name__} calls a layer {len(counted)} times in one pass, needs once, since a change of its "
            f"weights would act every time"
        )
    return calls


@contextlib.contextmanager
def _watched(path: str, module: nn.Module, given: dict[str, Tensor], calls: dict[str, Call]) -> Iterator[None]:
    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tensors = [
            x for x in (*args, *kwargs.values()) if isinstance(x, Tensor) and x.is_floating_point() and x.dim() > 1
        ]
        if tensors and path not in given:
            given[path] = rows(kwargs.get("hidden_states", tensors[0])).clone()

    def after(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        first = output[0] if isinstance(output, tuple | list) and output else output
        if path in given and path not in calls and isinstance(first, Tensor) and first.dim() > 1:
            calls[path] = Call(path, module, given[path], rows(first).clone())

    handles = (
        module.register_forward_pre_hook(before, with_kwargs=True),
        module.register_forward_hook(after),
    )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _perturbed(x: Tensor, axis: int) -> Tensor:
    others = x.narrow(axis, 0, x.shape[axis] - 1)
    return torch.cat([others.flip(-1) + x.abs().mean(), x.narrow(axis, -1, 1)], axis)


def alike(a: Tensor, b: Tensor) -> bool:
    """Whether two tables of rows agree up to round-off: a few units in half types, many in others."""
    if a.shape != b.shape:
        return False
    units = 4 if a.dtype in (torch.bfloat16, torch.float16) else 1000
    return _apart(a, b) <= units * torch.finfo(a.dtype).eps


def moved(a: Tensor, b: Tensor) -> bool:
    """Whether two rows differ by more than float32's round-off, which may arise where experts take tokens in another order."""
    return _apart(a, b) > max(100 * torch.finfo(torch.float32).eps, 4 * torch.finfo(a.dtype).eps)


def _apart(a: Tensor, b: Tensor) -> float:
    size = float(torch.maximum(a.abs().max(), b.abs().max()))
    return float((a.double() - b.double()).abs().max()) / size if size else 0.0


def rows_among(some: Tensor, every: Tensor) -> bool:
    """Whether every row of one table is also a row of the other."""
    if some.shape[-1] != every.shape[-1]:
        return False
    return bool((some.unsqueeze(-2) == every).all(-1).any(-1).all())
