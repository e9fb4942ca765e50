"""The shift of what bypasses a network, folded into its last dense layer: `ΔW_down = Δb' uᵀ / ‖u‖²` [theory, Section 4]."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ctxblocks import ArgumentError, LeastNorm
from ctxblocks_transformers.export.changes import Change, placed_sites
from ctxblocks_transformers.updates.derive import wide
from ctxblocks_transformers.updates.model_update import ModelUpdate
from ctxblocks_transformers.wiring.hooks import Hooks, rows
from ctxblocks_transformers.wiring.reads import SiteView
from ctxblocks_transformers.wiring.view import Weights

FOLDABLE = ("pre-norm", "post-norm", "parallel")
"""Wirings in which nothing but a factor stands between the last dense layer and the place of the shift."""


def folded(update: ModelUpdate, model: Any, caller: str) -> list[Change]:
    """The changes of last dense layers that stand for the shifts, one for each block that has one.

    What those layers read is taken from one run of the patched model on the token that stays.

    Raises:
        ArgumentError: a block has a norm behind its network, or more than one last dense layer.
    """
    sites = [(site, each.shift) for site, each in placed_sites(update.view(model), update) if each.shift is not None]
    layers = [last_of(site, caller) for site, _ in sites]
    calls: dict[int, tuple[tuple[Any, ...], dict[str, Any]]] = {}
    with update.applied(model), torch.no_grad(), Hooks() as hooks:
        for index, weights in enumerate(layers):
            hooks.arguments(weights.module, _recorder(calls, index))
        model(**update.inputs(model))
    found = []
    for index, (site, shift) in enumerate(sites):
        if index not in calls:
            raise ArgumentError(
                f"{caller}: the last dense layer of block {site.block.index} was not called, needs it to be (a fused kernel goes "
                f"round it?); load the model without fused kernels, or use site='out-proj'"
            )
        many = layers[index].parameter.dim() == 3
        read = (_experts_read if many else _read)(layers[index], *calls.pop(index))
        key, absent = least_norm(read)
        if absent and bool((shift != 0).any()):
            raise ArgumentError(
                f"{caller}: the last dense layer of block {site.block.index} reads zero, needs something to fold the shift on; "
                f"use site='out-proj', which has no shift"
            )
        column = (shift.to(key.device) / site.block.scale).to(key.dtype)
        found.append(Change(site.block, layers[index], column.expand(*key.shape[:-1], -1), key))
    return found


def last_of(site: SiteView, caller: str) -> Weights:
    """The layer that a block's shift is folded into: its last one, or that of its experts.

    Raises:
        ArgumentError: there is none that could carry it exactly.
    """
    spec = site.block.spec
    last = site.block.last()
    many = [weights for weights in last if weights.parameter.dim() == 3]
    chosen = many if len(many) == 1 else last
    if spec.wiring in FOLDABLE and len(chosen) == 1:
        return chosen[0]
    why = f"{len(last)} last dense layers" if spec.wiring in FOLDABLE else f"a norm behind its network ({spec.wiring})"
    raise ArgumentError(
        f"{caller}: block {site.block.index} has {why}, needs one last dense layer that the shift can be folded into; "
        f"derive the update with site='out-proj', which has no shift"
    )


def least_norm(
    read: Tensor,  # (d,) or (experts, d)
) -> tuple[Tensor, bool]:
    """`u / ‖u‖²` over all entries together, and whether it does not exist."""
    key, _, absent = LeastNorm().key(read.flatten())
    none = bool(absent)
    return (torch.zeros_like(read) if none else key.reshape(read.shape)), none


def _recorder(calls: dict[int, tuple[tuple[Any, ...], dict[str, Any]]], index: int) -> Any:
    def record(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls[index] = (args, kwargs)

    return record


def _read(weights: Weights, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:  # (d,)
    """What a dense layer was given."""
    value: Tensor = (*args, *kwargs.values())[0]
    return wide(rows(value)[0])


def _experts_read(weights: Weights, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:  # (experts, d)
    """`g_j u_j`: what every expert's last layer read times its gate, 0 for those not active.

    It is the gradient of any one entry of the experts' output with respect to that entry's rows of the matrices, so no
    more need be known of how they are computed.
    """
    module: nn.Module = weights.module
    inputs = weights.parameter.detach().requires_grad_()
    with torch.enable_grad():
        output = functional_call(module, {weights.name: inputs}, args, kwargs)
        entry = rows(output if isinstance(output, Tensor) else output[0])[0, 0]
        (gradient,) = torch.autograd.grad(entry, inputs)
    matrices = gradient if weights.layout == "rows" else gradient.mT  # (experts, m, d)
    return wide(matrices[:, 0])
