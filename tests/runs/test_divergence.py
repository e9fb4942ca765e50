"""Trainings that diverge end with the step, in comparisons and in reproductions."""

from pathlib import Path
from typing import Any

import attrs
import pytest
import torch

from ctxblocks import NonFiniteError
from ctxblocks.comparison import cells, compare_config
from ctxblocks.comparison.config import Cell
from ctxblocks.experiments import preset, training
from ctxblocks.runs.divergence import check_losses, check_trained


def test_the_first_bad_loss_is_named() -> None:
    """Losses of steps 11 to 14, the third of which is infinite."""
    losses = [torch.tensor(x) for x in (1.0, 2.0, float("inf"), float("nan"))]
    with pytest.raises(NonFiniteError, match=r"^training: diverged at step 13 of 40, where the loss is inf, needs"):
        check_losses(losses, 11, 40)
    check_losses(losses[:2], 11, 40)


def test_a_bad_last_step_is_named() -> None:
    """The loss was finite, and the weights are not."""
    model = torch.nn.Linear(2, 2)
    check_trained(model, 9)
    with torch.no_grad():
        model.bias[0] = torch.inf
    with pytest.raises(NonFiniteError, match=r"^training: diverged at step 9 of 9, after which the parameter 'bias'"):
        check_trained(model, 9)


def test_a_cell_of_a_comparison_that_diverges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its error is that of the training, not of a probe."""
    calls = iter(range(1000))
    real = cells.predictions

    def predictions(*arguments: Any) -> torch.Tensor:
        return real(*arguments) * (torch.nan if next(calls) == 3 else 1.0)

    monkeypatch.setattr(cells, "predictions", predictions)
    config = compare_config("quick", ("gru",), examples=3, blocks=1, width=8, steps=6, batch=4, trials=4)
    with pytest.raises(NonFiniteError, match=r"diverged at step 4 of 6, where the loss is nan"):
        cells.run_cell(config, Cell("gru", "linear", 0))


def test_a_model_of_a_reproduction_that_diverges(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No checkpoint is written of what is no number."""
    config = preset("quick", (6,), device="cpu")
    model = attrs.evolve(config.models[0], steps=4, evaluate_every=2)
    steps = iter([torch.tensor(x) for x in (1.0, 1.0, 1.0, float("nan"))])
    monkeypatch.setattr(training, "_step", lambda *arguments: next(steps))
    seen: list[object] = []
    with pytest.raises(NonFiniteError, match=r"diverged at step 4 of 4"):
        training.train(
            attrs.evolve(config, examples=3, batch=2, validation_tasks=2), model, tmp_path / "m", seen.append
        )
    assert (tmp_path / "m").exists()
