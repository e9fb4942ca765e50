"""`examples/train_tiny_lm.py` saves the models that it describes."""

import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

sys.path.append(str(Path(__file__).parents[3] / "examples"))
import train_tiny_lm


@pytest.mark.parametrize("name", train_tiny_lm.NAMES)
def test_models_are_saved_with_their_untrained_twins(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same seed gives the same weights; the twin is the model before its first step; tokens are bytes."""
    monkeypatch.setattr(train_tiny_lm, "WINDOW", 16)
    for folder in ("first", "second"):
        train_tiny_lm.make(name, tmp_path / folder, 2, 3, "cpu")
    first, again, twin = (
        AutoModelForCausalLM.from_pretrained(tmp_path / path).state_dict()
        for path in (f"first/{name}", f"second/{name}", f"first/{name}-untrained")
    )
    begun = train_tiny_lm.build(name, 3).state_dict()
    assert all(torch.equal(first[key], again[key]) and torch.equal(twin[key], begun[key]) for key in begun)
    assert not torch.equal(first["model.embed_tokens.weight"], begun["model.embed_tokens.weight"])
    text = "def naïve(x):\n\treturn 'ß' \0"
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "first" / name)
    assert tokenizer(text)["input_ids"] == list(text.encode())
    assert tokenizer.decode(list(text.encode())) == text


def test_held_out_modules_are_not_trained_on() -> None:
    """A line of each is in one text and not in the other."""
    known, unknown = (bytes(part.tolist()) for part in train_tiny_lm.texts())
    for line in (b"class TextWrapper", b"def nlargest", b"class NormalDist", b"class shlex", b"class HTMLCalendar"):
        assert line in unknown
        assert line not in known
