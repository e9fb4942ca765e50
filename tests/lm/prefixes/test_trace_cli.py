"""`ctxblocks trace`: the table, the page, the picture and the numbers, and errors of one line."""

import json
import re
import struct
from pathlib import Path

import pytest
import torch
from ctxblocks_transformers import load_model, page, picture, trace
from lm.folder import model_folder
from lm.tiny import prompt, tiny

from ctxblocks import ShapeError
from ctxblocks.cli import main

TEXT = "w1 w7 w3 w9 w2"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return model_folder(tmp_path / "model", "llama")


def data_of(html: str) -> dict:
    """The numbers in a page."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_the_command_writes_what_trace_finds(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Table, page, picture and JSON of the same numbers."""
    out = tmp_path / "out"
    assert main(["trace", str(folder), TEXT, "--out", str(out), "--dtype", "float64"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    model, _ = load_model(folder, "float64")
    found = trace(model, torch.tensor([[4, 10, 6, 12, 5]]))
    assert lines[0] == "llama, family llama, 5 tokens, every prefix for the last token"
    assert lines[1].startswith("route: copies, by self slot, relative deviation from a forward pass ")
    assert lines[2] == "no token kept"
    assert len(lines) == 7
    step = int(found.measure("marginal-change")[0].argmax())
    assert lines[4].startswith(f"0 network {float(found.measure('norm')[0, -1]):.4g} ")
    assert f"{float(found.measure('marginal-change')[0, step]):.4g} {step} {TEXT.split()[step]!r}" in lines[4]
    document = json.loads((out / "trace.json").read_text())
    assert document["tokens"] == TEXT.split()
    assert document["measures"]["marginal-change"] == found.measure("marginal-change").tolist()
    held = data_of((out / "trace.html").read_text())
    for name in ("norm", "marginal-change"):
        torch.testing.assert_close(
            torch.tensor(held["measures"][name]["values"]).double(), found.measure(name)[:, -4:], rtol=1e-4, atol=1e-6
        )
    png = (out / "trace.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    assert min(struct.unpack(">II", png[16:24])) > 300


def test_json_and_tokens(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tokens instead of a text, every token as the query, the document on stdout and nothing else."""
    capsys.readouterr()
    options = ["--tokens", "4,10,6", "--queries", "every", "--json", "--out", str(tmp_path / "out")]
    assert main(["trace", str(folder), *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["queries"], found["route"], found["input_ids"]) == ("every", "one pass", [[4, 10, 6]][0])
    assert len(found["measures"]["norm"][0]) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{folder}"], "prompt: got none, needs a text or tokens"),
        (["{folder}", "w1"], "got a prompt of one token"),
        (["{folder}", TEXT, "--route", "states"], ""),
        (["{folder}/no", TEXT], "is not a folder"),
        (["{folder}", TEXT, "--out", "{folder}/config.json"], "needs a folder that can be written"),
        (["{folder}", TEXT, "--queries", "all"], 'Invalid value "all" for --queries'),
    ],
)
def test_what_is_wrong_is_one_line(
    folder: Path, tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2; a route that the model supports is used."""
    capsys.readouterr()
    arguments = [argument.format(folder=folder) for argument in arguments]
    if "--out" not in arguments:
        arguments += ["--out", str(tmp_path / "out")]
    assert main(["trace", *arguments]) == (2 if message else 0)
    err = capsys.readouterr().err
    assert (tmp_path / "out").exists() == (not message)
    if message:
        assert err.count("\n") == 1
        assert message in err


def test_a_page_holds_whatever_tokens_say() -> None:
    """Markup and scripts in a prompt stay text; names must be as many as tokens."""
    found = trace(tiny("llama"), prompt(3))
    html = page(found, ["</script><script>alert(1)</script>", "$\\frac$", "\u2028"], title="<i>")
    assert html.count("<script") == 2
    assert "<i>" not in html
    assert data_of(html)["tokens"][0] == "</script><script>alert(1)</script>"
    assert "http://" not in html
    assert "https://" not in html
    assert picture(found, ["</script>", "$\\frac$", "\n"]).startswith(b"\x89PNG")
    with pytest.raises(ShapeError, match="got 1, needs 3"):
        page(found, ["a"])


def test_a_picture_leaves_out_what_does_not_move() -> None:
    """Parallel blocks have no step of the weights, and a model without any has a picture still."""
    parallel, mixers = trace(tiny("gptj"), prompt(5)), trace(tiny("mamba2"), prompt(5))
    tall = [
        struct.unpack(">II", picture(found)[16:24])[1] for found in (parallel, mixers, trace(tiny("llama"), prompt(5)))
    ]
    assert tall[0] == tall[1] < tall[2]
    assert set(data_of(page(parallel))["measures"]) == set(data_of(page(mixers))["measures"])
