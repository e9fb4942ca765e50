"""`trace` where positions depend on the length of the sequence, and with leading tokens that stay."""

from typing import Any

import pytest
import torch
from ctxblocks_transformers import trace, transfer_model
from ctxblocks_transformers.prefixes.trace import ROUNDING
from lm.tiny import prompt, state, tiny

from ctxblocks import ArgumentError

CLOSE = ROUNDING * torch.finfo(torch.float32).eps
"""Rotations and norms compute in float32, so that two computations of a read differ by units of its round-off."""
SCALES = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [1.0, 4.0, 8.0, 16.0], "factor": 8.0}


def scaled(kind: str) -> Any:
    """A model whose rotations change beyond eight tokens."""
    if kind == "longrope":
        scaling = {**SCALES, "original_max_position_embeddings": 8, "rope_theta": 1e4}
        return tiny("phi3", rope_parameters=scaling, original_max_position_embeddings=8, num_key_value_heads=4)
    model = tiny("llama", rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4})
    rotary = model.model.rotary_emb
    rotary.original_max_seq_len = rotary.max_seq_len_cached = 8
    return model


def separately(model: Any, ids: torch.Tensor, count: int, keep: tuple[int, ...]) -> torch.Tensor:  # (blocks,)
    """The shift's norms of the query after some tokens, from its own prompt."""
    alone = torch.cat((ids[:, :count], ids[:, -1:]), dim=1)
    updates = transfer_model(model, alone, keep).updates
    return torch.stack([each.shift[-1].norm() for each in updates if each is not None and each.shift is not None])


@pytest.mark.parametrize("kind", ["longrope", "dynamic"])
@pytest.mark.parametrize("keep", [(), (0,), (0, 1)])
def test_every_prefix_has_the_positions_of_its_own_length(kind: str, keep: tuple[int, ...]) -> None:
    """On both sides of the boundary each update is that of `transfer_model` on the prefix alone; the state is restored."""
    model, ids = scaled(kind), prompt(13)
    before = state(model)
    found = trace(model, ids, keep=keep)
    assert state(model) == before
    shifts = found.measure("shift")
    for count in (len(keep) + 1, 5, 7, 8, 12):
        wanted = separately(scaled(kind), ids, count, keep)
        assert (shifts[:, count] - wanted).abs().max() <= CLOSE * shifts.max()
    assert bool((shifts[:, : len(keep) + 1] == 0).all())
    assert bool((found.measure("marginal_shift")[:, : len(keep)] == 0).all())
    assert found.as_json()["kept"]["positions"] == list(keep)


def test_kept_tokens_with_every_query() -> None:
    """Each token as the query of those before it, of which the first stays."""
    model, ids = tiny("llama"), prompt(9)
    found = trace(model, ids, queries="every", keep=(0,))
    wanted = transfer_model(model, ids, (0,)).updates
    last = torch.stack([each.shift[-1].norm() for each in wanted if each is not None and each.shift is not None])
    assert (found.measure("shift")[:, -1] - last).abs().max() <= CLOSE * last.max()


def test_kept_tokens_lead_the_prompt_of_a_causal_model() -> None:
    """Anything else is refused with the way out."""
    with pytest.raises(ArgumentError, match="needs the first ones of the prompt"):
        trace(tiny("llama"), prompt(), keep=(2,))
    with pytest.raises(ArgumentError, match="reads later tokens too"):
        trace(tiny("bert", is_decoder=False), prompt(), keep=(0,))
