"""An update written into the weights of a copy of the model [Thm. 2.2, Thm. B.2]."""

import copy
import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from ctxblocks import ArgumentError
from ctxblocks_transformers.export.changes import (
    Change,
    add_bias,
    bias_for_shift,
    changes_of_readers,
    one_token,
    placed_sites,
    refuse_offsets,
    refuse_shared,
)
from ctxblocks_transformers.export.fold import folded
from ctxblocks_transformers.updates.derive import shift_rows, shifted
from ctxblocks_transformers.updates.difference import Difference, refuse_inert
from ctxblocks_transformers.updates.model_update import ModelUpdate, inputs_of
from ctxblocks_transformers.wiring.family import allowed
from ctxblocks_transformers.wiring.reads import SiteView, outputs_of
from ctxblocks_transformers.wiring.view import ModelView, Weights


def merge(update: ModelUpdate, model: Any, place: str) -> Any:
    """`ModelUpdate.merged`."""
    if place not in ("output-bias", "last-layer"):
        raise ArgumentError(f"place: got {place!r}, needs 'output-bias' or 'last-layer'")
    one_token(update, "merged")
    refuse_offsets(update.view(model), update, "merged", biases=True)
    merged = copy.deepcopy(model).eval()
    view = update.view(merged)
    last = folded(update, merged, "merged") if place == "last-layer" else []
    changes = [*changes_of_readers(view, update), *last]
    biases = [] if last else [pair for pair in placed_sites(view, update) if pair[1].shift is not None]
    refuse_shared(merged, _touched(view, changes, [site for site, _ in biases]), "merged")
    for change in changes:
        change.add()
    for site, each in biases:
        assert each.shift is not None
        _place(site, each.shift)
    merged.register_forward_pre_hook(Positions(update.positions), with_kwargs=True)
    with torch.no_grad():
        output = outputs_of(merged(**update.inputs(merged)))
    refuse_unfaithful(update.difference(output), update, model, "merged")
    return merged


def _touched(view: ModelView, changes: list[Change], sites: list[SiteView]) -> list[tuple[str, Tensor]]:
    """Every parameter that a merge changes, by name."""
    weights = [(change.block, change.weights) for change in changes]
    weights += [(site.block, dense) for site in sites if (dense := bias_for_shift(site)) is not None]
    found = [(block.parameter_name(each), each.parameter) for block, each in weights]
    return found + [
        (block.parameter_name(each, "bias"), bias) for block, each in weights if (bias := _bias(each)) is not None
    ]


def _bias(weights: Weights) -> Tensor | None:
    return None if weights.bias is None else getattr(weights.module, weights.bias)


def _place(site: SiteView, shift: Tensor) -> None:
    """The shift as a bias, before the branch is scaled; where none is right, on a module's output."""
    dense = bias_for_shift(site)
    if dense is not None:
        add_bias(dense, shift / site.block.scale)
        return
    module = shifted(site)
    name = f"context_shift_{len(module._forward_hooks)}"
    device = next(site.block.layer.parameters()).device
    module.register_buffer(name, shift.to(device))
    module.register_forward_hook(Shift(name))


@dataclasses.dataclass(frozen=True)
class Shift:
    """A forward hook that adds a buffer of the module to its output.

    Attributes:
        name: the buffer's.
    """

    name: str

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """The output, shifted."""
        shift: Tensor = getattr(module, self.name)
        if isinstance(output, Tensor):
            return shift_rows(output, shift)
        return type(output)((shift_rows(output[0], shift), *output[1:]))


@dataclasses.dataclass(frozen=True)
class Positions:
    """A hook before the model that gives one token without a position the position that it had in the prompt.

    Attributes:
        positions: `(1,)`.
    """

    positions: Tensor

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The arguments, filled in; calls on more tokens, with positions or with a cache stay as they are."""
        ids = args[0] if args else kwargs.get("input_ids")
        given = {name: value for name, value in kwargs.items() if value is not None}
        if (
            not isinstance(ids, Tensor)
            or tuple(ids.shape) != (1, 1)
            or {"position_ids", "past_key_values"} & set(given)
        ):
            return None
        filled = {**inputs_of(module, ids, self.positions), **given}
        if args:
            del filled["input_ids"]
        return args, filled


def refuse_unfaithful(found: Difference, update: ModelUpdate, model: Any, caller: str) -> None:
    """Raise unless the query's output with the changed weights is that with the full context, up to the dtype's rounding.

    Raises:
        InertUpdateError: it is the output without the update.
        ArgumentError: it is some other.
    """
    refuse_inert(found)
    limit = allowed(found, model.dtype)
    if not found.full <= limit:
        raise ArgumentError(
            f"{caller}: with the changed weights the query's output is {found.full:.3g} from that with the full context, which "
            f"itself does {found.effect:.3g}, needs at most {limit:.3g}; the weights are not those that the update was made "
            f"with, a block changes what its last dense layer puts out, or {model.dtype} does not hold it: "
            f"use update.applied(model), site='out-proj' or a wider dtype"
        )
