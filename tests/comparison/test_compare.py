"""`compare`: matched sizes, the same prompts for all, controls and baselines, and what it refuses."""

import functools
import itertools
import json
import shlex
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch

from ctxblocks import ArgumentError, UnknownLayerError, registry
from ctxblocks.cli import main
from ctxblocks.comparison import (
    CONDITIONS,
    SCHEMA,
    CompareConfig,
    Line,
    compare,
    compare_config,
    order_differs,
    summarize,
)
from ctxblocks.comparison.cells import run_cell
from ctxblocks.comparison.config import Cell
from ctxblocks.comparison.folder import command_of
from ctxblocks.comparison.models import build, count, predictions

SMALL = {"inputs": 2, "examples": 4, "blocks": 2, "width": 8, "steps": 6, "batch": 8, "trials": 12}
OPTIONS = ["--inputs", "2", "--examples", "3", "--blocks", "1", "--steps", "4", "--jobs", "1"]

undrawn = functools.partial(compare, drawn=False)


def small(**options: Any) -> CompareConfig:
    return compare_config("quick", ("gru", "self-attention"), ("linear",), **{**SMALL, **options})


def test_sizes_match() -> None:
    """Every bundled layer within half a hidden unit of the largest."""
    config = attrs.evolve(small(), layers=tuple(registry().layers), width=16)
    sizes = {layer: count(build(config, layer, 0)) for layer in config.layers}
    unit = config.blocks * (2 * config.width + 1)
    assert max(sizes.values()) - min(sizes.values()) <= unit


def test_models_are_of_their_seed() -> None:
    """The same seed the same weights, another layer or seed others."""
    config = small()
    one, again, other = (build(config, "gru", seed) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), again.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_cell_holds_every_probe_of_both_twins() -> None:
    """Errors for every prefix, and every probe that a block of a stack has, trained and untrained."""
    config = small()
    table, timings = run_cell(config, Cell("gru", "linear", 0))
    assert table.schema == SCHEMA
    rows = table.to_pylist()
    probes = {row["probe"] for row in rows}
    assert probes == {*registry().probes, "parameters", "decay-exponent", "decay-exponent-low", "decay-exponent-high"}
    assert timings.schema == SCHEMA
    assert {row["probe"] for row in timings.to_pylist()} == {
        "seconds-per-step",
        "seconds-of-forward",
        "seconds-of-dynamics",
        "seconds-of-measuring",
    }
    assert all(row["value"] > 0 for row in timings.to_pylist())
    for pair in itertools.product(("trained", "untrained"), CONDITIONS):
        mine = [row for row in rows if (row["control"], row["condition"]) == pair]
        assert [row["n"] for row in mine if row["probe"] == "in-context-error"] == list(range(5))
        for probe in ("norm", "gradient-alignment"):
            places = [(row["block"], row["n"]) for row in mine if row["probe"] == probe]
            assert places == [(block, n) for block in range(2) for n in range(5)]
    untrained = build(config, "gru", 0)
    spec = registry().task("linear")
    from ctxblocks.runs.seeds import derive_seed

    prompts = spec.sample(spec.config(inputs=2, examples=4), 12, derive_seed(0, "linear", 0, "new tasks")).to(
        "cpu", torch.float32
    )
    with torch.no_grad():
        found = (predictions(untrained, prompts) - prompts.target[:, None]).square().double()
    mine = [row for row in rows if (row["control"], row["condition"]) == ("untrained", "clean")]
    values = [row["value"] for row in mine if row["probe"] == "in-context-error"]
    spreads = [row["error"] for row in mine if row["probe"] == "in-context-error"]
    np.testing.assert_allclose(values, found.mean(0).numpy(), rtol=1e-5)
    np.testing.assert_allclose(spreads, found.std(0).numpy() / np.sqrt(12), rtol=1e-5)


def test_training_helps() -> None:
    """A few hundred steps on one input bring the error well below the untrained twin's."""
    config = small(inputs=1, steps=300, batch=32, trials=100, width=16, learning_rate=3e-3)
    rows = run_cell(config, Cell("self-attention", "linear", 0))[0].to_pylist()
    rows = [r for r in rows if r["condition"] == "clean"]
    last = {r["control"]: r for r in rows if r["probe"] == "in-context-error" and r["n"] == 4}
    assert last["trained"]["value"] + 5 * last["trained"]["error"] < last["untrained"]["value"]


