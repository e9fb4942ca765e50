"""`transfer_model`: exact for every wiring, at both sites, and the model is not changed."""

from typing import Any

import attrs
import pytest
import torch
from ctxblocks_transformers import Difference, InertUpdateError, guess, transfer_model
from ctxblocks_transformers.wiring.difference import refuse_inert
from ctxblocks_transformers.wiring.family import family_of, proven
from lm.tiny import prompt, state, tiny
from torch import nn

from ctxblocks import ArgumentError, Augmented, DtypeError, FamilySpec, NonFiniteError, ShapeError, registry

SINGLE = {
    "mamba": 1e-6,
    "mamba2": 1e-6,
    "falcon_mamba": 1e-6,
    "qwen3_next": 1e-6,
}  # float32 in places, in any dtype
EXACT = 1e-10


@pytest.mark.parametrize(
    "model_type", ["llama", "gemma2", "olmo2", "gpt2", "phi", "mixtral", "recurrent_gemma", "mamba2"]
)
def test_tokens_may_remain(model_type: str) -> None:
    """Remaining positions, with a gap, are restored too; applying the update again gives the same."""
    model = tiny(model_type)
    update = transfer_model(model, prompt(), keep=[2, 5], solver=Augmented())
    assert update.positions.tolist() == [2, 5, 6]
    with update.applied(model) as calls, torch.no_grad():
        patched = model(**update.inputs(model)).logits[0]
        by_position = model(prompt()[:, [2, 5, 6]]).logits[0]
        full_positions = update.positions
    full = model(prompt(), use_cache=False).logits[0][full_positions]
    bound = SINGLE.get(model_type, EXACT) * full.abs().max()
    assert (patched - full).abs().max() <= bound
    assert torch.equal(patched, by_position)
    assert [call.relative <= SINGLE.get(model_type, EXACT) for call in calls.differences] == [True, True]


