"""Copies of models to which an update is written."""

import copy
from typing import Any

from torch import Tensor

from ctxblocks import ArgumentError


def copy_of(model: Any, caller: str) -> Any:
    """A copy of a model in evaluation mode; a tensor that was computed from others is copied without its graph.

    Raises:
        ArgumentError: the model is quantised, or holds something that cannot be copied.
    """
    refuse_quantised(model, caller)
    found = [value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor)]
    computed = {id(value): value.detach().clone() for value in found if not value.is_leaf}
    try:
        return copy.deepcopy(model, computed).eval()
    except (RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ArgumentError(
            f"{caller}: {type(model).__name__} holds what cannot be copied ({reason[:120]}), needs parameters and buffers; "
            f"remove it, or use update.applied(model)"
        ) from error


def refuse_quantised(model: Any, caller: str) -> None:
    """Raise if a model's weights are quantised; those of a GGUF file are not, since loading makes plain ones of them.

    Raises:
        ArgumentError: they are.
    """
    settings = getattr(model.config, "quantization_config", None)
    method = settings.get("quant_method") if isinstance(settings, dict) else getattr(settings, "quant_method", None)
    name = str(getattr(method, "value", method)).lower()
    if settings is not None and name != "gguf":
        raise ArgumentError(
            f"{caller}: got a {type(model).__name__} quantised with {name}, needs plain weights, to which a change can be "
            f"added; use update.applied(model)"
        )
