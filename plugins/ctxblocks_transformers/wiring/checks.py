"""Checks of models and prompts, made once before anything is computed."""

import sys
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from ctxblocks import ArgumentError, NonFiniteError, ShapeError, Solver
from ctxblocks_transformers.wiring.calling import positions_before

LAYERS = 10_000
"""The most layers that are built from a configuration: ten times as many as the deepest models have."""


def check_model(model: Any, values: bool = True) -> None:
    """Raise unless the theorem can be applied to a model.

    Raises:
        ArgumentError: it is not a model of `transformers`, it is an encoder-decoder, or a wrapper.
        NonFiniteError: weights contain NaN or infinity (checked only with `values`).
    """
    name, config = type(model).__name__, getattr(model, "config", None)
    if not isinstance(model, nn.Module) or config is None:
        raise ArgumentError(f"model: got {name}, needs a loaded model of transformers")
    _check_bare(model)
    check_config(config, name)
    if values:
        _check_finite(model)


def _check_bare(model: nn.Module) -> None:
    """Refuse wrappers, which hide the layers or do not call their hooks.

    Raises:
        ArgumentError: it is a model of PEFT, a compiled one, or its weights are on the meta device for good.
    """
    name = type(model).__name__
    if callable(getattr(model, "get_base_model", None)):
        raise ArgumentError(
            f"model: got {name}, a wrapper of PEFT, needs the model in it; pass model.get_base_model(), whose layers have the "
            f"adapter"
        )
    compiled = isinstance(model, torch._dynamo.OptimizedModule) if "torch._dynamo" in sys.modules else False
    if compiled or any(module._compiled_call_impl is not None for module in model.modules()):
        raise ArgumentError(
            f"model: got a compiled {name}, whose compiled code does not call hooks, needs the model as it was before "
            f"torch.compile" + ("; pass model._orig_mod" if compiled else "; load it again, or compile it afterwards")
        )


def check_config(config: Any, name: str) -> None:
    """Raise if the theorem cannot be applied to the models of a configuration.

    Raises:
        ArgumentError: they are encoder-decoders.
    """
    if getattr(config, "is_encoder_decoder", False):
        raise ArgumentError(
            f"model: got the encoder-decoder {name}, needs one stack of blocks; its decoder reads the encoder's output in "
            f"every layer, which updates of the decoder's blocks cannot replace"
        )
    layers = getattr(config.get_text_config(), "num_hidden_layers", 1)
    if isinstance(layers, int) and not 1 <= layers <= LAYERS:
        raise ArgumentError(f"model: {name} has {layers} layers according to its configuration, needs 1 to {LAYERS}")


def embeddings_of(model: Any) -> Tensor:  # (vocabulary, d)
    """The embeddings of a model's tokens.

    Raises:
        ArgumentError: it has none, as models of images or sound.
    """
    try:
        weight = getattr(model.get_input_embeddings(), "weight", None)
    except (NotImplementedError, AttributeError):
        weight = None
    if not isinstance(weight, Tensor) or weight.dim() != 2:
        raise ArgumentError(
            f"model: {type(model).__name__} has no embeddings of tokens, needs a model that reads tokens"
        )
    return weight


def check_solver(solver: Any) -> None:
    """Raise unless it is a solver.

    Raises:
        ArgumentError: it is something else.
    """
    if not isinstance(solver, Solver):
        raise ArgumentError(f"solver: got {solver!r}, needs a solver such as LeastNorm()")


def check_autocast(caller: str) -> None:
    """Raise under autocast, in which some products of a trace would be rounded and others not.

    Raises:
        ArgumentError: autocast is on.
    """
    if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
        raise ArgumentError(
            f"{caller}: called under autocast, needs to be called outside; load the model in the dtype that you want, such as "
            f"bfloat16"
        )


def check_loaded(model: nn.Module) -> None:
    """Raise unless a model has weights, which an offloaded one gets from elsewhere for each call.

    Raises:
        ArgumentError: all parameters are on the meta device.
    """
    offloaded = any("_hf_hook" in vars(module) for module in model.modules())
    if not offloaded and all(parameter.device.type == "meta" for parameter in model.parameters()):
        raise ArgumentError(
            f"model: got {type(model).__name__} on the meta device, needs weights; load it with load_model(…)"
        )


def check_room(model: Any, length: int, more: int = 0) -> None:
    """Raise unless a model has positions for `length` tokens and `more` further ones; rotary ones have no end: a warning.

    Raises:
        ShapeError: it has fewer.
    """
    limit = _positions(model)
    if limit is None or length + more <= limit:
        return
    extra = f" and {more} more" if more else ""
    if any(name.endswith("inv_freq") for name, _ in model.named_buffers()):
        warnings.warn(
            f"input_ids: got {length} tokens{extra}, more than the {limit} that the model was made for; its rotary positions go "
            f"on, and its answers may be poor",
            UserWarning,
            stacklevel=4,
        )
        return
    raise ShapeError(
        f"input_ids: got {length} tokens{extra}, needs at most {limit}, the model's positions; shorten the prompt"
    )


def check_query(query: int, length: int) -> int:
    """The position of the query, counted from the start.

    Raises:
        ArgumentError: it is no position of the prompt.
    """
    if not hasattr(query, "__index__") or isinstance(query, bool) or not -length <= int(query) < length:
        raise ArgumentError(f"query: got position {query!r}, needs a position of the prompt, from 0 to {length - 1}")
    return int(query) % length


def _positions(model: Any) -> int | None:
    config = model.config.get_text_config()
    limit = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    return int(limit) - positions_before(model) if isinstance(limit, int) and limit > 0 else None


def _check_finite(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if parameter.device.type != "meta" and not bool(torch.isfinite(parameter.detach().sum())):
            bad = int((~torch.isfinite(parameter.detach())).sum())
            if bad:
                raise NonFiniteError(
                    f"model: {name} holds NaN or infinity in {bad} of {parameter.numel()} entries, needs finite weights; "
                    f"load the checkpoint again, or in a dtype with a sufficient range"
                )
