"""The bias shift written into the last dense layer of a network: `ΔW_down = Δb' uᵀ / ‖u‖²` [theory, Section 4].

With several remaining tokens it is `ΔW_down = Σ_t Δb'_t (U⁺)_tᵀ`, with the rows `u_t` of `U`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from ctxblocks import ArgumentError, LinearWeights, RankOneChange, last_layer_key
from ctxblocks.numerics import widen
from ctxblocks_transformers.export.changes import Change, Update, change_of
from ctxblocks_transformers.export.tokens import joint_keys
from ctxblocks_transformers.wiring.sites import Hooks, Site, rows

Call = tuple[tuple[Any, ...], dict[str, Any]]
"""The arguments of a module's call."""


def folded(update: Update, model: Any, moved: Sequence[int], caller: str) -> list[Change]:
    """The changes of last dense layers that stand for the bias shifts, one for each block that has one.

    The inputs of those layers are recorded in one pass of the updated model over the remaining tokens.

    Raises:
        ArgumentError: a block has a norm after its network, or more than one last dense layer.
    """
    shifts = [(site, each.shift) for site, each in update.placed(model) if each.shift is not None]
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
        read = (_gated_inputs if mixture else _inputs)(weights, *calls.pop(index))
        keys, absent = _keys(read, mixture)
        columns = (shift.to(keys.device) / site.block.scale).to(keys.dtype)
        for t in moved:
            if bool(absent[t]) and bool((shift[t] != 0).any()):
                raise ArgumentError(
                    f"{caller}: the input of the last dense layer of block {site.block.index} is zero, needs a non-zero input to "
                    f"fold the shift on; use site='out-proj', which has no shift"
                )
        terms = [RankOneChange(weights, columns[t].expand(*keys[t].shape[:-1], -1), keys[t]) for t in moved]
        changes.append(change_of(site, path, terms))
    return changes


def _keys(
    reads: Tensor,  # u (tokens, m), or of a mixture (tokens, experts, m)
    mixture: bool,
) -> tuple[Tensor, Tensor]:  # like reads; (tokens,), whether there is none
    """The key of every token, 0 where its input is zero."""
    key, absent = last_layer_key(reads, mixture)
    if len(reads) > 1:
        key = joint_keys(reads.flatten(1)).to(reads.dtype).reshape(reads.shape)
    return torch.where(absent.reshape(-1, *[1] * (key.dim() - 1)), 0.0, key), absent


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


def _inputs(weights: LinearWeights, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:  # (tokens, m)
    """The inputs of a dense layer."""
    value: Tensor = (*args, *kwargs.values())[0]
    return widen(rows(value))


def _gated_inputs(
    weights: LinearWeights, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor:  # (tokens, experts, m)
    """`g_j u_j`: the input of every expert's last layer times its gate, 0 for inactive experts.

    It is the gradient of any one entry of the experts' output with respect to that entry's rows of the matrices, whatever
    way the experts are computed in.
    """
    leaf = weights.parameter.detach().requires_grad_()
    with torch.enable_grad():
        output = functional_call(weights.module, {weights.name: leaf}, args, kwargs)
        entries = rows(output if isinstance(output, Tensor) else output[0])[:, 0]  # (tokens,)
        gradients = [torch.autograd.grad(entry, leaf, retain_graph=True)[0] for entry in entries]
    matrices = [each.mT if weights.transposed else each for each in gradients]  # (experts, d, m) each
    return torch.stack([widen(each[:, 0]) for each in matrices])
