"""Which modules compute `W x + b` of their stored weights and nothing else."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from ctxblocks import foldable, has_hooks


class Scaled(nn.Linear):
    """A dense layer that computes something else."""


def own_forward(module: nn.Linear) -> None:
    """A `forward` in the instance, as offloading and some adapters set it."""
    module.forward = lambda x: 2 * x  # type: ignore[method-assign, assignment]


CHANGES: list[Callable[[nn.Linear], object]] = [
    lambda module: module.register_forward_hook(lambda *args: None),
    lambda module: module.register_forward_pre_hook(lambda *args: None),
    lambda module: module.register_full_backward_hook(lambda *args: None),
    lambda module: module.register_full_backward_pre_hook(lambda *args: None),
    nn.utils.parametrizations.weight_norm,
    nn.utils.spectral_norm,
    lambda module: module.compile(backend="eager"),
    own_forward,
    lambda module: module.register_parameter("weight", None),
    lambda module: module.to(torch.complex64),
]


@pytest.mark.parametrize("number", range(len(CHANGES)))
def test_changed_layers_are_called(number: int) -> None:
    """A plain layer may be folded; after any of these changes it may not."""
    module = nn.Linear(3, 2)
    assert foldable(module)
    CHANGES[number](module)
    assert not foldable(module)


def test_other_classes_are_called() -> None:
    """Subclasses and other modules may compute anything."""
    assert not foldable(Scaled(3, 2))
    assert not foldable(nn.Conv1d(3, 2, 1))


def test_hooks_of_all_modules_only_observe() -> None:
    """Counters set them; what they count stays what is computed without them."""
    module = nn.Linear(3, 2)
    hook = nn.modules.module.register_module_forward_hook(lambda *args: None)
    try:
        assert foldable(module)
        assert not has_hooks(module)
    finally:
        hook.remove()
