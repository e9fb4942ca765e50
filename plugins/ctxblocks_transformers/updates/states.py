"""States that modules of some models keep from one call to the next."""

import contextlib
from collections.abc import Iterator

from torch import Tensor, nn

STATES = ("recurrent_states", "conv1d_state")
"""Attributes of modules, one row for each sequence."""


@contextlib.contextmanager
def states_kept(model: nn.Module) -> Iterator[None]:
    """States in modules are set aside, and afterwards put back."""
    before = states(model)
    for module, name, _ in before:
        setattr(module, name, None)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def states(model: nn.Module) -> list[tuple[nn.Module, str, Tensor | None]]:
    """Every module that has such an attribute, its name, and what it holds."""
    return [
        (module, name, getattr(module, name)) for module in model.modules() for name in STATES if hasattr(module, name)
    ]
