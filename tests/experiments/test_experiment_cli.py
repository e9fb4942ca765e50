"""`ctxblocks reproduce`: what it prints, what it refuses, and its presets."""

import json
from pathlib import Path

import attrs
import cattrs
import pytest
from small_experiments import small_configuration

from ctxblocks.base.errors import ArgumentError, DeviceError
from ctxblocks.cli import main
from ctxblocks.experiments import Configuration, preset
from ctxblocks.experiments.presets import STEPS

COMMAND = ["reproduce", "--device", "cpu"]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Configuration:
    """The command's configuration, whatever was asked for; the current folder is empty."""
    config = attrs.evolve(small_configuration(3), models=small_configuration(3, steps=10).models)
    monkeypatch.setattr("ctxblocks.experiments.preset", lambda *arguments, **options: config)
    monkeypatch.chdir(tmp_path)
    return config


def test_it_prints_claims_and_what_it_wrote(small: Configuration, capsys: pytest.CaptureFixture[str]) -> None:
    """Into a pipe: one line per claim, no progress bar, and a folder in `runs` by default."""
    assert main(COMMAND) == 0
    out, err = capsys.readouterr()
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert err == ""
    assert lines[0] == "figure claim criterion measured verdict"
    assert [line.endswith(("holds", "does not hold")) for line in lines[1:3]] == [True, True]
    assert lines[3].endswith("of 2 claims hold")
    assert (
        lines[4]
        == "wrote runs/reproduce-small-figure-3-seed-0: run.json, metrics.parquet, checkpoints, report.html and"
    )
    assert lines[5] == ", ".join(f"figures/figure-3.{kind}" for kind in ("png", "svg", "csv", "txt"))
    assert Path("runs/reproduce-small-figure-3-seed-0/report.html").exists()


def test_json_is_the_record(small: Configuration, capsys: pytest.CaptureFixture[str]) -> None:
    """And nothing else on stdout."""
    assert main([*COMMAND, "--json", "--out", "elsewhere"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content.pop("out") == "elsewhere"
    assert content == json.loads(Path("elsewhere/run.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["7"], "figures: got 7, needs some of 2, 3, 4, 5, 6"),
        (["2", "1", "9"], "figures: got 1, 9, needs some of 2, 3, 4, 5, 6"),
        (["two"], 'Invalid value for FIGURES: unable to convert "two" into int.'),
        (["--preset", "fast"], 'Invalid value "fast" for --preset. Choose from: "quick", "default", "paper".'),
        (["--dtype", "float16"], 'Invalid value "float16" for --dtype. Choose from: "float32", "float64".'),
        (["2", "--out", "file/run"], "out: got 'file/run', needs a folder that can be written (Not a directory)"),
    ],
)
def test_a_wrong_command_is_one_line(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 2, and nothing on stdout."""
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    assert main([*COMMAND, *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1


EVALUATIONS = {
    "quick": {"block": 200, "rnn": 60, "post-norm-stack": 12, "pre-norm-stack": 3},
    "default": {"block": 250, "rnn": 250, "post-norm-stack": 120, "pre-norm-stack": 30},
    "paper": {"block": 250, "rnn": 250, "post-norm-stack": 250, "pre-norm-stack": 250},
}


@pytest.mark.parametrize("name", STEPS)
def test_presets_hold_the_papers_settings(name: str) -> None:
    """The steps of each model, evaluations at even distances, and everything else alike; the configuration survives JSON."""
    config = preset(name, device="cpu")
    assert {model.name: model.steps for model in config.models} == STEPS[name]
    for model in config.models:
        assert model.steps % model.evaluate_every == 0
    assert {model.name: model.evaluate_every for model in config.models} == EVALUATIONS[name]
    assert (config.inputs, config.examples, config.batch, config.learning_rate) == (2, 100, 128, 1e-3)
    assert config.models[0].options == {"heads": 8, "head_width": 32}
    assert cattrs.structure(json.loads(json.dumps(cattrs.unstructure(config))), Configuration) == config


def test_only_the_models_that_the_figures_need_are_trained() -> None:
    """And figures come in order, once."""
    config = preset("quick", [6, 5, 6], device="cpu")
    assert config.figures == (5, 6)
    assert [model.name for model in config.models] == ["rnn", "post-norm-stack", "pre-norm-stack"]
    assert config.name == "reproduce-quick-figure-5-6-seed-0"
    assert preset("quick", seed=3, dtype="float64", device="cpu").name == "reproduce-quick-float64-seed-3"


def test_wrong_settings_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with what is known."""
    with pytest.raises(ArgumentError, match="preset: got 'fast', needs one of quick, default, paper"):
        preset("fast")
    with pytest.raises(ArgumentError, match="dtype: got 'float23', needs one of float32, float64; did you mean"):
        preset(dtype="float23")
    with pytest.raises(ArgumentError, match="figures: got none, needs some of"):
        preset(figures=[])
    with pytest.raises(ArgumentError, match="device: got 'tpu', needs one of auto, cpu, cuda"):
        preset(device="tpu")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(DeviceError, match="device: got 'cuda', needs a GPU that torch can use"):
        preset(device="cuda")
    with pytest.raises(ArgumentError, match="tasks: got 0, needs at least 1"):
        attrs.evolve(small_configuration(), tasks=0)
