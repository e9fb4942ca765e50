"""The bias shift written into the last dense layer of a network: `ΔW_down = Δb' uᵀ / ‖u‖²` [theory, Section 4]."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from ctxblocks import ArgumentError, LinearWeights, RankOneChange, last_layer_key
from ctxblocks.numerics import widen
from ctxblocks_transformers.export.changes import Change, Update, change_of
from ctxblocks_transformers.wiring.sites import Hooks, Site, rows

Call = tuple[tuple[Any, ...], dict[str, Any]]
"""The arguments of a module's call."""


def folded(update: Update, model: Any, caller: str) -> list[Change]:
    """The changes of last dense layers that stand for the bias shifts, one for each block that has one.

    The inputs of those layers are recorded in one pass of the updated model over the remaining token.

    Raises:
        ArgumentError: a block has a norm after its network, or more than one last dense layer.
    """
    shifts = [(site, each.shift[0]) for site, each in update.placed(model) if each.shift is not None]
    layers = [last_of(site, caller) for site, _ in shifts]
    calls = _calls(update, model, [weights for _, weights in layers])
    changes = []
    for index, ((site, shift), (path, weights)) in enumerate(zip(shifts, layers, strict=True)):
        if index not in calls:
            raise ArgumentError(
                f"{caller}: the last dense layer of block {site.block.index} was not called, needs it to be (a fused kernel "
                f"probably bypasses it); load the model without fused kernels, or use site='out-proj'"
            )
        mixture = weights.parameter.dim() == 3
        key, absent = last_layer_key((_gated_inputs if mixture else _input)(weights, *calls.pop(index)), mixture)
        if bool(absent):
            if bool((shift != 0).any()):
                raise ArgumentError(
                    f"{caller}: the input of the last dense layer of block {site.block.index} is zero, needs a non-zero input to "
                    f"fold the shift on; use site='out-proj', which has no shift"
                )
            key = torch.zeros_like(key)
        column = (shift.to(key.device) / site.block.scale).to(key.dtype)
        changes.append(change_of(site, path, RankOneChange(weights, column.expand(*key.shape[:-1], -1), key)))
    return changes


def last_of(site: Site, caller: str) -> tuple[str, LinearWeights]:
    """The last dense layer of a block, or of its experts, that takes the bias shift, with its path.

    Raises:
        ArgumentError: no layer can take it exactly.
    """
    last = site.block.weights(*site.block.spec.last)
    stacked = {path: weights for path, weights in last.items() if weights.parameter.dim() == 3}
    chosen = stacked if len(stacked) == 1 else last
    if site.foldable and len(chosen) == 1:
        return next(iter(chosen.items()))
    why = f"{len(last)} last dense layers" if site.foldable else f"a norm after its network ({site.block.spec.wiring})"
    raise ArgumentError(
        f"{caller}: block {site.block.index} has {why}, needs one last dense layer that the shift can be folded into; "
        f"make the update with site='out-proj', which has no shift"
    )


def _calls(update: Update, model: Any, layers: list[LinearWeights]) -> dict[int, Call]:
    """The arguments of each layer's module in one pass of the updated model."""
    calls: dict[int, Call] = {}

    def recorder(index: int) -> Callable[[tuple[Any, ...], dict[str, Any]], None]:
        def record(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            calls[index] = (args, kwargs)

        return record

    with update.applied(model), torch.no_grad(), Hooks() as hooks:
        for index, weights in enumerate(layers):
            hooks.arguments(weights.module, recorder(index))
        model(**update.inputs(model))
    return calls


def _input(weights: LinearWeights, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:  # (m,)
    """The input of a dense layer."""
    value: Tensor = (*args, *kwargs.values())[0]
    return widen(rows(value)[0])


def _gated_inputs(weights: LinearWeights, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:  # (experts, m)
    """`g_j u_j`: the input of every expert's last layer times its gate, 0 for inactive experts.

    It is the gradient of any one entry of the experts' output with respect to that entry's rows of the matrices, whatever
    way the experts are computed in.
    """
    leaf = weights.parameter.detach().requires_grad_()
    with torch.enable_grad():
        output = functional_call(weights.module, {weights.name: leaf}, args, kwargs)
        entry = rows(output if isinstance(output, Tensor) else output[0])[0, 0]
        (gradient,) = torch.autograd.grad(entry, leaf)
    matrices = gradient.mT if weights.transposed else gradient  # (experts, d, m)
    return widen(matrices[:, 0])
