"""Loading models and prompts, and errors of one line."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from ctxblocks_transformers import LoadError, load_model, load_skeleton, prompt_tokens
from ctxblocks_transformers.wiring import load as module
from lm.folder import model_folder
from lm.tiny import prompt, tiny
from transformers import logging

from ctxblocks import ArgumentError, CtxblocksError, DeviceError, DtypeError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return model_folder(tmp_path / "model", "llama")


def test_a_folder_is_loaded(folder: Path) -> None:
    """The same numbers in the checkpoint's dtype or the one asked for, in evaluation mode, and the tokenizer."""
    model, tokenizer = load_model(folder)
    assert (model.dtype, model.training) == (torch.float32, False)
    with torch.no_grad():
        torch.testing.assert_close(model(prompt()).logits, tiny("llama", torch.float32)(prompt()).logits)
    assert load_model(str(folder), "bfloat16", "cpu")[0].dtype == torch.bfloat16
    assert prompt_tokens(model, tokenizer, "w1 w2 zz").tolist() == [[4, 5, 60]]
    assert prompt_tokens(model, None, tokens="1, 2,3").tolist() == [[1, 2, 3]]
    assert prompt_tokens(model, None, tokens=[7, 8]).tolist() == [[7, 8]]


def test_loading_says_nothing(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither a progress bar nor a warning, and the library's settings are restored."""
    usual = logging.get_verbosity()
    logging.set_verbosity_info()
    logging.enable_progress_bar()
    capfd.readouterr()
    load_model(folder)
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (logging.INFO, True)
    logging.set_verbosity(usual)


def test_experts_work_in_float64(tmp_path: Path) -> None:
    """The default kernel of experts would refuse."""
    model, _ = load_model(model_folder(tmp_path, "mixtral"), "float64")
    with torch.no_grad():
        assert model(prompt()).logits.dtype == torch.float64


@pytest.mark.parametrize("model_type", ["llama", "gpt2"])
def test_a_model_without_tokenizer_takes_tokens(tmp_path: Path, model_type: str) -> None:
    """Also if transformers builds an empty tokenizer, which turns any text into no tokens."""
    model, tokenizer = load_model(model_folder(tmp_path, model_type, tokenizer=False))
    assert tokenizer is None
    with pytest.raises(ArgumentError, match=r"a text for a model without a tokenizer, needs tokens, such as --tokens"):
        prompt_tokens(model, tokenizer, "w1 w2")
    for given, message in (({}, "got none"), ({"prompt": "a", "tokens": "1"}, "a text and tokens")):
        with pytest.raises(ArgumentError, match=message):
            prompt_tokens(model, tokenizer, **given)
    with pytest.raises(ArgumentError, match="got '1,x', needs numbers separated by commas"):
        prompt_tokens(model, tokenizer, tokens="1,x")


def test_a_skeleton_needs_no_weights(folder: Path) -> None:
    """Only the configuration is read."""
    (folder / "model.safetensors").unlink()
    model = load_skeleton(folder)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


def changed(folder: Path, **options: Any) -> None:
    """Put other values into a configuration."""
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **options}))


def spoil(folder: Path, what: str) -> None:
    """Break one thing."""
    weights = folder / "model.safetensors"
    if what == "a configuration without a type":
        (folder / "config.json").write_text("{}")
    if what == "a configuration that is no JSON":
        (folder / "config.json").write_text("{")
    if what == "no configuration":
        (folder / "config.json").unlink()
    if what == "no weights":
        weights.unlink()
    if what == "half of the weights":
        weights.write_bytes(weights.read_bytes()[:2000])
    if what == "more layers than the weights have":
        changed(folder, num_hidden_layers=3)
    if what == "encoder-decoder":
        changed(folder, is_encoder_decoder=True)
    if what == "quantised":
        changed(folder, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    if what == "no language model":
        changed(folder, model_type="clip")


SPOILT = {
    "a configuration without a type": "the configuration of .* cannot be read: Unrecognized model",
    "a configuration that is no JSON": "the configuration of .* cannot be read: .* is not a valid JSON",
    "no configuration": "contains no config.json, needs one that save_pretrained wrote",
    "no weights": "cannot be loaded: Error no file named",
    "half of the weights": "cannot be loaded: ",
    "more layers than the weights have": r"lacks 9 weights, such as 'model\.layers\.2\.",
    "encoder-decoder": "got the encoder-decoder",
    "quantised": "cannot be loaded: .*bitsandbytes",
    "no language model": "cannot be loaded: Unrecognized configuration class",
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_spoilt_folder_is_one_line(folder: Path, what: str) -> None:
    """With the reason, and the folder's name."""
    spoil(folder, what)
    with pytest.raises(CtxblocksError, match=SPOILT[what]) as error:
        load_model(folder)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)


@pytest.mark.parametrize("name", ["/nowhere/model", "./nowhere", "a/b/c"])
def test_a_folder_that_is_not_there(name: str) -> None:
    """Names that can only be folders are not looked for on the hub."""
    with pytest.raises(
        LoadError, match=r"is not a folder, needs one with config\.json and weights, a GGUF file, or a name on the hub"
    ):
        load_model(name)


def test_a_name_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reported at once if the hub's address does not resolve, without a minute of retries."""

    def unresolved(*_: Any) -> None:
        raise OSError

    monkeypatch.setattr(module.socket, "getaddrinfo", unresolved)
    monkeypatch.setattr(module.urllib.request, "getproxies", dict)
    for load in (load_model, load_skeleton):
        with pytest.raises(LoadError, match="is not a folder here, is not in the cache, and the hub cannot be reached"):
            load("nobody/nothing-of-this-name")


def test_transformers_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra that brings it is named."""
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(LoadError, match=r'install it with pip install "ctxblocks\[lm\]"'):
        load_model(folder)


def test_dtypes_and_devices_that_are_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By their names."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for dtype in ("float31", "int64", torch.int8):
        with pytest.raises(DtypeError, match="needs a floating-point one"):
            load_model(folder, dtype)
    with pytest.raises(DeviceError, match="got 'tpu', needs 'auto', 'cpu' or 'cuda'"):
        load_model(folder, device="tpu")
    with pytest.raises(DeviceError, match="got 'cuda', needs a GPU"):
        load_model(folder, device="cuda")
