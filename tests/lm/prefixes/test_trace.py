"""`trace`: every prefix and every token, by every route, equals a separate removal."""

from typing import Any

import pytest
import torch
from ctxblocks_transformers import trace, transfer_model
from ctxblocks_transformers.prefixes.copies import copies
from ctxblocks_transformers.prefixes.measures import MEASURES
from lm.table import EVERY
from lm.tiny import prompt, tiny
from lm.updates.test_transfer_model import EXACT, SINGLE, state

from ctxblocks import ArgumentError, Augmented, ImplicitUpdate, ShapeError

SLOT, MASK, STATES = "copies, by self slot", "copies, by mask", "states"
ROUTES = {
    "xlstm": "batches",
    "llama": SLOT,
    "gpt2": SLOT,
    "olmo2": SLOT,
    "phi": SLOT,
    "granite": SLOT,
    "qwen3": SLOT,
    "lfm2": STATES,
    "gemma2": MASK,
    "gemma3_text": "copies, by self slot in 1 blocks and by mask in 1",
    "gpt_oss": MASK,
    "mixtral": MASK,
    "bloom": STATES,
    "doge": STATES,
    "gptj": STATES,
    "mpt": STATES,
    "mamba": STATES,
    "mamba2": STATES,
    "recurrent_gemma": STATES,
    "qwen3_next": STATES,
    "jamba": STATES,
}
"""The route of each type."""
FLOAT32 = dict.fromkeys(
    ["gemma2", "gemma3_text", "gpt_oss", "mixtral", "gptj", "mpt", "bloom", "recurrent_gemma", "jamba"], 1e-6
)
"""Types that compute a softmax or a state in float32 in any dtype, where the two routes round differently."""


def bound(model_type: str) -> float:
    return max(EXACT, SINGLE.get(model_type, 0.0), FLOAT32.get(model_type, 0.0))


def same(found: ImplicitUpdate | None, wanted: ImplicitUpdate | None, within: float) -> None:
    """Two updates with the same direction, key and shift."""
    assert found is not None
    assert wanted is not None
    pairs = [(found.operator.direction, wanted.operator.direction), (found.operator.key, wanted.operator.key)]
    if wanted.shift is not None:
        assert found.shift is not None
        pairs.append((found.shift, wanted.shift))
    for a, b in pairs:
        assert (a - b).abs().max() <= within * max(1.0, float(b.abs().max()))


@pytest.mark.parametrize("model_type", ROUTES)
def test_every_prefix_is_a_separate_prompt(model_type: str) -> None:
    """Update `i` is what removing the first `i` tokens from `[c_1 … c_i, x]` gives, block by block."""
    model, ids = tiny(model_type), prompt(6)
    before = state(model)
    found = trace(model, ids, keep_updates=True)
    assert state(model) == before
    assert found.route == ROUTES[model_type]
    assert found.deviation <= bound(model_type)
    assert found.updates is not None
    for i in (1, 3, 5):
        alone = transfer_model(model, torch.cat((ids[:, :i], ids[:, -1:]), dim=1)).updates
        for mine, wanted in zip(found.updates, alone, strict=True):
            if wanted is not None:
                assert mine is not None
                same(mine[i : i + 1], wanted, 20 * bound(model_type))
    assert all((values[:, 0] == 0).all() for name, values in found.measures.items() if name in ("norm", "shift"))


@pytest.mark.parametrize("site", ["network", "out-proj"])
@pytest.mark.parametrize("model_type", ["llama", "gemma2", "gpt2", "mamba2", "recurrent_gemma", "phi"])
def test_every_token_is_a_separate_query(model_type: str, site: Any) -> None:
    """Update `t` is what removing the tokens before `t` gives."""
    model, ids = tiny(model_type), prompt(5)
    found = trace(model, ids, queries="every", site=site, keep_updates=True, solver=Augmented())
    assert found.route == "one pass"
    assert found.updates is not None
    for t in (1, 4):
        alone = transfer_model(model, ids[:, : t + 1], site=site, solver=Augmented()).updates
        for mine, wanted in zip(found.updates, alone, strict=True):
            assert mine is not None
            same(mine[t : t + 1], wanted, 20 * bound(model_type))


@pytest.mark.parametrize("model_type", ["llama", "gemma2", "recurrent_gemma", "mamba2", "bloom"])
@pytest.mark.parametrize("route", ["states", "batches"])
def test_every_route_gives_the_same(model_type: str, route: Any) -> None:
    """Any route against one pass for each prefix."""
    model, ids = tiny(model_type), prompt(6)
    found, wanted = trace(model, ids, route=route), trace(model, ids, route="one by one")
    assert (found.route, wanted.route) == (route, "one by one")
    for name in MEASURES:
        size = float(wanted.measure(name).abs().max())
        assert (found.measure(name) - wanted.measure(name)).abs().max() <= 100 * bound(model_type) * max(1.0, size)


