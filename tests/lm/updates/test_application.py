"""An update in place: calls that it was made for are right, all others are refused with what to use instead."""

import copy
import threading
from typing import Any

import pytest
import torch
from ctxblocks_transformers import ModelUpdate, transfer_model
from lm.tiny import prompt, tiny
from transformers import DynamicCache

from ctxblocks import ArgumentError, ShapeError


def generated(model: Any, ids: torch.Tensor) -> torch.Tensor:
    out: torch.Tensor = model.generate(ids, max_new_tokens=4, do_sample=False, pad_token_id=0)
    return out


def test_a_generation_is_refused_and_the_way_out_named() -> None:
    """Its second token needs another update; `replay` makes one for each."""
    model = tiny("llama")
    update = transfer_model(model, prompt(), keep=())
    with update.applied(model), pytest.raises(ArgumentError, match=r"use replay\(model, prompt"):
        generated(model, prompt()[:, -1:])
    assert generated(model, prompt()).shape[1] == prompt().shape[1] + 4  # the model is free again


def test_a_cache_that_holds_the_prompt_is_refused() -> None:
    """The update stands for the prompt: with the prompt's own keys and values it would count twice. An empty one serves."""
    model, cache = tiny("llama"), DynamicCache()
    update = transfer_model(model, prompt(), keep=())
    with torch.no_grad():
        model(prompt()[:, :-1], past_key_values=cache, use_cache=True)
    with update.applied(model) as calls, torch.no_grad():
        with pytest.raises(ArgumentError, match="got a cache that holds tokens"):
            model(prompt()[:, -1:], past_key_values=cache, use_cache=True)
        model(prompt()[:, -1:], past_key_values=DynamicCache(), use_cache=True)
    assert calls.differences[0].relative <= 1e-10


def test_other_tokens_and_other_positions_are_refused() -> None:
    """Both would give an output that is nobody's."""
    model = tiny("llama")
    update = transfer_model(model, prompt(), keep=())
    inputs = update.inputs(model)
    with update.applied(model):
        with pytest.raises(ArgumentError, match="input_ids: got tokens"):
            model((prompt()[:, -1:] + 1) % 61)
        with pytest.raises(ArgumentError, match="position_ids: got"):
            model(prompt()[:, -1:], position_ids=torch.zeros(1, 1, dtype=torch.int64))
        with pytest.raises(ShapeError, match="the remaining tokens"):
            model(prompt())
        with pytest.raises(ShapeError, match="the remaining tokens"):
            model(inputs_embeds=torch.zeros(1, 1, 32).double())
        model(**inputs)


def test_one_update_at_a_time() -> None:
    """Nested ones are refused; after an error inside, the model is free."""
    model = tiny("llama")
    update = transfer_model(model, prompt(), keep=())
    with update.applied(model), pytest.raises(ArgumentError, match="another update is in place"), update.applied(model):
        pass
    with pytest.raises(RuntimeError, match="inside"), update.applied(model):
        raise RuntimeError("inside")
    assert not model._forward_pre_hooks
    with update.applied(model):
        model(**update.inputs(model))


def test_another_thread_is_refused() -> None:
    """It would see an update that it did not apply; a copy of the model is its own."""
    model, heard = tiny("llama"), []
    update = transfer_model(model, prompt(), keep=())

    def call() -> None:
        try:
            with torch.no_grad():
                model(prompt())
        except ArgumentError as error:
            heard.append(str(error))

    with update.applied(model):
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
    assert "another thread" in heard[0]


def test_a_model_with_other_weights_is_refused(tmp_path: Any) -> None:
    """One training step of the same type, also for an update from a file; a copy with the same weights serves."""
    model = tiny("llama")
    update = transfer_model(model, prompt(), keep=())
    update.save(tmp_path / "update.safetensors")
    loaded = ModelUpdate.load(tmp_path / "update.safetensors")
    trained = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.mul_(1.001)
    for each in (update, loaded):
        with pytest.raises(ArgumentError, match="other weights"), each.applied(trained):
            pass
        with pytest.raises(ArgumentError, match="other weights"):
            each.merged(trained)
        with each.applied(same := copy.deepcopy(model)), torch.no_grad():
            same(**each.inputs(same))


@pytest.mark.parametrize("keep", [(), [0, 1, 2]])
def test_the_last_logits_alone(keep: Any) -> None:
    """As generation asks for them: with kept tokens too."""
    model = tiny("llama")
    update = transfer_model(model, prompt(), keep=keep)
    with torch.no_grad():
        full = model(prompt()).logits[0, -1]
        with update.applied(model) as calls:
            got = model(**update.inputs(model), logits_to_keep=1).logits[0, -1]
    torch.testing.assert_close(got, full, rtol=1e-10, atol=1e-10)
    assert calls.differences[0].relative <= 1e-10


def test_logits_without_the_querys_are_not_measured() -> None:
    """A query before the last remaining token is not among the last logits."""
    model = tiny("llama")
    update = transfer_model(model, prompt(), keep=[0, 6], query=3)
    with update.applied(model) as calls, torch.no_grad():
        model(**update.inputs(model), logits_to_keep=1)
    assert calls.differences == []
