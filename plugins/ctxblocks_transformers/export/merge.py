"""An update written into the weights of a copy of the model [Thm. 2.2, Thm. B.2]."""

import copy
import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from ctxblocks import ArgumentError, LinearWeights
from ctxblocks_transformers.export.changes import (
    Update,
    changes_of_readers,
    one_token,
    refuse_offsets,
    refuse_shared,
)
from ctxblocks_transformers.export.fold import folded
from ctxblocks_transformers.wiring.calling import inputs_of
from ctxblocks_transformers.wiring.difference import Difference, allowed, refuse_inert
from ctxblocks_transformers.wiring.reads import outputs_of
from ctxblocks_transformers.wiring.sites import Site, shifted


def merge(update: Update, model: Any, place: str) -> Any:
    """`ModelUpdate.merged`."""
    if place not in ("output-bias", "last-layer"):
        raise ArgumentError(f"place: got {place!r}, needs 'output-bias' or 'last-layer'")
    one_token(update, "merged")
    refuse_offsets(update.placed(model), "merged", biases=True)
    merged = copy.deepcopy(model).eval()
    placed = update.placed(merged)
    last = folded(update, merged, "merged") if place == "last-layer" else []
    changes = [*changes_of_readers(placed), *last]
    shifts = [] if last else [_Shift.of(site, each.shift[0]) for site, each in placed if each.shift is not None]
    changed = [pair for change in changes for pair in change.parameters()]
    changed += [pair for shift in shifts for pair in shift.parameters()]
    refuse_shared(merged, changed, "merged")
    for change in changes:
        change.rank_one.add()
    for shift in shifts:
        shift.add()
    merged.register_forward_pre_hook(Positions(update.positions), with_kwargs=True)
    with torch.no_grad():
        output = outputs_of(merged(**update.inputs(merged)))
    refuse_unfaithful(update.difference(output), model, "merged")
    return merged


@dataclasses.dataclass(frozen=True)
class _Shift:
    """The bias shift of one block.

    Attributes:
        site: the site of the update.
        shift: `Δb' (d,)`.
        path: of the dense layer whose bias takes the shift, "" where none is equivalent.
        weights: that layer, None where there is none.
    """

    site: Site
    shift: Tensor
    path: str
    weights: LinearWeights | None

    @classmethod
    def of(cls, site: Site, shift: Tensor) -> "_Shift":
        """A shift, with the dense layer whose bias takes it, if there is one."""
        path = site.bias_path
        weights = site.block.weights(path)[path] if path else None
        matrix = None if weights is None else getattr(weights.module, weights.name, None)
        fits = weights is not None and isinstance(matrix, Tensor) and matrix.dim() == 2 and weights.takes_bias()
        return cls(site, shift, path, weights if fits else None)

    def parameters(self) -> list[tuple[str, Tensor]]:
        """The parameters of the layer whose bias takes the shift, by name."""
        if self.weights is None:
            return []
        names = [self.weights.name] + ([] if self.weights.bias is None else [self.weights.bias])
        return [(self.site.block.parameter_name(self.path, name), getattr(self.weights.module, name)) for name in names]

    def add(self) -> None:
        """Add the shift to a bias, divided by the branch's factor; where no bias is equivalent, to a module's output."""
        if self.weights is not None:
            self.weights.add_bias(self.shift / self.site.block.scale)
            return
        module = self.site.shift_module
        name = f"context_shift_{len(module._forward_hooks)}"
        device = next(self.site.block.layer.parameters()).device
        module.register_buffer(name, self.shift.to(device))
        module.register_forward_hook(Shift(name))


@dataclasses.dataclass(frozen=True)
class Shift:
    """A forward hook that adds a buffer of its module to the module's output.

    Attributes:
        name: the name of the buffer.
    """

    name: str

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """The output plus the buffer."""
        shift: Tensor = getattr(module, self.name)
        if isinstance(output, Tensor):
            return shifted(output, shift)
        return type(output)((shifted(output[0], shift), *output[1:]))


@dataclasses.dataclass(frozen=True)
class Positions:
    """A forward pre-hook that gives a single token without a position its position in the prompt.

    Attributes:
        positions: `(1,)`, that position.
    """

    positions: Tensor

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The arguments with the position; calls on more tokens, with positions or with a cache are not changed."""
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


def refuse_unfaithful(difference: Difference, model: Any, caller: str) -> None:
    """Raise unless the query's output with the changed weights is that with the full context, up to the dtype's round-off.

    Raises:
        InertUpdateError: it is the output without the update.
        ArgumentError: it is another output.
    """
    refuse_inert(difference)
    limit = allowed(difference, model.dtype)
    if not difference.full <= limit:
        raise ArgumentError(
            f"{caller}: with the changed weights the query's output is {difference.full:.3g} from that with the full context, "
            f"whose effect is {difference.effect:.3g}, needs at most {limit:.3g}; the weights are not those that the update was "
            f"made with, a block changes what its last dense layer puts out, or {model.dtype} does not hold it: "
            f"use update.applied(model), site='out-proj' or a wider dtype"
        )
