"""What is measured of readers under adapters, parametrisations and hooks uses the matrix that acts."""

import importlib
from typing import Any

import pytest
import torch
from ctxblocks_transformers import replay
from ctxblocks_transformers.wiring.effective import effective_weights
from ctxblocks_transformers.wiring.family import family_of
from ctxblocks_transformers.wiring.view import view_of
from ctxblocks_transformers.wiring.wirings import sites_of
from lm.tiny import prompt, tiny
from torch import nn

from ctxblocks import ArgumentError


def adapted(model: Any) -> Any:
    peft = importlib.import_module("peft")
    config = peft.LoraConfig(r=2, target_modules=["up_proj", "gate_proj", "down_proj"], init_lora_weights=False)
    return peft.get_peft_model(model, config).double().eval()


def first_site(model: Any) -> Any:
    return sites_of(view_of(model, family_of(model)), "network")[0]


def test_an_adapter_counts() -> None:
    """The matrices are those after merging the adapter into the weights, and so are the measures of a generation."""
    wrapped = adapted(tiny("llama"))
    base = wrapped.get_base_model()
    matrices = effective_weights(first_site(base))
    measured = replay(base, prompt(), 3).monitor(["norm"])["norm"]
    merged = wrapped.merge_and_unload()
    for path, matrix in effective_weights(first_site(merged)).items():
        torch.testing.assert_close(matrices[path], matrix, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(measured, replay(merged, prompt(), 3).monitor(["norm"])["norm"], rtol=1e-9, atol=1e-12)


def test_a_parametrisation_and_a_hook_count() -> None:
    """Weight norm with another magnitude, and a hook that doubles the output."""
    model = tiny("llama")
    mlp = model.model.layers[0].mlp
    plain = mlp.up_proj.weight.detach().clone()
    nn.utils.parametrizations.weight_norm(mlp.up_proj)
    with torch.no_grad():
        mlp.up_proj.parametrizations.weight.original0.mul_(3)
    mlp.gate_proj.register_forward_hook(lambda module, args, out: 2 * out)
    found = effective_weights(first_site(model))
    torch.testing.assert_close(found["mlp.up_proj"], 3 * plain)
    torch.testing.assert_close(found["mlp.gate_proj"], 2 * mlp.gate_proj.weight.detach())


def test_what_is_not_affine_has_no_matrix() -> None:
    """It is refused."""
    model = tiny("llama")
    model.model.layers[0].mlp.up_proj.register_forward_hook(lambda module, args, out: out.square())
    with pytest.raises(ArgumentError, match=r"up_proj \(Linear\) is not affine"):
        effective_weights(first_site(model))
