"""`ModelUpdate.merged`: a copy whose output is that with the context, for every family at both sites, and refusals."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from ctxblocks_transformers import InertUpdateError, ModelUpdate, transfer_model
from ctxblocks_transformers.wiring.family import family_of
from ctxblocks_transformers.wiring.passes import observe
from ctxblocks_transformers.wiring.view import view_of
from ctxblocks_transformers.wiring.wirings import sites_of
from lm.table import SOME_GUESSED, TYPES, bound_of, has_projections
from lm.tiny import prompt, state, tiny
from lm.updates.test_transfer_model import EXACT
from transformers import AutoModelForCausalLM

from ctxblocks import ArgumentError, Augmented, MixtureOfExperts, RankOneChange
from ctxblocks.blocks.networks import LastLayerUpdate

NORM_BEHIND = ("sandwich", "branch-norm")
REFUSED = {
    **dict.fromkeys(("axk1", "jetmoe"), "a block changes what its last dense layer puts out"),
    "llama4_text": "the input of the last dense layer of block 1 is zero",
}
"""Types whose networks do not end with their last dense layers, and one whose experts have input zero here."""


def logits(update: ModelUpdate, merged: Any, **options: Any) -> torch.Tensor:
    with torch.no_grad():
        return merged(**{**update.inputs(merged), **options}).logits[0]


@pytest.mark.parametrize("place", ["output-bias", "last-layer"])
@pytest.mark.parametrize("site", ["network", "out-proj"])
@pytest.mark.parametrize("model_type", [*TYPES, *SOME_GUESSED])
def test_the_copy_answers_as_with_the_context(model_type: str, site: Any, place: Any) -> None:
    """Float64, called with its position and without; with norms after the network there is no shift into the last layer."""
    model = tiny(model_type)
    if site == "out-proj" and not has_projections(family_of(model)):
        with pytest.raises(ArgumentError, match="needs 'network'"):
            transfer_model(model, prompt(), site=site)
        return
    before, update = state(model), transfer_model(model, prompt(), site=site)
    reason = REFUSED.get(model_type)
    if {spec.wiring for spec in update.family.blocks} & set(NORM_BEHIND):
        reason = "has a norm after its network"
    if place == "last-layer" and site == "network" and reason:
        with pytest.raises(ArgumentError, match=reason):
            update.merged(model, place)
    else:
        merged = update.merged(model, place)
        found = logits(update, merged)
        with torch.no_grad():
            plainly = merged(prompt()[:, -1:]).logits[0]
        assert update.difference(found).relative <= bound_of(model)
        assert torch.equal(found, plainly)
    assert state(model) == before


def test_what_the_copy_changes() -> None:
    """Of Llama the readers and a new bias, of Mixtral the readers and a hook, of Phi the mixer's bias, frozen as before."""
    for model_type, expected in (
        ("llama", {"mlp.gate_proj.weight", "mlp.up_proj.weight", "mlp.down_proj.bias"}),
        ("mixtral", {"mlp.gate.weight", "mlp.experts.gate_up_proj"}),
        ("phi", {"self_attn.dense.bias"}),
        ("gpt2", {"mlp.c_fc.weight", "mlp.c_proj.bias"}),
    ):
        model = tiny(model_type).requires_grad_(False)
        merged = transfer_model(model, prompt()).merged(model)
        old = dict(model.named_parameters())
        changed = {
            name for name, new in merged.named_parameters() if name not in old or not torch.equal(new, old[name])
        }
        assert {name.split(".", 3)[3] for name in changed} == expected
        assert not any(parameter.requires_grad for parameter in merged.parameters())
        assert ("context_shift_0" in str([name for name, _ in merged.named_buffers()])) == (model_type == "mixtral")


@pytest.mark.parametrize("place", ["output-bias", "last-layer"])
@pytest.mark.parametrize("model_type", ["granite", "granitemoe"])
def test_what_multiplies_a_branch_is_divided_out(model_type: str, place: Any) -> None:
    """The shift is added after the multiplier, the layer that takes it comes before."""
    model = tiny(model_type, residual_multiplier=0.3)
    update = transfer_model(model, prompt())
    assert update.difference(logits(update, update.merged(model, place))).relative <= EXACT


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "bert", "granite"])
def test_an_offset_becomes_a_bias(model_type: str) -> None:
    """With the augmented solver readers without a bias get one."""
    model = tiny(model_type)
    update = transfer_model(model, prompt(), solver=Augmented())
    assert update.updates[0] is not None
    assert update.updates[0].operator.offset is not None
    assert update.difference(logits(update, update.merged(model))).relative <= EXACT


def test_an_offset_on_experts() -> None:
    """GPT-OSS has biases for it; Mixtral's router has none, which the error says."""
    model = tiny("gpt_oss")
    update = transfer_model(model, prompt(), solver=Augmented())
    assert update.difference(logits(update, update.merged(model))).relative <= EXACT
    model = tiny("mixtral")
    before, update = state(model), transfer_model(model, prompt(), solver=Augmented())
    with pytest.raises(
        ArgumentError, match=r"bias on model\.layers\.0\.mlp\.gate\.weight, and MixtralTopKRouter has none"
    ):
        update.merged(model)
    assert state(model) == before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("model_type", ["llama", "gemma2", "gpt2", "granite", "mixtral"])
