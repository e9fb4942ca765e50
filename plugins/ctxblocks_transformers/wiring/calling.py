"""Calling a model without changing it: its arguments, evaluation mode, and the states that some modules keep."""

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

STATES = ("recurrent_states", "conv1d_state")
"""Attributes in which modules of some models keep a state from one call to the next, one row for each sequence."""


@contextlib.contextmanager
def evaluation(model: Any) -> Iterator[None]:
    """Evaluation mode and empty states; on exit every module has its own mode and state back."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with states_kept(model):
            yield
    finally:
        for module in training:
            module.training = True


@contextlib.contextmanager
def states_kept(model: nn.Module) -> Iterator[None]:
    """Clear the states of all modules, and restore them on exit."""
    before = states(model)
    for module, name, _ in before:
        setattr(module, name, None)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def states(model: nn.Module) -> list[tuple[nn.Module, str, Tensor | None]]:
    """Every module that has a state attribute, the attribute's name, and its value."""
    return [
        (module, name, getattr(module, name)) for module in model.modules() for name in STATES if hasattr(module, name)
    ]


def inputs_of(model: Any, input_ids: Tensor, positions: Tensor) -> dict[str, Any]:
    """The arguments with which to call a model on tokens at given positions.

    The attention mask is all ones: without one, some models take a gap in the positions for the start of a new sequence.
    """
    names, device = accepted(model), input_ids.device
    inputs: dict[str, Any] = {"input_ids": input_ids}
    if "attention_mask" in names:
        inputs["attention_mask"] = torch.ones_like(input_ids)
    if "position_ids" in names:
        inputs["position_ids"] = (positions.to(device) + first_position(model)).expand(input_ids.shape)
    if "use_cache" in names:
        inputs["use_cache"] = False
    return inputs


def input_device(model: Any) -> torch.device:
    """The device for a model's tokens: that of its embeddings; of offloaded ones the CPU, from where they are moved."""
    device: torch.device = model.get_input_embeddings().weight.device
    return torch.device("cpu") if device.type == "meta" else device


def accepted(model: nn.Module) -> set[str]:
    """The argument names of the model's `forward`."""
    return set(inspect.signature(model.forward).parameters)


def first_position(model: nn.Module) -> int:
    """The position of the first token: 0, the model's own first default position, or that after the padding token.

    RoBERTa and its relatives count from the index of the padding token; some encoders keep a buffer of default positions.
    """
    after_padding = positions_before(model)
    if after_padding:
        return after_padding
    for name, buffer in model.named_buffers():
        if name.endswith("embeddings.position_ids") and buffer.numel() and buffer.device.type != "meta":
            return int(buffer.flatten()[0])
    return 0


def positions_before(model: nn.Module) -> int:
    """How many positions of the table a model never uses: those up to the index of the padding token."""
    for name, module in model.named_modules():
        padding: Any = getattr(module, "padding_idx", None)
        table = name.endswith("position_embeddings") and isinstance(module, nn.Embedding)
        if padding is not None and (table or hasattr(module, "create_position_ids_from_input_ids")):
            return int(padding) + 1
    return 0
