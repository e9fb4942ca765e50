"""`replay`: a response generated again without its prompt."""

from typing import Any

import attrs
import pytest
import torch
from ctxblocks_transformers import InertUpdateError, replay
from ctxblocks_transformers.updates import replay as module
from ctxblocks_transformers.updates.runs import route_of
from ctxblocks_transformers.wiring.calling import inputs_of
from ctxblocks_transformers.wiring.passes import observe
from ctxblocks_transformers.wiring.sites import Hooks
from lm.tiny import prompt, tiny
from lm.updates.test_transfer_model import EXACT, SINGLE, state

from ctxblocks import ArgumentError, Augmented, ShapeError, registry

STEPS = 12
ROUTES = {
    "gemma2": "cache",
    "gpt2": "cache",
    "llama": "cache",
    "mamba2": "cache",
    "mixtral": "cache",
    "phi": "cache",
    "recurrent_gemma": "recompute",
}


def lively(model_type: str, dtype: torch.dtype = torch.float64, **options: Any) -> Any:
    """A tiny model whose response depends on its prompt: large weights, and windows longer than prompt and response."""
    windows = {"sliding_window": 64} if model_type in ("mixtral", "gemma2") else {}
    model = tiny(model_type, **windows, **options)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and "embed" not in name and "wte" not in name:
                parameter.mul_(4)
    return model.to(dtype)


def greedy(model: Any, steps: int = STEPS) -> list[int]:
    """The response by its definition, everything computed again for every token."""
    ids = prompt()
    with torch.no_grad():
        for _ in range(steps):
            ids = torch.cat([ids, model(ids, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)], dim=1)
    return ids[0, prompt().shape[1] :].tolist()


@pytest.mark.parametrize("site", ["network", "out-proj"])
@pytest.mark.parametrize("model_type", ROUTES)
def test_a_response_is_generated_again_without_its_prompt(model_type: str, site: Any) -> None:
    """Float64: every token, every logit; most tokens differ without the updates, and the model is not changed."""
    model = lively(model_type)
    before = state(model)
    found = replay(model, prompt(), STEPS, site=site)
    assert found.route == ROUTES[model_type]
    assert found.tokens.tolist() == found.replayed.tolist() == greedy(model)
    assert (found.agreement, found.first_mismatch) == (1.0, None)
    assert found.relative <= SINGLE.get(model_type, EXACT)
    assert found.plain_agreement < 0.7
    assert torch.equal(found.play(), found.tokens)
    assert state(model) == before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("model_type", ["llama", "gpt2", "recurrent_gemma"])
def test_lower_precision(model_type: str, dtype: torch.dtype) -> None:
    """The error at every step is little more than one rounding of the logits."""
    found = replay(lively(model_type, dtype), prompt(), STEPS)
    assert found.relative <= 32 * torch.finfo(dtype).eps
    assert found.agreement == 1.0
    assert min(each.effect / each.size for each in found.differences) > 10 * found.relative


@pytest.mark.parametrize("model_type", ["llama", "mixtral", "mamba2"])
def test_all_remaining_tokens_are_those_of_the_full_run(model_type: str) -> None:
    """With its update each token enters every layer as it does with the prompt, also when all are computed at once."""
    model = lively(model_type)
    found = replay(model, prompt(), STEPS)
    ids = torch.cat([prompt(), found.tokens.unsqueeze(0)], dim=1)[:, :-1]
    first = prompt().shape[1] - 1
    kept = torch.arange(first, ids.shape[1])
    with torch.no_grad():
        full, logits = observe(model, found.sites, inputs_of(model, ids, torch.arange(ids.shape[1])))
        with Hooks() as hooks:
            for site, update in zip(found.sites, found.updates, strict=True):
                assert update is not None
                site.put(hooks, update)
            alone, again = observe(model, found.sites, inputs_of(model, ids[:, first:], kept))
    pairs = [(mine.entered, theirs.entered) for mine, theirs in zip(alone, full, strict=True)]
    for mine, theirs in [*pairs, (again, logits)]:
        assert mine is not None
        assert theirs is not None
        assert (mine - theirs[first:]).abs().max() <= SINGLE.get(model_type, EXACT) * theirs.abs().max()


