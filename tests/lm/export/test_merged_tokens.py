"""Merged models with kept tokens, and the calls that a merged model is not for."""

from typing import Any

import pytest
import torch
from ctxblocks_transformers import OneQueryWarning, transfer_model
from lm.export.test_merged import logits
from lm.table import bound_of
from lm.tiny import prompt, tiny

from ctxblocks import ArgumentError, Augmented, ShapeError


def test_calls_that_the_copy_is_not_for() -> None:
    """Other tokens, positions, caches that hold tokens and the second token of a generation are refused."""
    model = tiny("llama")
    update = transfer_model(model, prompt())
    with pytest.warns(OneQueryWarning, match=r"for one query, token \d+ at position 6; for further tokens use replay"):
        merged = update.merged(model)
    last = prompt()[:, -1:]
    with torch.no_grad():
        cache = model(prompt()[:, :-1], use_cache=True).past_key_values
    with pytest.raises(ShapeError, match=r"got shape \(1, 7\), needs \(1, 1\), the tokens they were made for"):
        merged(prompt())
    with pytest.raises(ArgumentError, match="the tokens they were made for; for further tokens use replay"):
        merged((last + 1) % 61)
    with pytest.raises(ArgumentError, match="got a cache of 6 tokens, needs none"):
        merged(last, past_key_values=cache)
    with pytest.raises(ArgumentError, match=r"position_ids: got \[3\], needs \[6\]"):
        logits(update, merged, position_ids=torch.tensor([[3]]))
    with pytest.raises((ArgumentError, ShapeError), match=r"position_ids|input_ids|past_key_values"):
        merged.generate(last, max_new_tokens=2)


@pytest.mark.parametrize("site", ["network", "out-proj"])
@pytest.mark.parametrize("model_type", ["llama", "gpt2", "mixtral", "phi", "bert", "granite"])
def test_kept_tokens_stay_as_they_are(model_type: str, site: Any) -> None:
    """One map for all remaining tokens: each gives what it gives with the full context, and it has their rank."""
    model = tiny(model_type)
    update = transfer_model(model, prompt(), keep=[0, 3], site=site)
    merged = update.merged(model)
    with torch.no_grad():
        full = model(prompt()).logits[0, update.positions]
    assert float((logits(update, merged) - full).abs().max() / full.abs().max()) <= 10 * bound_of(model)
    if model_type == "llama" and site == "network":
        change = merged.model.layers[1].mlp.up_proj.weight - model.model.layers[1].mlp.up_proj.weight
        assert int(torch.linalg.matrix_rank(change, rtol=1e-9)) == 2


def test_a_bias_cannot_hold_the_shift_of_some_tokens_only() -> None:
    """Asked for with kept tokens it is refused; dependent reads are found by the comparison."""
    model = tiny("llama")
    update = transfer_model(model, prompt(), keep=[0])
    with pytest.raises(ArgumentError, match="needs 'last-layer', since a bias shifts every token"):
        update.merged(model, "output-bias")
    augmented = transfer_model(model, prompt(), keep=[0], solver=Augmented())
    with pytest.raises(ArgumentError, match="since a bias is the same for every token"):
        augmented.merged(model)