def test_lower_precision(model_type: str, dtype: torch.dtype) -> None:
    """Weights rounded once: a few units of the dtype's round-off in the output, far less than the effect of the context."""
    model = tiny(model_type, dtype)
    update = transfer_model(model, prompt())
    found = update.difference(logits(update, update.merged(model)))
    assert found.relative <= 8 * torch.finfo(dtype).eps
    assert found.effect > 20 * found.full


def test_a_change_is_formed_in_float32_and_rounded_once() -> None:
    """In half types each new entry is the nearest to the exact sum."""
    model = tiny("llama", torch.bfloat16)
    update = transfer_model(model, prompt())
    each = update.updates[0]
    assert each is not None
    weight = model.model.layers[0].mlp.up_proj.weight
    sum64 = weight.double() + torch.outer(weight.float() @ each.operator.direction[0], each.operator.key[0]).double()
    assert torch.equal(update.merged(model).model.layers[0].mlp.up_proj.weight, sum64.to(torch.bfloat16))


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "phi", "granite", "mixtral", "qwen2_moe"])
def test_weights_alone_survive_transformers_own_saving(model_type: str, tmp_path: Path) -> None:
    """With the shift in the last layers nothing but existing parameters changes."""
    model = tiny(model_type)
    update = transfer_model(model, prompt())
    update.merged(model, "last-layer").save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float64, experts_implementation="eager")
    assert update.difference(logits(update, loaded)).relative <= EXACT


def test_the_copy_is_a_model_like_any() -> None:
    """A further copy gives the same output, and so does a call without positions."""
    model = tiny("gemma2")
    update = transfer_model(model, prompt())
    merged = update.merged(model)
    assert torch.equal(logits(update, copy.deepcopy(merged)), logits(update, merged))
    assert {name.rpartition(".")[2] for name in merged.state_dict().keys() - model.state_dict().keys()} == {
        "context_shift_0"
    }
    assert torch.equal(logits(update, merged), merged(input_ids=prompt()[:, -1:], attention_mask=None).logits[0])


def test_what_a_model_holds_beside_its_weights() -> None:
    """A tensor computed from weights is copied without its graph; what cannot be copied is named."""
    model = tiny("llama")
    model.steering = 2 * model.lm_head.weight[0]
    update = transfer_model(model, prompt())
    assert torch.equal(update.merged(model).steering, model.steering)
    model.steps = (step for step in range(3))
    with pytest.raises(ArgumentError, match=r"merged: LlamaForCausalLM holds what cannot be copied .*generator"):
        update.merged(model)


def test_what_cannot_be_merged() -> None:
    """Another model, an unknown place, matrices that blocks share: the model is not changed."""
    model = tiny("llama")
    before, update = state(model), transfer_model(model, prompt())
    with pytest.raises(ArgumentError, match="other weights than those that the update was made with"):
        update.merged(tiny("llama", seed=1))
    with pytest.raises(ArgumentError, match="needs 'llama' with 2"):
        update.merged(tiny("mistral"))
    with pytest.raises(ArgumentError, match="place: got 'above'"):
        update.merged(model, "above")  # type: ignore[arg-type]
    assert state(model) == before
    for name, also in (("up_proj", "weight"), ("down_proj", "weight")):
        first, second = (getattr(layer.mlp, name) for layer in model.model.layers)
        own, second.weight = second.weight, first.weight
        update = transfer_model(model, prompt())
        with pytest.raises(ArgumentError, match=rf"0\.mlp\.{name}\.{also} is one parameter with .*1\.mlp\.{name}"):
            update.merged(model)
        second.weight = own


def test_a_merge_that_does_nothing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the second site nothing but weights changes; if they do not, the output is that without the update."""
    model = tiny("llama")
    update = transfer_model(model, prompt(), site="out-proj")
    monkeypatch.setattr(RankOneChange, "add", lambda self: None)
    with pytest.raises(InertUpdateError, match="the same as without the update"):
        update.merged(model)


def test_a_mixture_is_merged_as_in_the_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same experts as a `MixtureOfExperts` take the same change of their last layers: the one of least norm."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)  # Mixtral's router computes in float32
    model = tiny("mixtral", num_hidden_layers=1)
    update = transfer_model(model, prompt())
    family, (each,) = family_of(model), update.updates
    assert each is not None
    assert each.shift is not None
    mlp, core = model.model.layers[0].mlp, MixtureOfExperts(32, 48, experts=4, active=2).double()
    with torch.no_grad():
        core.router.weight.copy_(mlp.gate.weight)
        for index, expert in enumerate(core.experts):
            expert.gate.weight.copy_(mlp.experts.gate_up_proj[index, :48])
            expert.up.weight.copy_(mlp.experts.gate_up_proj[index, 48:])
            expert.down.weight.copy_(mlp.experts.down_proj[index])
        (reads,), _ = observe(model, sites_of(view_of(model, family), "network"), update.inputs(model))
        assert reads.z is not None
        key, absent = core.last_key(reads.z[0], each[0].operator)
    assert not bool(absent)
    before = torch.stack([expert.down.weight.detach().clone() for expert in core.experts])
    core.add_last(LastLayerUpdate(each.shift[0], key))
    expected = torch.stack([expert.down.weight.detach() for expert in core.experts]) - before
    merged = update.merged(model, "last-layer")
    change = merged.model.layers[0].mlp.experts.down_proj.detach() - mlp.experts.down_proj.detach()
    assert float(expected.norm()) > 0.1
    assert abs(float(change.norm() - expected.norm())) <= 1e-12 * float(expected.norm())
    torch.testing.assert_close(change, expected, rtol=0, atol=1e-12)
