"""Prompts in every form in which tokenizers and users give them: read as the same tokens, or refused by name."""

from typing import Any

import numpy as np
import pytest
import torch
from ctxblocks_transformers import replay, trace, transfer_model
from ctxblocks_transformers.wiring.tokens import tokens_of
from lm.tiny import prompt, tiny
from transformers import BatchEncoding

from ctxblocks import ArgumentError, CtxblocksError, DtypeError, ShapeError

IDS = prompt()[0].tolist()
ONES = torch.ones(1, len(IDS), dtype=torch.int64)


@pytest.mark.parametrize(
    "given",
    [
        prompt(),
        prompt()[0],
        prompt().to(torch.int32),
        prompt().to(torch.uint8),
        IDS,
        [IDS],
        tuple(IDS),
        np.array(IDS),
        {"input_ids": [IDS]},
        BatchEncoding({"input_ids": prompt(), "attention_mask": ONES, "token_type_ids": torch.zeros_like(ONES)}),
    ],
    ids=lambda given: type(given).__name__,
)
def test_the_same_tokens(given: Any) -> None:
    """Each is the same prompt of one row, int64."""
    tokens = tokens_of(tiny("llama"), given)
    assert tokens.dtype == torch.int64
    assert tokens.tolist() == [IDS]


def test_a_tokenizers_mapping_gives_the_update_of_its_tokens() -> None:
    """In all three functions."""
    model, encoding = tiny("llama"), BatchEncoding({"input_ids": prompt(), "attention_mask": ONES})
    assert torch.equal(transfer_model(model, encoding).found, transfer_model(model, prompt()).found)
    assert torch.equal(trace(model, encoding).measure("norm"), trace(model, [IDS]).measure("norm"))
    assert torch.equal(replay(model, encoding, 3).tokens, replay(model, IDS, 3).tokens)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("a text", ArgumentError, "got a text, needs tokens"),
        (None, ArgumentError, "got a NoneType"),
        ([[1, 2], [3]], ArgumentError, "got a list"),
        ([1, 2**70], ArgumentError, "cannot be read as int64"),
        (["a", "b"], ArgumentError, "got a list"),
        ([1.0, 2.0], DtypeError, "needs int64"),
        ([True, False], DtypeError, "needs int64"),
        ([], (ShapeError, DtypeError), "input_ids"),
        ([5], ShapeError, "one token"),
        ([IDS, IDS], ShapeError, "without padding"),
        ({"tokens": [IDS]}, ArgumentError, "needs 'input_ids'"),
        ({"input_ids": [IDS], "pixel_values": 0}, ArgumentError, "'pixel_values' too"),
        ({"input_ids": [IDS], "attention_mask": [[0] + [1] * (len(IDS) - 1)]}, ArgumentError, "hides tokens"),
        ([1, -2], ArgumentError, "a token -2"),
    ],
)
def test_what_is_no_prompt_is_refused(given: Any, error: type[CtxblocksError], message: str) -> None:
    """With an error that names what was got."""
    with pytest.raises(error, match=message):
        transfer_model(tiny("llama"), given)