STREAMS = ("deepseek_v4", "gemma3n_text", "hy_v4")
"""Types whose layers have several residual streams."""


@pytest.mark.parametrize("model_type", EVERY)
def test_every_type_by_its_fastest_route(model_type: str) -> None:
    """The chosen route against one pass for each prefix, up to round-off of float32, in which some models compute."""
    model, ids = tiny(model_type), prompt(7)
    if model_type in STREAMS:
        with pytest.raises(ArgumentError, match="for a model with several residual streams call transfer_model"):
            trace(model, ids)
        return
    found, wanted = trace(model, ids), trace(model, ids, route="one by one")
    for name, values in wanted.measures.items():
        gap = (found.measure(name) - values).abs().max()
        assert gap <= 100 * torch.finfo(torch.float32).eps * values.abs().max()


def test_windows_shorter_than_the_prompt() -> None:
    """Copies attend within the window of their position in some blocks, and to everything in others."""
    model = tiny("gemma3_text", sliding_window=3)
    ids = prompt(12)
    assert set(model.config.layer_types) == {"sliding_attention", "full_attention"}
    found, wanted = trace(model, ids), trace(model, ids, route="one by one")
    assert found.route == "copies, by self slot in 1 blocks and by mask in 1"
    assert (found.measure("marginal-change") - wanted.measure("marginal-change")).abs().max() <= 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("model_type", ["llama", "gpt2", "gemma2", "recurrent_gemma"])
def test_lower_precision(model_type: str, dtype: torch.dtype) -> None:
    """The route agrees up to round-off, and the measures are finite and near those of float64."""
    found, exact = trace(tiny(model_type, dtype), prompt(8)), trace(tiny(model_type), prompt(8))
    assert found.deviation <= 20 * torch.finfo(dtype).eps
    for name, values in found.measures.items():
        assert values.isfinite().all()
        if name in ("norm", "shift"):
            wanted = exact.measure(name)
            assert (values - wanted).abs().max() <= 100 * torch.finfo(dtype).eps * wanted.abs().max()


def test_what_cannot_work_is_refused_and_the_model_is_as_it_was() -> None:
    """Wrong options, prompts and routes, each with an error that says what was got and what is needed."""
    model = tiny("mamba2", torch.float32)
    before = state(model)
    for options, message in (
        ({"queries": "all"}, "queries: got 'all'"),
        ({"site": "head"}, "site: got 'head'"),
        ({"route": "magic"}, "route: got 'magic'"),
        ({"route": "copies"}, "Mamba2Mixer, which cannot be computed for copies"),
    ):
        with pytest.raises(ArgumentError, match=message):
            trace(model, prompt(), **options)
    with pytest.raises(ShapeError, match="one token"):
        trace(model, prompt(1))
    with pytest.raises(ArgumentError, match="measure: got 'size'"):
        trace(model, prompt()).measure("size")
    assert state(model) == before


def test_a_failing_pass_leaves_no_trace() -> None:
    """The model's own attention function is restored, also after an error."""
    model = tiny("llama")
    before = state(model)
    with pytest.raises(IndexError), copies(model):
        model(torch.full((2, 3), 10**6))
    assert model.config._attn_implementation == "sdpa"
    assert state(model) == before


def test_states_in_modules_are_put_back() -> None:
    """RecurrentGemma keeps its state in its modules."""
    model = tiny("recurrent_gemma")
    held = torch.ones(2, 32)
    model.model.layers[0].temporal_block.rg_lru.recurrent_states = held
    trace(model, prompt(), route="states")
    assert model.model.layers[0].temporal_block.rg_lru.recurrent_states is held


def test_models_spread_over_devices() -> None:
    """Modules that are wrapped by device hooks stay wrapped; offloaded layers are asked for what they multiply by."""
    from accelerate import cpu_offload, dispatch_model

    plain, ids = tiny("llama", torch.float32), prompt()
    wanted = trace(plain, ids)
    spread = dispatch_model(
        tiny("llama", torch.float32), {"model": "cpu", "lm_head": "cpu"}, main_device="cpu", force_hooks=True
    )
    wrapped = spread.model.layers[0].mlp.forward
    found = trace(spread, ids)
    assert torch.equal(found.measure("marginal-change"), wanted.measure("marginal-change"))
    assert spread.model.layers[0].mlp.forward == wrapped
    offloaded = trace(cpu_offload(tiny("llama", torch.float32), execution_device="cpu"), ids)
    torch.testing.assert_close(offloaded.measure("marginal-change"), wanted.measure("marginal-change"))


def test_as_json() -> None:
    """The result can be written as JSON."""
    import json

    found = trace(tiny("llama"), prompt(4))
    text = json.loads(json.dumps(found.as_json(["a", "b", "c", "d"])))
    assert text["tokens"] == ["a", "b", "c", "d"]
    assert len(text["measures"]["marginal-change"]) == 2
    assert len(text["measures"]["marginal-change"][0]) == 3
