"""The model's own run is the truth: a pass with our arguments is compared with a plain call of the model."""

import weakref
from typing import Any

import torch
from torch import Tensor, nn

from ctxblocks import ArgumentError
from ctxblocks_transformers.wiring.calling import accepted, inputs_of
from ctxblocks_transformers.wiring.difference import round_off
from ctxblocks_transformers.wiring.reads import outputs_of

FEW = 16
"""Number of tokens on which the two are compared where there is no output yet."""
_compared: "weakref.WeakSet[nn.Module]" = weakref.WeakSet()


def check_own_run(
    model: Any,
    input_ids: Tensor,  # (1, T)
    output: Tensor | None = None,  # (T, vocabulary or d)
) -> None:
    """Compare an output on a prompt with that of `model(input_ids)`, once for each model: a further pass on first use.

    Without an output, both passes are made over the first `FEW` tokens.

    Args:
        model: the model, in evaluation mode.
        input_ids: the prompt.
        output: the output of the pass with our positions and attention mask.

    Raises:
        ArgumentError: they differ by more than round-off: the model numbers its positions, or masks tokens, otherwise.
    """
    if model in _compared:
        return
    if output is None:
        input_ids = input_ids[:, :FEW]
        output = outputs_of(model(**inputs_of(model, input_ids, torch.arange(input_ids.shape[1]))))
    arguments = {"use_cache": False} if "use_cache" in accepted(model) else {}
    own = outputs_of(model(input_ids, **arguments))
    if own.shape != output.shape:
        raise ArgumentError(
            f"model: {type(model).__name__} gives outputs of shape {tuple(own.shape)} for {input_ids.shape[1]} tokens, needs one "
            f"row for each token"
        )
    gap, size = float((own.double() - output.double()).abs().max()), float(own.double().abs().max())
    if not gap <= round_off(model.dtype) * max(size, torch.finfo(torch.float32).tiny):
        raise ArgumentError(
            f"model: its own run on the prompt differs by {gap:.3g} from that with positions 0 to {input_ids.shape[1] - 1} and "
            f"all tokens visible, where its outputs reach {size:.3g}; {type(model).__name__} numbers positions or masks tokens "
            f"otherwise and is not supported"
        )
    _compared.add(model)