@pytest.mark.parametrize("model_type", ["llama", "phi", "mixtral"])
def test_both_routes_give_the_same(model_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without the cache, including the updates and an offset of the solver."""
    model = lively(model_type)
    cached = replay(model, prompt(), STEPS, solver=Augmented())
    monkeypatch.setattr(module, "route_of", lambda model: "recompute")
    again = replay(model, prompt(), STEPS, solver=Augmented())
    assert (cached.route, again.route) == ("cache", "recompute")
    assert again.tokens.tolist() == again.replayed.tolist() == cached.tokens.tolist()
    assert torch.equal(again.play(), again.tokens)
    for one, two in zip(cached.updates, again.updates, strict=True):
        assert one is not None
        assert two is not None
        assert one.shift is not None
        assert one.operator.direction.shape == (STEPS, 32)
        assert one.operator.direction.shape == two.operator.direction.shape
        torch.testing.assert_close(one.operator.apply(one.operator.key), two.operator.apply(two.operator.key))
        torch.testing.assert_close(one.shift, two.shift)


def test_an_unusable_cache_is_not_used() -> None:
    """A model that ignores its cache, and one that fails with it, compute all tokens again."""
    model = lively("llama")

    def dropped(_: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        return args, {**kwargs, "past_key_values": None}

    def refused(_: Any, args: Any, kwargs: dict[str, Any]) -> None:
        if kwargs.get("use_cache"):
            raise RuntimeError("no cache")

    assert route_of(model) == "cache"
    for hook in (dropped, refused):
        handle = model.register_forward_pre_hook(hook, with_kwargs=True)
        assert route_of(model) == "recompute"
        handle.remove()


def test_the_state_of_modules_is_left_as_it_was() -> None:
    """RecurrentGemma keeps the state of its last call in its modules."""
    model = lively("recurrent_gemma")
    layer, *_ = [module for module in model.modules() if "recurrent_states" in vars(module)]
    assert layer.recurrent_states is None
    replay(model, prompt(), 2)
    assert layer.recurrent_states is None
    mine = layer.recurrent_states = torch.ones(1, 32)
    replay(model, prompt(), 2)
    assert layer.recurrent_states is mine
    assert bool((mine == 1).all())


def test_a_mismatch_is_counted_and_both_runs_continue() -> None:
    """With a wrong wiring, the full run's tokens are the same, and the first mismatch is reported."""
    model, known = lively("llama"), registry().family("llama")
    assert known is not None
    (block,) = known.blocks
    wrong = attrs.evolve(known, blocks=(attrs.evolve(block, bypass="mlp"),))
    found = replay(model, prompt(), STEPS, family=wrong)
    assert found.tokens.tolist() == greedy(model)
    assert found.agreement < 1
    assert found.relative > 1e-3
    first = found.first_mismatch
    assert first is not None
    assert torch.equal(found.tokens[:first], found.replayed[:first])
    assert found.tokens[first] != found.replayed[first]


def test_updates_that_do_nothing_are_refused() -> None:
    """Here because no block has a mixer."""
    known = registry().family("llama")
    assert known is not None
    (block,) = known.blocks
    nothing = attrs.evolve(block, wiring="network-only", mixer="", projection="")
    with pytest.raises(InertUpdateError, match="the same as without the update"):
        replay(lively("llama"), prompt(), STEPS, family=attrs.evolve(known, blocks=(nothing,)))


def test_a_token_stops() -> None:
    """The token is the last one, and is included."""
    model = lively("llama")
    tokens = replay(model, prompt(), STEPS).tokens.tolist()
    found = replay(model, prompt(), STEPS, eos_token_id=tokens[4])
    assert found.tokens.tolist() == tokens[: tokens.index(tokens[4]) + 1]
    assert len(found.differences) == len(found.tokens)


def test_what_cannot_be_replayed_is_refused() -> None:
    """No step, too few positions for the response, no logits, and tokens that read later ones."""
    model = lively("llama")
    with pytest.raises(ArgumentError, match="max_new_tokens: got 0, needs an integer ≥ 1"):
        replay(model, prompt(), 0)
    with pytest.raises(ShapeError, match="got 7 tokens and 58 more, needs at most 64"):
        replay(lively("gpt2"), prompt(), 59)
    with pytest.warns(UserWarning, match="got 7 tokens and 58 more, more than the 64"):
        assert len(replay(model, prompt(), 59).tokens) == 59
    assert len(replay(model, prompt(57), 8).tokens) == 8
    with pytest.raises(ArgumentError, match="site: got 'head'"):
        replay(model, prompt(), 1, site="head")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="LlamaModel gives no logits, needs a causal language model"):
        replay(model.model, prompt(), 1, family=attrs.evolve(_llama(), layers="layers"))
    with pytest.raises(ArgumentError, match="the outputs of BertLMHeadModel at earlier tokens depend on later ones"):
        replay(lively("bert", is_decoder=False), prompt(), 1)


def _llama() -> Any:
    return registry().family("llama")
