"""Observers are notified of the events of runs, and TensorBoard's files hold their numbers."""

import functools
import io
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pyarrow.parquet as pq
import pytest
from ctxblocks_tensorboard import TensorBoard
from experiments.small_experiments import small_configuration
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ctxblocks import ArgumentError, CtxblocksError, Observer, ObserverSpec, hookimpl, registry
from ctxblocks.cli import main
from ctxblocks.comparison import compare, compare_config
from ctxblocks.experiments import reproduce
from ctxblocks.registration.registry import Registry

SMALL = {"inputs": 2, "examples": 4, "blocks": 1, "width": 8, "steps": 2, "batch": 4, "trials": 6}
undrawn = functools.partial(compare, drawn=False)


class Listening(Observer):
    """Writes down its notifications."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def start(self, configuration: Mapping[str, Any]) -> None:
        self.told.append(("start", configuration.get("layers")))

    def row(self, row: Mapping[str, Any]) -> None:
        self.told.append(("row", dict(row)))

    def figure(self, name: str, png: bytes) -> None:
        self.told.append(("figure", (name, png[:8])))

    def end(self, status: str) -> None:
        self.told.append(("end", status))


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> Listening:
    """An observer in a registry that has everything else too."""
    shared, heard = Registry(), Listening()
    for name, source in registry().plugins.items():
        shared.register(source, name)
    plugin = type("Mine", (), {})()
    plugin.ctxblocks_observers = hookimpl(lambda: [ObserverSpec(name="mine", summary="", open=lambda folder: heard)])
    shared.register(plugin, "mine")
    monkeypatch.setattr("ctxblocks.registration.registry._shared", shared)
    return heard


def test_an_observer_is_notified_of_every_row_once(listening: Listening, tmp_path: Path) -> None:
    """Beginning, the table's rows as they land, the end; of a folder that has all, no row."""
    config = compare_config("quick", ("gru",), ("linear",), **SMALL)
    table = undrawn(config, tmp_path, 1, observers=["mine"]).table
    assert listening.told[0] == ("start", ["gru"])
    assert listening.told[-1] == ("end", "over")
    assert sorted(map(str, (row for kind, row in listening.told if kind == "row"))) == sorted(
        map(str, table.to_pylist())
    )
    listening.told.clear()
    undrawn(config, tmp_path, 1, observers=["mine"])
    assert [kind for kind, _ in listening.told] == ["start", "end"]


def test_an_observer_is_notified_of_every_figure(listening: Listening, tmp_path: Path) -> None:
    """By the name of its files, as a PNG."""
    config = compare_config("quick", ("gru",), ("linear",), ("norm",), **SMALL)
    compare(config, tmp_path, 1, observers=["mine"])
    told = dict(figure for kind, figure in listening.told if kind == "figure")
    assert {f"{name}.png" for name in told} == {path.name for path in (tmp_path / "figures").glob("*.png")}
    assert set(told) == {f"{name}--linear" for name in ("error", "by-layer", "robustness", "norm")}
    assert set(told.values()) == {b"\x89PNG\r\n\x1a\n"}


def test_an_observer_is_notified_of_a_failure(
    listening: Listening, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever breaks off."""
    monkeypatch.setattr("ctxblocks.comparison.run.gathered", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        undrawn(compare_config("quick", ("gru",), ("linear",), **SMALL), tmp_path, 1, observers=["mine"])
    assert listening.told[-1] == ("end", "failed")


def test_tensorboard_holds_the_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By way of the command: a curve over `n` for every probe, and the settings."""
    arguments = ["--layers", "gru", "--inputs", "2", "--examples", "3", "--blocks", "1", "--steps", "2", "--jobs", "1"]
    assert main(["compare", *arguments, "--observe", "tensorboard", "--out", str(tmp_path), "--device", "cpu"]) == 0
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    curve = events.Scalars("linear/in-context-error/gru/trained/seed 0")
    assert [point.step for point in curve] == [0, 1, 2, 3]
    config = compare_config("quick", ("gru",), (), inputs=2, examples=3, blocks=1, steps=2)
    rows = undrawn(config, tmp_path, 1).table.to_pylist()
    rows = [r for r in rows if r["condition"] == "clean"]
    wanted = [r["value"] for r in rows if r["probe"] == "in-context-error" and r["control"] == "trained"]
    np.testing.assert_allclose([point.value for point in curve], wanted, rtol=1e-6)
    assert "linear/norm/gru/trained/seed 0/block 0" in events.Tags()["scalars"]
    assert "linear/in-context-error/baseline/ridge/seed 0" in events.Tags()["scalars"]


def test_tensorboard_takes_figures(tmp_path: Path) -> None:
    """As images of their size."""
    content = io.BytesIO()
    matplotlib.image.imsave(content, np.zeros((4, 6, 3)), format="png")
    board = TensorBoard(tmp_path)
    board.figure("curve", content.getvalue())
    board.end("over")
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    (image,) = events.Images("curve")
    assert (image.width, image.height) == (6, 4)


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package, and an unknown observer."""
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(CtxblocksError, match=r'pip install "ctxblocks\[tensorboard\]"'):
        TensorBoard(tmp_path)
    with pytest.raises(ArgumentError, match="observer: got 'wandb', needs one of tensorboard"):
        undrawn(compare_config("quick", ("gru",), (), **SMALL), tmp_path / "no", 1, observers=["wandb"])
    assert not (tmp_path / "no").exists()
    with pytest.raises(ArgumentError, match="lower case with hyphens"):
        ObserverSpec(name="A b", summary="", open=lambda folder: Observer())


def test_a_plain_observer_does_nothing() -> None:
    """Every method may be left out."""
    plain = Observer()
    calls = [plain.start({}), plain.step("a", 1, 2), plain.evaluation("a", 1, {}), plain.row({})]
    assert [*calls, plain.figure("a", b""), plain.end("over")] == [None] * 6


def test_a_reproduction_is_watched_too(listening: Listening, tmp_path: Path) -> None:
    """Its rows, its figures, its end; TensorBoard's curves are the losses over the steps."""
    config = small_configuration(2, 3, steps=20)
    reproduce(config, tmp_path, 1, observers=["mine", "tensorboard"])
    assert [kind for kind, _ in listening.told if kind in ("start", "end")] == ["start", "end"]
    rows = pq.read_table(tmp_path / "metrics.parquet").to_pylist()
    assert str([row for kind, row in listening.told if kind == "row"]) == str(rows)  # a loss of no step is NaN
    assert [value[0] for kind, value in listening.told if kind == "figure"] == ["figure-2", "figure-3"]
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    wanted = [(row["step"], row["value"]) for row in rows if row["quantity"] == "training loss"]
    got = [(point.step, point.value) for point in events.Scalars("block/training loss/trained")]
    assert [step for step, _ in got] == [step for step, _ in wanted]
    np.testing.assert_allclose([value for _, value in got], [value for _, value in wanted], rtol=1e-6)
    live = events.Scalars("training/block/training loss")  # that of no step is left out
    assert [(point.step, point.value) for point in live] == [(step, value) for step, value in got if step]
