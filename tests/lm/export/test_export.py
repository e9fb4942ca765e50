"""`ctxblocks export`: the prompt reaches `transfer_model`, and the differences are printed."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from ctxblocks_transformers import Difference, ModelUpdate, load_model, transfer_model
from lm.folder import model_folder

from ctxblocks.cli import main

TEXT = "w1 w7 w3 w9 w2"
TOKENS = "4,10,6,12,5"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return model_folder(tmp_path / "model", "llama")


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[ModelUpdate, Any]]:
    """Records what is to be written, and where; writing itself is tested elsewhere."""
    calls: list[tuple[ModelUpdate, Any]] = []

    def to_peft(self: ModelUpdate, folder: Any, model: Any) -> Difference:
        calls.append((self, folder))
        return Difference(full=0.25, plain=1.0, effect=1.5, size=2.0)

    monkeypatch.setattr(ModelUpdate, "to_peft", to_peft)
    return calls


@pytest.mark.parametrize("prompt", [[TEXT], ["--tokens", TOKENS]])
@pytest.mark.parametrize("site", ["network", "out-proj"])
def test_a_prompt_becomes_an_update(
    folder: Path, written: Any, prompt: list[str], site: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """A text or tokens; the update is that of `transfer_model`, and the numbers are its own and the adapter's."""
    capsys.readouterr()
    options = ["--to", "there", "--site", site, "--dtype", "float64", "--json"]
    assert main(["export", str(folder), *prompt, *options]) == 0
    found = json.loads(capsys.readouterr().out)
    model, _ = load_model(folder, "float64")
    update = transfer_model(model, torch.tensor([[4, 10, 6, 12, 5]]), site=site)
    ((made, where),) = written
    assert (where, made.sites) == (Path("there"), update.sites)
    assert torch.equal(made.full, update.full)
    assert found["tokens"] == [4, 10, 6, 12, 5]
    assert (found["dtype"], found["site"], found["folder"]) == ("float64", site, "there")
    assert found["next_token"] == {"with_prompt": int(update.full.argmax()), "without": int(update.plain.argmax())}
    assert found["update"]["effect"] == update.report.effect
    assert found["update"]["relative"] <= 1e-10
    adapter = {"full": 0.25, "plain": 1.0, "effect": 1.5, "size": 2.0, "unit": 0.0, "relative": 0.125}
    assert found["adapter"] == adapter | {"kl": 0.0, "same_top": True}
    assert found["kept"]["positions"] == []


def test_the_adapter_is_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And measured with PEFT's own loading; a second time the folder is not empty."""
    capsys.readouterr()
    arguments = ["export", str(folder), TEXT, "--to", str(folder / "adapter"), "--dtype", "float64", "--json"]
    assert main(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["adapter"]["relative"] <= 1e-10
    assert found["adapter"]["plain"] > 0.1
    assert (folder / "adapter" / "adapter_model.safetensors").is_file()
    assert main(arguments) == 2
    assert "needs a new or an empty folder" in capsys.readouterr().err


def test_the_table(folder: Path, written: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Both differences, and where the adapter is."""
    assert main(["export", str(folder), TEXT, "--to", "there", "--device", "cpu"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0].startswith("LlamaForCausalLM (llama, float32): 4 tokens of the prompt as an update at site network")
    assert lines[1:3] == ["no token kept", "difference from full prompt relative effect of the prompt KL same top"]
    assert lines[3].startswith("update ")
    assert lines[4:] == ["adapter 2.50e-01 1.25e-01 1.50e+00 0.00e+00 yes", "wrote there"]


@pytest.mark.parametrize(("keep", "positions"), [("none", []), ("0,2", [0, 2]), ("0", [0])])
def test_tokens_that_stay(
    folder: Path, written: Any, keep: str, positions: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    """As asked, in the update and in what is said."""
    assert main(["export", str(folder), TEXT, "--to", "there", "--keep", keep, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kept"]["positions"] == positions
    assert written[0][0].positions.tolist() == [*positions, 4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{folder}", TEXT], 'Command "export" parameter --to requires an argument'),
        (["{folder}", "--to", "x"], "prompt: got none, needs a text or tokens"),
        (["{folder}", TEXT, "--tokens", "1,2", "--to", "x"], "prompt: got a text and tokens"),
        (["{folder}", "--tokens", "1", "--to", "x"], "got a prompt of one token"),
        (["{folder}", "--tokens", "1,99", "--to", "x"], "got a token 99, needs numbers from 0 to 60"),
        (["{folder}", "--tokens", "1,b", "--to", "x"], "needs numbers separated by commas"),
        (["{folder}", TEXT, "--to", "x", "--keep", "first"], "keep: got 'first', needs auto, none, or positions"),
        (["{folder}/no", TEXT, "--to", "x"], "is not a folder"),
    ],
)
def test_what_is_wrong_is_one_line(
    folder: Path, written: Any, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and nothing is written."""
    capsys.readouterr()
    assert main(["export", *(argument.format(folder=folder) for argument in arguments)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err
    assert not written
