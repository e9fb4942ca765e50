"""Training a model on fresh tasks, evaluated with its context and as updated weights without it [Sec. 4.1, 4.2]."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ctxblocks.experiments.checkpoints import Training
from ctxblocks.experiments.models import Model, build, predict, predict_updated
from ctxblocks.experiments.presets import Configuration, ModelConfig
from ctxblocks.experiments.tasks import derive_seed, linear_prompts
from ctxblocks.registration.tasks import Prompts

Report = Callable[[int], None]


def prompts_for(config: Configuration, tasks: int, *purpose: str | int) -> Prompts:
    """The prompts of one purpose: the same ones every time it is asked for."""
    seed = derive_seed(config.seed, *purpose)
    return linear_prompts(tasks, config.examples, config.inputs, seed).to(config.device, config.torch_dtype)


def validation_prompts(config: Configuration) -> Prompts:
    """The prompts of every evaluation during training."""
    return prompts_for(config, config.validation_tasks, "validation")


def new_prompts(config: Configuration) -> Prompts:
    """The new tasks on which the trained models are measured."""
    return prompts_for(config, config.tasks, "new tasks")


def half_square_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """The batch's mean of `½ (ŷ − f(x_q))²`."""
    return 0.5 * (predictions - targets).square().mean()


def train(config: Configuration, model: ModelConfig, checkpoint: Path, report: Report) -> Training:
    """Train a model, from its last checkpoint if there is one, and leave a checkpoint at every evaluation.

    Step `t` draws its prompts from a seed made of the run's seed and `t` alone, so that a training which was cut short
    ends in the same numbers as one that was not.

    Args:
        config: of the run.
        model: what to train.
        checkpoint: where its checkpoints stand.
        report: told every step that has been taken.
    """
    built = build(config, model)
    training = Training(built, torch.optim.Adam(built.parameters(), lr=config.learning_rate), [])
    validation = validation_prompts(config)
    if checkpoint.exists():
        training.load(checkpoint)
    else:
        _evaluate(training, validation, 0, float("nan"))
    losses: list[Tensor] = []
    for step in range(training.step + 1, model.steps + 1):
        losses.append(_step(training, prompts_for(config, config.batch, "training", step)))
        if step % model.evaluate_every == 0 or step == model.steps:
            _evaluate(training, validation, step, torch.stack(losses).double().mean().item())
            training.save(checkpoint)
            losses.clear()
        report(step)
    return training


def _step(training: Training, prompts: Prompts) -> Tensor:
    """One step of Adam; the loss before it."""
    training.optimizer.zero_grad()
    loss = half_square_loss(predict(training.model, prompts), prompts.target)
    loss.backward()
    training.optimizer.step()
    return loss.detach()


def _evaluate(training: Training, prompts: Prompts, step: int, training_loss: float) -> None:
    """Add both validation losses to the history, their means taken in float64."""
    losses = [validation_loss(run, training.model, prompts) for run in (predict, predict_updated)]
    training.history.append((float(step), training_loss, *losses))


@torch.no_grad()
def validation_loss(run: Callable[[Model, Prompts], Tensor], model: Model, prompts: Prompts) -> float:
    """The mean loss of one way to predict."""
    return half_square_loss(run(model, prompts).double(), prompts.target.double()).item()
