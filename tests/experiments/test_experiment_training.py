"""Training: it learns, it resumes exactly, and it is distinguished from another model."""

from pathlib import Path

import pytest
import torch
from small_experiments import small_configuration, small_model

from ctxblocks.base.errors import ArgumentError
from ctxblocks.experiments import Configuration
from ctxblocks.experiments.checkpoints import Training
from ctxblocks.experiments.models import build, predict, predict_updated
from ctxblocks.experiments.training import new_prompts, train
from ctxblocks.registration.observers import Evaluation, Step
from ctxblocks.runs.jobs import Report

MODELS = ("block", "rnn", "post-norm-stack", "pre-norm-stack")


class CutError(Exception):
    """Stands for whatever ends a training early."""


def cut_after(steps: int) -> Report:
    """A report that ends the training after some steps."""

    def report(event: object) -> None:
        if isinstance(event, Step) and event.step == steps:
            raise CutError

    return report


def ignore(event: object) -> None:
    """A report to nobody."""


def state(training: Training) -> dict[str, torch.Tensor]:
    """Everything that a checkpoint holds."""
    tensors = dict(training.model.state_dict())
    for index, entries in training.optimizer.state_dict()["state"].items():
        tensors |= {f"{index}.{name}": value for name, value in entries.items()}
    return {**tensors, "history": torch.tensor(training.history, dtype=torch.float64)}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Equal bit for bit; NaN equals NaN."""
    assert first.keys() == second.keys()
    return all(torch.equal(value.nan_to_num(-1.0), second[name].nan_to_num(-1.0)) for name, value in first.items())


def test_training_decreases_the_loss(tmp_path: Path) -> None:
    """A small block, trained for a few hundred steps, is well below the zero predictor and where it began."""
    config = small_configuration(2, steps=200)
    history = train(config, config.models[0], tmp_path / "block.safetensors", ignore).history
    assert history[-1][2] < history[0][2] / 2
    assert [row[0] for row in history] == list(range(0, 201, 10))


@pytest.mark.parametrize("name", MODELS)
def test_a_training_that_was_cut_short_resumes_exactly(name: str, tmp_path: Path) -> None:
    """Cut between two checkpoints, it ends in the same weights, the same Adam state and the same history."""
    config, model = small_configuration(), small_model(name, steps=30)
    whole = state(train(config, model, tmp_path / "whole.safetensors", ignore))
    with pytest.raises(CutError):
        train(config, model, tmp_path / "cut.safetensors", cut_after(17))
    events: list[object] = []
    resumed = state(train(config, model, tmp_path / "cut.safetensors", events.append))
    assert [event for event in events if isinstance(event, Step)] == [Step(name, step, 30) for step in range(11, 31)]
    assert [event.step for event in events if isinstance(event, Evaluation)] == [20, 30]
    assert same(whole, resumed)


def test_another_seed_gives_another_training(tmp_path: Path) -> None:
    """Weights and data both come from the seed."""
    runs: list[dict[str, torch.Tensor]] = []
    for seed in (0, 1, 0):
        config = small_configuration(2, seed=seed)
        runs.append(state(train(config, small_model("block", steps=10), tmp_path / f"{len(runs)}.st", ignore)))
    assert same(runs[0], runs[2])
    assert not same(runs[0], runs[1])


def test_building_a_model_leaves_global_randomness_alone(configuration: Configuration) -> None:
    """The generator of torch stands where it stood."""
    before = torch.random.get_rng_state()
    build(configuration, configuration.models[0])
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("name", MODELS)
def test_updated_weights_predict_without_the_context(
    name: str, configuration: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both predictions agree in float64; with the update left out, or the context in place of it, they do not."""
    model = build(configuration, small_model(name)).double()
    prompts = new_prompts(configuration).to("cpu", torch.float64)
    with torch.no_grad():
        expected = predict(model, prompts)
        assert (predict_updated(model, prompts) - expected).abs().max() < 1e-12
        given: list[object] = []
        handle = model.register_forward_hook(
            lambda module, arguments, keywords, output: given.extend(arguments[1:]), with_kwargs=True
        )
        predict_updated(model, prompts)
        handle.remove()
        assert given == [None]
        monkeypatch.setattr("ctxblocks.experiments.models.transfer", lambda model, query, context: None)
        assert (predict_updated(model, prompts) - expected).abs().max() > 1e-3


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_a_checkpoint_of_nothing_is_refused(
    content: bytes | None, configuration: Configuration, tmp_path: Path
) -> None:
    """A damaged file and another model's checkpoint are named, with the way out."""
    path = tmp_path / "block.safetensors"
    if content is None:
        train(configuration, small_model("rnn", steps=10), path, ignore)
    else:
        path.write_bytes(content)
    with pytest.raises(
        ArgumentError, match=r"checkpoint: got '.*block.safetensors', needs one of this model .*delete it"
    ):
        train(configuration, small_model("block", steps=10), path, ignore)
