"""Training a model on fresh tasks, evaluated with its context and as updated weights without it [Sec. 4.1, 4.2]."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ctxblocks.experiments.checkpoints import HISTORY, Training
from ctxblocks.experiments.models import Model, build, predict, predict_updated
from ctxblocks.experiments.presets import Configuration, ModelConfig
from ctxblocks.experiments.tasks import linear_prompts
from ctxblocks.registration.observers import Evaluation, Step
from ctxblocks.registration.tasks import Prompts
from ctxblocks.runs.divergence import check_losses, check_trained
from ctxblocks.runs.jobs import Report
from ctxblocks.runs.seeds import derive_seed


def prompts_for(config: Configuration, tasks: int, *purpose: str | int) -> Prompts:
    """The prompts for one purpose; every call returns the same ones."""
    seed = derive_seed(config.seed, *purpose)
    return linear_prompts(tasks, config.examples, config.inputs, seed).to(config.device, config.torch_dtype)


def validation_prompts(config: Configuration) -> Prompts:
    """The prompts of every evaluation during training."""
    return prompts_for(config, config.validation_tasks, "validation")


def new_prompts(config: Configuration) -> Prompts:
    """The new tasks on which the trained models are measured."""
    return prompts_for(config, config.tasks, "new tasks")


def half_square_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """The mean of `½ (ŷ − f(x_q))²` over the batch."""
    return 0.5 * (predictions - targets).square().mean()


def train(config: Configuration, model: ModelConfig, checkpoint: Path, report: Report) -> Training:
    """Train a model, from its last checkpoint if there is one, and write a checkpoint at every evaluation.

    Step `t` draws its prompts from a seed that is derived from the run's seed and `t` alone, so that an interrupted training
    ends in the same numbers as an uninterrupted one.

    Args:
        config: of the run.
        model: to be trained.
        checkpoint: the file of its checkpoints.
        report: called with a `Step` after every step, and with an `Evaluation` after every evaluation.

    Raises:
        NonFiniteError: the training diverged; its last checkpoint is that before.
    """
    built = build(config, model)
    training = Training(built, torch.optim.Adam(built.parameters(), lr=config.learning_rate), [])
    validation = validation_prompts(config)
    if checkpoint.exists():
        training.load(checkpoint)
    else:
        report(_evaluate(model, training, validation, 0, float("nan")))
    losses: list[Tensor] = []
    for step in range(training.step + 1, model.steps + 1):
        losses.append(_step(training, prompts_for(config, config.batch, "training", step)))
        if step % model.evaluate_every == 0 or step == model.steps:
            check_losses(losses, step - len(losses) + 1, model.steps)
            check_trained(built, step)
            evaluation = _evaluate(model, training, validation, step, torch.stack(losses).double().mean().item())
            training.save(checkpoint)
            losses.clear()
            report(evaluation)
        report(Step(model.name, step, model.steps))
    return training


def _step(training: Training, prompts: Prompts) -> Tensor:
    """Take one step of Adam and return the loss before it."""
    training.optimizer.zero_grad()
    loss = half_square_loss(predict(training.model, prompts), prompts.target)
    loss.backward()
    training.optimizer.step()
    return loss.detach()


def _evaluate(model: ModelConfig, training: Training, prompts: Prompts, step: int, training_loss: float) -> Evaluation:
    """Add both validation losses to the history, their means taken in float64."""
    losses = [training_loss, *(validation_loss(run, training.model, prompts) for run in (predict, predict_updated))]
    training.history.append((float(step), *losses))
    return Evaluation(model.name, step, dict(zip(HISTORY[1:], losses, strict=True)))


@torch.no_grad()
def validation_loss(run: Callable[[Model, Prompts], Tensor], model: Model, prompts: Prompts) -> float:
    """The mean loss of one way of predicting."""
    return half_square_loss(run(model, prompts).double(), prompts.target.double()).item()