def test_post_norm_blocks_take_the_update_in_their_networks() -> None:
    """Where the mixer's norm is outside the mixer (openai-gpt) and where it is inside (bert)."""
    for model_type in ("openai-gpt", "bert"):
        model = tiny(model_type)
        assert {spec.wiring for spec in guess(model).blocks} == {"post-norm"}
        assert set(transfer_model(model, prompt()).sites) == {"network"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("model_type", ["llama", "gemma2", "gpt2", "granite", "mixtral", "recurrent_gemma"])
def test_lower_precision(model_type: str, dtype: torch.dtype) -> None:
    """Each block makes up for the rounding of those before it: the error is little more than one rounding of the output."""
    model = tiny(model_type, dtype)
    report = transfer_model(model, prompt()).report
    assert report.relative <= 32 * torch.finfo(dtype).eps
    assert report.effect > 100 * report.full


@pytest.mark.parametrize("model_type", ["gemma2", "llama", "olmo2", "granite", "gptj", "mamba", "mixtral", "qwen2_moe"])
def test_a_guess_is_the_registered_family(model_type: str) -> None:
    """The guessed wiring is the registered one."""
    found, known = guess(tiny(model_type)), registry().family(model_type)
    assert known is not None
    assert found.layers == known.layers
    for spec in found.blocks:
        same = [attrs.evolve(block, readers=sorted(block.readers), last=sorted(block.last)) for block in known.blocks]
        assert attrs.evolve(spec, readers=sorted(spec.readers), last=sorted(spec.last)) in same


def test_a_wrong_guess_is_not_used() -> None:
    """The second site is used if it can be proven; otherwise the error gives both deviations."""
    model = tiny("llama")
    (block,) = guess(model).blocks
    wrong = attrs.evolve(guess(model), blocks=(attrs.evolve(block, bypass="mlp"),))
    assert [spec.wiring for spec in proven(model, wrong).blocks] == ["mixer-only"]
    elsewhere = attrs.evolve(guess(model), blocks=(attrs.evolve(block, projection="self_attn.q_proj"),))
    assert proven(model, elsewhere).blocks == (attrs.evolve(block, projection=""),)
    hopeless = attrs.evolve(wrong, blocks=(attrs.evolve(block, bypass="mlp", projection="self_attn.q_proj"),))
    with pytest.raises(ArgumentError, match=r"off by 'network' where the context does .* off by 'out-proj'"):
        proven(model, hopeless)


def test_a_model_that_is_not_wired_as_its_type_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registered family that does not fit the model is detected by the outputs."""
    known = registry().family("llama")
    assert known is not None
    wrong = attrs.evolve(known, blocks=tuple(attrs.evolve(block, bypass="mlp") for block in known.blocks))
    monkeypatch.setattr("ctxblocks_transformers.updates.transfer.family_for", lambda model, family: wrong)
    for dtype in (torch.float64, torch.bfloat16):
        with pytest.raises(ArgumentError, match="is not wired as the family 'llama' says"):
            transfer_model(tiny("llama", dtype), prompt())


def test_what_cannot_work_is_refused() -> None:
    """Each with an error that says what was got and what is needed; the model is not changed."""
    model = tiny("llama")
    before = state(model)
    for ids, error, message in (
        (prompt()[:, :1], ShapeError, "one token"),
        (prompt().expand(2, -1), ShapeError, "without padding"),
        (prompt().float(), DtypeError, "needs int64"),
        (prompt() + 100, ArgumentError, "the vocabulary's"),
    ):
        with pytest.raises(error, match=message):
            transfer_model(model, ids)
    for options, message in (({"keep": [9]}, "position 9"), ({"keep": [1, 1]}, "once"), ({"site": "head"}, "site")):
        with pytest.raises(ArgumentError, match=message):
            transfer_model(model, prompt(), **options)
    assert state(model) == before
    with pytest.raises(ArgumentError, match="encoder-decoder"):
        transfer_model(attrs_like(is_encoder_decoder=True), prompt())
    with pytest.raises(ArgumentError, match="needs a loaded model"):
        transfer_model(nn.Linear(2, 2), prompt())
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match=r"layers\.1\.mlp\.up_proj\.weight holds NaN or infinity in 1 of"):
        transfer_model(model, prompt())


def attrs_like(**config: Any) -> nn.Module:
    """A module with a configuration."""
    module = nn.Linear(2, 2)
    module.config = type("Config", (), config)()
    return module


def test_prompts_beyond_the_models_positions() -> None:
    """Learned positions end, which is refused; rotary ones go on, with a warning and the exact update."""
    long = torch.full((1, 65), 5)
    with pytest.raises(ShapeError, match="got 65 tokens, needs at most 64"):
        transfer_model(tiny("gpt2"), long)
    with pytest.warns(UserWarning, match="got 65 tokens, more than the 64 that the model was made for"):
        update = transfer_model(tiny("llama"), prompt(65))
    assert update.report.relative <= EXACT


def test_an_update_that_changes_nothing_is_an_error() -> None:
    """An error if the output is that without the update although the context has an effect, and only then."""
    with pytest.raises(InertUpdateError, match=r"the same as without the update, and 0\.5 from that with the context"):
        refuse_inert(Difference(full=0.5, plain=0.0, effect=0.5, size=2.0))
    refuse_inert(Difference(full=0.0, plain=0.5, effect=0.5, size=2.0))
    refuse_inert(Difference(full=0.0, plain=0.0, effect=0.0, size=2.0))
    unit = 2.0**-52
    refuse_inert(Difference(full=4e-16, plain=0.0, effect=4e-16, size=2.0, unit=unit))  # a window of one token
    with pytest.raises(InertUpdateError):
        refuse_inert(Difference(full=1e-12, plain=0.0, effect=1e-12, size=2.0, unit=unit))


def test_another_model_is_refused() -> None:
    """An update belongs to one type of model with one number of layers, and to its number of tokens."""
    update = transfer_model(tiny("llama"), prompt())
    for other in (tiny("mistral"), tiny("llama", num_hidden_layers=3)):
        with pytest.raises(ArgumentError, match="needs 'llama' with 2"), update.applied(other):
            pass
    model = tiny("llama")
    with update.applied(model), pytest.raises(ShapeError, match=r"needs \(1, 1\), the remaining tokens"):
        model(prompt())


def test_an_unknown_model_without_layers_is_refused() -> None:
    """A family whose paths do not exist, and one with a layer that fits no specification."""
    model = tiny("llama")
    for layers, message in (("model.blocks", "has no list of layers"), ("model.layers", "fits no block")):
        family = FamilySpec(name="x", models="llama", layers=layers, blocks=(attrs.evolve(_gpt2(), mixer="attn"),))
        with pytest.raises(ArgumentError, match=message):
            transfer_model(model, prompt(), family=family)
    assert family_of(model).name == "llama"


def _gpt2() -> Any:
    family = registry().family("gpt2")
    assert family is not None
    return family.blocks[0]
