"""An update written into the weights of a copy of the model [Thm. 2.2, Thm. B.2]."""

import dataclasses
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from ctxblocks import ArgumentError, LinearWeights
from ctxblocks_transformers.export.changes import (
    Update,
    changes_of_readers,
    refuse_offsets,
    refuse_shared,
)
from ctxblocks_transformers.export.copies import copy_of
from ctxblocks_transformers.export.faithful import applied_rows, refuse_unfaithful
from ctxblocks_transformers.export.fold import folded
from ctxblocks_transformers.export.tokens import moved_tokens
from ctxblocks_transformers.export.usage import OneQueryWarning, Remaining, purpose
from ctxblocks_transformers.wiring.reads import outputs_of
from ctxblocks_transformers.wiring.sites import Site, shifted


def merge(update: Update, model: Any, place: str | None) -> Any:
    """`ModelUpdate.merged`."""
    kept = len(update.positions) > 1
    place = ("last-layer" if kept else "output-bias") if place is None else place
    if place not in ("output-bias", "last-layer"):
        raise ArgumentError(f"place: got {place!r}, needs 'output-bias' or 'last-layer'")
    original = update.placed(model)
    if kept and place == "output-bias" and any(each.shift is not None for _, each in original):
        raise ArgumentError(
            f"place: got 'output-bias' with {len(update.positions)} remaining tokens, needs 'last-layer', since a bias shifts "
            f"every token"
        )
    refuse_offsets(original, "merged", biases=True)
    merged = copy_of(model, "merged")
    placed = update.placed(merged)
    unit = torch.finfo(model.dtype).eps
    moved = moved_tokens((each for _, each in placed), update.positions, update.query, unit)
    last = folded(update, merged, moved, "merged") if place == "last-layer" else []
    changes = [*changes_of_readers(placed, moved), *last]
    shifts = [] if last else [_Shift.of(site, each.shift[0]) for site, each in placed if each.shift is not None]
    changed = [pair for change in changes for pair in change.parameters()]
    changed += [pair for shift in shifts for pair in shift.parameters()]
    refuse_shared(merged, changed, "merged")
    for change in changes:
        change.add()
    for shift in shifts:
        shift.add()
    merged.register_forward_pre_hook(
        Remaining(update.input_ids[:, update.positions], update.positions), with_kwargs=True
    )
    with torch.no_grad():
        output = outputs_of(merged(**update.inputs(merged)))
    refuse_unfaithful(update, model, output, applied_rows(update, model), "merged")
    warnings.warn(f"merged: {purpose(update)}", OneQueryWarning, stacklevel=3)
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
