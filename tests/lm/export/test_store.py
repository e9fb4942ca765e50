"""Updates in files: bit by bit the same when read, and one clear error for every file that is not one of them."""

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from ctxblocks_transformers import ModelUpdate, transfer_model
from ctxblocks_transformers.export import store
from lm.tiny import prompt, tiny
from lm.updates.test_transfer_model import EXACT, SINGLE
from safetensors import safe_open

from ctxblocks import ArgumentError, Augmented, LeastNorm


def same(a: torch.Tensor | None, b: torch.Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.dtype == b.dtype and torch.equal(a, b)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("solver", [LeastNorm(), Augmented()])
@pytest.mark.parametrize("model_type", ["llama", "gpt2", "gemma2", "phi", "mixtral", "recurrent_gemma", "mamba2"])
def test_read_again_it_is_the_same(model_type: str, solver: Any, dtype: torch.dtype, tmp_path: Path) -> None:
    """Every tensor and every field, and the model's output with it is the same."""
    model, path = tiny(model_type, dtype), tmp_path / "update.safetensors"
    update = transfer_model(model, prompt(), keep=[2, 5], solver=solver)
    update.save(path)
    loaded = ModelUpdate.load(str(path))
    for name in ("sites", "family", "query", "model_type", "model_name", "dtype", "report"):
        assert getattr(loaded, name) == getattr(update, name)
    for name in store.WHOLE:
        assert same(getattr(loaded, name), getattr(update, name))
    for mine, theirs in zip(update.updates, loaded.updates, strict=True):
        assert mine is not None
        assert theirs is not None
        assert same(mine.shift, theirs.shift)
        for name in ("direction", "key", "offset"):
            assert same(getattr(mine.operator, name), getattr(theirs.operator, name))
        assert (mine.site, mine.place, mine.per_token) == (theirs.site, theirs.place, theirs.per_token)
    outputs = []
    for each in (update, loaded):
        with each.applied(model) as calls, torch.no_grad():
            outputs.append(model(**each.inputs(model)).logits)
        if dtype == torch.float64:
            assert calls.differences[0].relative <= SINGLE.get(model_type, EXACT)
    assert torch.equal(*outputs)


def test_what_was_loaded_merges(tmp_path: Path) -> None:
    """An update from a file can be merged like the one that was written."""
    model, path = tiny("llama"), tmp_path / "u"
    transfer_model(model, prompt()).save(path)
    update = ModelUpdate.load(path)
    merged = update.merged(model)
    with torch.no_grad():
        assert update.difference(merged(**update.inputs(merged)).logits[0]).relative <= EXACT


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    """Model, sites, positions and dtype can be read with nothing but safetensors; the tokens by their hash."""
    model, path = tiny("llama"), tmp_path / "u.safetensors"
    model.config._name_or_path = "somewhere/llama"
    transfer_model(model, prompt()).save(path)
    with safe_open(path, framework="pt") as file:
        about = file.metadata()
        assert file.get_tensor("positions").tolist() == [6]
    assert (about["format"], about["version"], about["dtype"]) == ("ctxblocks-model-update", "1", "float64")
    assert (about["model"], about["model_type"], json.loads(about["sites"])) == (
        "somewhere/llama",
        "llama",
        ["network"] * 2,
    )
    assert json.loads(about["family"])["layers"] == "model.layers"
    assert len(about["tokens"]) == len(about["checksum"]) == 64
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("store") / "u"
    transfer_model(tiny("gpt2"), prompt()).save(path)
    return path.read_bytes()


def refused(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(ArgumentError, match=rf"load: '.*{path.name}' .*{message}"):
        ModelUpdate.load(path)


def test_damage_is_seen_wherever_it_is(written: bytes, tmp_path: Path) -> None:
    """Cut short anywhere, or one bit of any byte in a hundred changed."""
    path = tmp_path / "update"
    for length in (0, 1, 7, 8, 100, len(written) // 2, len(written) - 1):
        refused(path, written[:length], "is damaged or not a safetensors file")
    for index in range(0, len(written), 101):
        changed = bytes([written[index] ^ 1])
        refused(path, written[:index] + changed + written[index + 1 :], "needs")


def test_files_of_something_else_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text, other tensors, and a file of a later version."""
    path = tmp_path / "other"
    refused(path, b"# notes\n" * 10, "is damaged or not a safetensors file")
    refused(
        path, safetensors.torch.save({"x": torch.zeros(2)}), "something else, needs one that ModelUpdate.save wrote"
    )
    monkeypatch.setattr(store, "VERSION", 2)
    transfer_model(tiny("gpt2"), prompt()).save(path)
    monkeypatch.undo()
    refused(path, path.read_bytes(), "has version 2 of its format, needs 1")
    with pytest.raises(FileNotFoundError, match="nothing-here"):
        ModelUpdate.load(tmp_path / "nothing-here")


def test_a_write_that_fails_leaves_the_old_file(
    written: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted before the rename: the old content, and no other file."""
    path, update = tmp_path / "u", transfer_model(tiny("gpt2"), prompt())
    path.write_bytes(b"old")

    def interrupted(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        update.save(path)
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    update.save(path)
    assert len(path.read_bytes()) == len(written)
    with pytest.raises(ArgumentError, match=r"save: got '.*', needs a path in a folder that can be written"):
        update.save(tmp_path / "none" / "u")
