"""Rotary positions that depend on the length of the sequence: LongRoPE, and dynamic NTK scaling, which keeps a state."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import nn

STATE = ("inv_freq", "original_inv_freq", "max_seq_len_cached")
"""Names, with a layer type before them where there are several, of what a rotation keeps from one call to the next."""


@dataclasses.dataclass(frozen=True)
class Rotation:
    """One rotation of a model that depends on the length of the sequence.

    Attributes:
        module: the module that computes it.
        prefix: what its attributes' names start with, such as `"full_attention_"`.
        grows: whether every length beyond the limit has factors of its own (dynamic NTK), not all the same (LongRoPE).
        limit: the largest length with the original factors.
    """

    module: Any
    prefix: str
    grows: bool
    limit: int

    def regime(self, length: int) -> int:
        """A number that is the same for two lengths with the same factors."""
        if length <= self.limit:
            return 0
        return length if self.grows else self.limit + 1

    def reset(self) -> None:
        """Take the original factors, as a model does that has seen no longer sequence."""
        if self.grows:
            inverse = getattr(self.module, f"{self.prefix}inv_freq")
            original = getattr(self.module, f"{self.prefix}original_inv_freq")
            setattr(self.module, f"{self.prefix}inv_freq", original.to(inverse).clone())
            setattr(self.module, f"{self.prefix}max_seq_len_cached", self.limit)


def rotations_of(model: nn.Module) -> list[Rotation]:
    """The rotations of a model that depend on the length of the sequence."""
    found, modules = [], cast(Iterator[Any], model.modules())
    for module in modules:
        kinds: Any = getattr(module, "rope_type", None)
        single = isinstance(kinds, str)
        for layer_type, kind in ({"": kinds} if single else kinds if isinstance(kinds, dict) else {}).items():
            parameters = module.config.rope_parameters if single else module.config.rope_parameters[layer_type]
            prefix = "" if single else f"{layer_type}_"
            if kind == "longrope":
                found.append(Rotation(module, prefix, False, int(parameters["original_max_position_embeddings"])))
            elif "dynamic" in str(kind):
                found.append(Rotation(module, prefix, True, int(module.original_max_seq_len)))
    return found


def regimes(model: nn.Module, first: int, last: int) -> list[tuple[int, int]]:
    """The lengths `first … last` as ranges, both ends included, within which the rotations are the same."""
    rotations, ranges = rotations_of(model), [(first, first)]
    for length in range(first + 1, last + 1) if rotations else ():
        if all(each.regime(length) == each.regime(length - 1) for each in rotations):
            ranges[-1] = (ranges[-1][0], length)
        else:
            ranges.append((length, length))
    return ranges if rotations else [(first, last)]


@contextlib.contextmanager
def rotations_kept(model: nn.Module) -> Iterator[None]:
    """Every call as in a model that has seen no longer sequence; on exit all rotations have their own state back."""
    rotations = rotations_of(model)
    names = [(each.module, each.prefix + name) for each in rotations for name in STATE]
    names += [(each.module, "attention_scaling") for each in rotations]
    names += [(each.module, "max_seq_len_cached") for each in rotations]
    missing = object()
    before = [
        (module, name, value) for module, name in names if (value := getattr(module, name, missing)) is not missing
    ]
    before = [(module, name, x.clone() if isinstance(x, torch.Tensor) else x) for module, name, x in before]
    hooks = [each.module.register_forward_pre_hook(lambda *_, each=each: each.reset()) for each in rotations]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for module, name, value in before:
            setattr(module, name, value)
