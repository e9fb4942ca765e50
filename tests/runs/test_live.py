"""Observers hear of training steps and evaluations while training goes on."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from experiments.small_experiments import small_configuration
from safetensors.numpy import load_file

from ctxblocks import Observer, ObserverSpec, hookimpl, registry
from ctxblocks.comparison import compare, compare_config
from ctxblocks.experiments import reproduce
from ctxblocks.registration.registry import Registry

STEPS = 60


class Watching(Observer):
    """Writes down steps and evaluations, and for every step how far the model's last checkpoint was when it heard of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.steps: list[tuple[str, int, int]] = []
        self.saved: list[int] = []
        self.evaluations: dict[tuple[str, int], Mapping[str, float]] = {}

    def step(self, model: str, step: int, steps: int) -> None:
        self.steps.append((model, step, steps))
        if len(self.saved) < 10:
            path = self.folder / "checkpoints" / f"{model}.safetensors"
            self.saved.append(int(load_file(path)["history"][-1, 0]) if path.exists() else 0)

    def evaluation(self, model: str, step: int, losses: Mapping[str, float]) -> None:
        self.evaluations[model, step] = losses


@pytest.fixture
def watching(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Watching:
    """A registered observer."""
    shared, observer = Registry(), Watching(tmp_path)
    for name, source in registry().plugins.items():
        shared.register(source, name)
    plugin = type("Mine", (), {})()
    plugin.ctxblocks_observers = hookimpl(lambda: [ObserverSpec(name="mine", summary="", open=lambda folder: observer)])
    shared.register(plugin, "mine")
    monkeypatch.setattr("ctxblocks.registration.registry._shared", shared)
    return observer


@pytest.mark.parametrize("workers", [1, 2])
def test_a_step_of_a_reproduction_is_heard_before_the_last_is_taken(
    workers: int, watching: Watching, tmp_path: Path
) -> None:
    """When the first steps are heard, the checkpoint of the last step has not been written; then all of them, once."""
    config = small_configuration(5, steps=STEPS)
    record = reproduce(config, tmp_path, workers, observers=["mine"])
    assert record.status == "complete"
    assert max(watching.saved) < STEPS
    for model in config.models:
        mine = [each for each in watching.steps if each[0] == model.name]
        assert mine == [(model.name, step, STEPS) for step in range(1, STEPS + 1)]
        history = load_file(tmp_path / "checkpoints" / f"{model.name}.safetensors")["history"]
        heard = {step: losses for (name, step), losses in watching.evaluations.items() if name == model.name}
        assert list(heard) == history[:, 0].astype(int).tolist() == list(range(0, STEPS + 1, 10))
        assert list(heard[10]) == [
            "training loss",
            "validation loss with context",
            "validation loss of updated weights",
        ]
        np.testing.assert_array_equal([list(losses.values()) for losses in heard.values()], history[:, 1:])


@pytest.mark.parametrize("workers", [1, 2])
def test_a_comparison_is_heard_too(workers: int, watching: Watching, tmp_path: Path) -> None:
    """Every step of every model, and its error before and after training."""
    sizes = {"inputs": 2, "examples": 4, "blocks": 1, "width": 8, "steps": 5, "batch": 4, "trials": 6}
    config = compare_config("quick", ("gru", "rnn"), ("linear",), ("norm",), **sizes)
    table = compare(config, tmp_path, workers, observers=["mine"], drawn=False).table.to_pylist()
    names = ("gru--linear--0", "rnn--linear--0")
    assert sorted(watching.steps) == [(name, step, 5) for name in names for step in range(1, 6)]
    assert set(watching.evaluations) == {(name, step) for name in names for step in (0, 5)}
    for (name, step), losses in watching.evaluations.items():
        where = (name.split("--")[0], "trained" if step else "untrained", "in-context-error", "clean", 4)
        (row,) = [r for r in table if (r["layer"], r["control"], r["probe"], r["condition"], r["n"]) == where]
        assert losses == {"in-context-error": row["value"]}


def test_hearing_changes_no_number(watching: Watching, tmp_path: Path) -> None:
    """The same checkpoints with an observer and without."""
    config = small_configuration(3, steps=20)
    for name, observers in (("heard", ["mine"]), ("alone", [])):
        reproduce(config, tmp_path / name, 1, observers=observers)
    first, second = (load_file(tmp_path / name / "checkpoints" / "block.safetensors") for name in ("heard", "alone"))
    assert all(np.array_equal(value, second[name], equal_nan=True) for name, value in first.items())
    assert torch.get_num_threads() == 1
