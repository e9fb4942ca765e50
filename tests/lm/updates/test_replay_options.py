"""`replay` across a change of positions, with kept tokens, and sampled."""

from typing import Any

import pytest
import torch
from ctxblocks_transformers import replay
from lm.prefixes.test_lengths_and_kept import scaled
from lm.tiny import prompt, state
from lm.updates.test_replay import greedy, lively

from ctxblocks import ArgumentError

STEPS = 8


@pytest.mark.parametrize("kind", ["longrope", "dynamic"])
@pytest.mark.parametrize("keep", [(), (0, 3)])
def test_tokens_are_those_of_generation_without_a_cache(kind: str, keep: tuple[int, ...]) -> None:
    """From seven tokens to beyond eight, where the positions change."""
    model = scaled(kind)
    before = state(model)
    found = replay(model, prompt(), STEPS, keep=keep)
    assert state(model) == before
    assert found.route == "recompute"
    if kind == "longrope":  # generation with dynamic scaling remembers the longest sequence
        assert found.tokens.tolist() == greedy(model, STEPS)
    assert found.agreement == 1.0
    assert found.relative <= 2000 * torch.finfo(torch.float32).eps
    assert torch.equal(found.play(), found.tokens)


@pytest.mark.parametrize("model_type", ["llama", "recurrent_gemma"])
def test_a_part_of_the_prompt_stays(model_type: str) -> None:
    """Without its first three tokens the response is the same, by each route."""
    found = replay(lively(model_type), prompt(), STEPS, keep=(3, 4, 5))
    assert found.kept.positions == (3, 4, 5)
    assert found.agreement == 1.0
    assert torch.equal(found.play(), found.tokens)


def test_sampled_tokens_agree() -> None:
    """Both runs use one random number for each step; the seed decides, and differs from the likeliest tokens."""
    model = lively("llama")
    options: dict[str, Any] = {"temperature": 3.0, "top_k": 40, "top_p": 0.99}
    one, two = (replay(model, prompt(), STEPS, **options, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert one.tokens.tolist() == two.tokens.tolist() != greedy(model, STEPS)
    assert one.agreement == 1.0
    assert torch.equal(one.play(), one.tokens)
    assert replay(model, prompt(), STEPS, temperature=1.0, top_k=1).tokens.tolist() == greedy(model, STEPS)
    tokens = greedy(model, STEPS)
    assert (
        replay(model, prompt(), STEPS, eos_token_id=[60 if 60 not in tokens else 0, tokens[2]]).tokens[-1] == tokens[2]
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temperature": 0}, "temperature: got 0, needs a number above 0"),
        ({"top_p": 1.5}, "top_p: got 1.5"),
        ({"top_k": 0}, "top_k: got 0, needs at least 1"),
        ({"stop_strings": "end"}, "stop_strings: got no tokenizer"),
        ({"eos_token_id": "2"}, "eos_token_id: got '2'"),
        ({"keep": [99]}, "keep: got position 99"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], said: str) -> None:
    """By name, in one line."""
    with pytest.raises(ArgumentError, match=said):
        replay(lively("llama"), prompt(), 1, **options)


def test_layers_with_several_residual_streams() -> None:
    """Gemma 3n, whose layers take all streams at once."""
    found = replay(lively("gemma3n_text"), prompt(), 3)
    assert found.agreement == 1.0
    assert found.relative <= 2000 * torch.finfo(torch.float32).eps