def test_a_cell_that_fails_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest finish, and the next call tries it again."""
    config = small()
    real = run_cell

    def failing(config: CompareConfig, cell: Cell, report: Any) -> Any:
        if cell.layer == "gru":
            raise RuntimeError("no\nluck")
        return real(config, cell, report)

    monkeypatch.setattr("ctxblocks.comparison.run.run_cell", failing)
    found = undrawn(config, tmp_path, 1)
    assert found.failed == {"gru--linear--0": "RuntimeError: no luck"}
    assert {line.layer for line in summarize(found.table, 2, (4,))} == {"self-attention"}
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "incomplete"
    monkeypatch.undo()
    assert undrawn(config, tmp_path, 1).failed == {}


def test_the_summary_is_the_table_s(tmp_path: Path) -> None:
    """Means and standard errors over seeds, and the best baseline, by hand."""
    found = undrawn(small(seeds=3), tmp_path, 1)
    (line,) = [each for each in summarize(found.table, 2, (4,)) if each.layer == "gru"]
    rows = [
        r for r in found.table.to_pylist() if (r["probe"], r["condition"], r["n"]) == ("in-context-error", "clean", 4)
    ]
    mine = [r["value"] for r in rows if r["layer"] == "gru" and r["control"] == "trained"]
    assert line.value == pytest.approx(np.mean(mine))
    assert line.error == pytest.approx(np.std(mine, ddof=1) / np.sqrt(3))
    assert line.untrained == pytest.approx(
        np.mean([r["value"] for r in rows if r["control"] == "untrained" and r["layer"] == "gru"])
    )
    assert (line.baseline, line.published) == ("least-squares", None)
    assert line.best < 1e-20


def test_the_published_order() -> None:
    """Said only where ours is another."""

    def line(layer: str, value: float, published: float | None) -> Line:
        return Line(layer, "linear", 8, value, 0.0, 1.0, "ridge", 0.0, 10, published)

    agree = [line("ssm", 0.1, 0.01), line("gru", 0.2, 0.04), line("griffin", 0.0, None)]
    assert order_differs(agree) == order_differs([]) == ""
    assert "ours gru, ssm; published ssm, gru" in order_differs([line("ssm", 0.3, 0.01), line("gru", 0.2, 0.04)])


def test_settings_that_cannot_be(tmp_path: Path) -> None:
    """Unknown names list what there is."""
    with pytest.raises(UnknownLayerError, match="gruu"):
        compare_config("quick", ("gruu",), ())
    with pytest.raises(ArgumentError, match="task: got 'cubic', needs one of associative-recall"):
        compare_config("quick", (), ("cubic",))
    with pytest.raises(ArgumentError, match=r"probe: got 'norms', needs one of alignment.*did you mean"):
        compare_config("quick", (), (), ("norms",))
    with pytest.raises(ArgumentError, match=r"corruption: got 1\.5, needs a share from 0 to 1"):
        small(corruption=1.5)
    with pytest.raises(ArgumentError, match="noise: got -1, needs at least 0"):
        small(noise=-1)
    with pytest.raises(ArgumentError, match="preset: got 'slow', needs one of 'quick', 'default'"):
        compare_config("slow", (), ())
    with pytest.raises(ArgumentError, match="trials: got 1, needs at least 2"):
        small(trials=1)
    with pytest.raises(ArgumentError, match="steps: got 0, needs more than 0"):
        small(steps=0)
    with pytest.raises(ArgumentError, match=r"layers: got .*, needs at least one, and each once"):
        compare_config("quick", ("gru", "gru"), ())
    with pytest.raises(ArgumentError, match="workers: got 0, needs at least 1"):
        undrawn(small(), tmp_path, 0)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Table and JSON of one folder; wrong names in one line."""
    capsys.readouterr()
    names = ["--layers", "gru", "--tasks", "linear", "noisy-linear", "--out", str(tmp_path / "out")]
    assert main(["compare", *names, *OPTIONS, "--device", "cpu"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0].startswith("1 pre-norm blocks of width 16, 4 steps of 64 tasks")
    assert sum(" 3 gru " in f" {line}" for line in lines) == 2
    assert main(["compare", *names, *OPTIONS, "--device", "cpu", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [line["task"] for line in found["lines"]] == ["linear", "noisy-linear"]
    assert found["notes"] == []
    for arguments, message in (
        (["--layers", "gruu"], "gruu"),
        (["--tasks", "cubic"], "task: got 'cubic', needs one of associative-recall"),
        (["--probes", "norms"], "probe: got 'norms', needs one of alignment"),
        (["--steps", "0"], "steps: got 0"),
    ):
        assert main(["compare", *arguments, "--out", str(tmp_path / "no")]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert message in err
    assert not (tmp_path / "no").exists()


def test_the_command_of_a_run_makes_it_again(asked: list[CompareConfig]) -> None:
    """The line in `run.json`, given to the command line, asks for the same configuration."""
    config = small(noise=0.1, seeds=2, learning_rate=0.01, seed=3)
    assert main(shlex.split(command_of(config))[1:]) == 2
    assert asked == [config]
