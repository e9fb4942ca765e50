"""Quantised models: taken where no weights are read, measured by what acts, and refused where weights would be written."""

from typing import Any

import pytest
import torch
from ctxblocks_transformers import trace, transfer_model
from lm.tiny import prompt, tiny
from torch import nn

from ctxblocks import ArgumentError


class Int8Linear(nn.Module):
    """A dense layer whose weights are integers with one scale for each output, as quantisers store them."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        scale = linear.weight.detach().abs().amax(-1, keepdim=True) / 127
        self.weight = nn.Parameter((linear.weight.detach() / scale).round().to(torch.int8), requires_grad=False)
        self.scale = nn.Parameter(scale, requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ (self.weight.to(x.dtype) * self.scale).mT


def quantised() -> tuple[Any, Any]:
    """A model whose networks are quantised, and one of plain layers with the same values."""
    model, plain = tiny("llama"), tiny("llama")
    for layer, same in zip(model.model.layers, plain.model.layers, strict=True):
        for name in ("gate_proj", "up_proj", "down_proj"):
            stored = Int8Linear(getattr(layer.mlp, name))
            setattr(layer.mlp, name, stored)
            with torch.no_grad():
                getattr(same.mlp, name).weight.copy_(stored.weight.double() * stored.scale)
    model.config.quantization_config = {"quant_method": "int8-of-a-test"}
    return model, plain


def test_an_update_is_applied_exactly_and_measured_by_the_weights_that_act() -> None:
    """As in the model of plain layers with the same values."""
    model, plain = quantised()
    update = transfer_model(model, prompt())
    assert update.report.relative <= 1e-10
    with update.applied(model) as calls, torch.no_grad():
        model(**update.inputs(model))
    assert calls.differences[0].relative <= 1e-10
    for name in ("norm", "marginal-change"):
        torch.testing.assert_close(trace(model, prompt()).measure(name), trace(plain, prompt()).measure(name))


def test_weights_cannot_be_written(tmp_path: Any) -> None:
    """`merged` and `to_peft` name what works."""
    model, _ = quantised()
    update = transfer_model(model, prompt())
    for call in (lambda: update.merged(model), lambda: update.to_peft(tmp_path / "adapter", model)):
        with pytest.raises(ArgumentError, match=r"quantised.*applied"):
            call()
