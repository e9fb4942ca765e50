"""Models in wrappers, compiled, offloaded, or without weights: they work, or one line says what to pass instead."""

import importlib
from typing import Any

import pytest
import torch
from ctxblocks_transformers import explain, replay, trace, transfer_model
from lm.tiny import prompt, tiny

from ctxblocks import ArgumentError

CALLS = [transfer_model, trace, lambda model, ids: replay(model, ids, 3)]


@pytest.mark.parametrize("call", CALLS)
def test_a_wrapper_of_peft_names_the_model_in_it(call: Any) -> None:
    """And with that the adapter is part of the model."""
    peft = importlib.import_module("peft")
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "up_proj"], init_lora_weights=False)
    wrapped = peft.get_peft_model(tiny("llama"), config).double().eval()
    with pytest.raises(ArgumentError, match=r"pass model\.get_base_model\(\)"):
        call(wrapped, prompt())
    base = wrapped.get_base_model()
    with torch.no_grad():
        own = base(prompt()).logits[0, -1]
    torch.testing.assert_close(transfer_model(base, prompt()).full, own)
    assert transfer_model(base, prompt()).report.relative <= 1e-10


@pytest.mark.parametrize("call", CALLS)
def test_a_compiled_model_is_refused(call: Any) -> None:
    """Its hooks do not fire; the model in it can be used."""
    model = tiny("llama")
    with pytest.raises(ArgumentError, match=r"pass model\._orig_mod"):
        call(torch.compile(model, backend="eager"), prompt())
    assert transfer_model(model, prompt()).report.relative <= 1e-10
    model.model.layers[0].mlp.compile(backend="eager")
    with pytest.raises(ArgumentError, match="compiled"):
        call(model, prompt())


def test_an_offloaded_model_works() -> None:
    """Weights on the meta device between calls: the update, the replay and the trace are those of the model."""
    accelerate = importlib.import_module("accelerate")
    offloaded = accelerate.cpu_offload(tiny("llama"), execution_device=torch.device("cpu"))
    assert torch.equal(transfer_model(offloaded, prompt()).found, transfer_model(tiny("llama"), prompt()).found)
    assert torch.equal(replay(offloaded, prompt(), 3).tokens, replay(tiny("llama"), prompt(), 3).tokens)
    expected = trace(tiny("llama"), prompt()).measure("norm")
    torch.testing.assert_close(trace(offloaded, prompt()).measure("norm"), expected)


@pytest.mark.parametrize("call", CALLS)
def test_a_model_without_weights_is_refused(call: Any) -> None:
    """Except where none are needed."""
    with torch.device("meta"):
        model = type(tiny("llama"))(tiny("llama").config).eval()
    with pytest.raises(ArgumentError, match="on the meta device"):
        call(model, prompt())
    assert explain(model).family == "llama"
