"""The measurements of a trained model, as tidy tables [Sec. 4.2–4.4, App. C, App. D]."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from ctxblocks.blocks.block import ContextualBlock
from ctxblocks.blocks.stack import Stack
from ctxblocks.experiments.baselines import least_squares_losses, zero_losses
from ctxblocks.experiments.checkpoints import HISTORY, Training
from ctxblocks.experiments.metrics import Tag, tidy
from ctxblocks.experiments.models import Model, build, predict, predict_updated
from ctxblocks.experiments.presets import Configuration, ModelConfig
from ctxblocks.experiments.training import new_prompts, validation_prompts
from ctxblocks.registration.tasks import Prompts
from ctxblocks.runs.statistics import Array
from ctxblocks.theorems.dynamics import Dynamics, dynamics
from ctxblocks.theorems.finetuning import finetune, half_square
from ctxblocks.theorems.transfer import transfer

MARGINAL_FIGURES = (3, 6)
FINETUNING_FIGURE = 4
DISTANCE_FIGURE = 5


def measure(config: Configuration, model: ModelConfig, training: Training) -> pa.Table:
    """All numbers of one trained model that the figures of the configuration need."""
    return pa.concat_tables(_Measurement(config, model, training).tables())


class _Measurement:
    """One trained model on the new tasks."""

    def __init__(self, config: Configuration, model: ModelConfig, training: Training) -> None:
        self.config, self.model, self.training = config, model, training
        self.prompts = new_prompts(config)
        self.tasks = range(config.tasks)

    def tables(self) -> Iterator[pa.Table]:
        """Losses and predictions, and further measurements where a figure needs them."""
        figures = self.config.figures_of(self.model.name)
        yield from self.losses(figures[0])
        with torch.no_grad():
            yield from self.predictions(figures[0])
            for figure in figures:
                if figure in MARGINAL_FIGURES:
                    yield from self.marginal_changes(figure)
                elif figure == DISTANCE_FIGURE:
                    yield from self.distances(figure)
        if FINETUNING_FIGURE in figures:
            yield from self.finetuning(FINETUNING_FIGURE)

    def losses(self, figure: int) -> Iterator[pa.Table]:
        """The history of the training, and the zero predictor on the same validation tasks."""
        steps, *columns = zip(*self.training.history, strict=True)
        for name, values in zip(HISTORY[1:], columns, strict=True):
            yield tidy(self.tag(figure, name), np.array(values), {"step": [int(step) for step in steps]})
        zero = zero_losses(validation_prompts(self.config)).mean(keepdims=True)
        yield tidy(self.tag(figure, "validation loss of zero predictor"), zero, {"step": [0]})

    def predictions(self, figure: int) -> Iterator[pa.Table]:
        """Both predictions on every new task, and the targets."""
        columns = {
            "target": self.prompts.target,
            "prediction with context": predict(self.training.model, self.prompts),
            "prediction of updated weights": predict_updated(self.training.model, self.prompts),
        }
        for name, values in columns.items():
            yield tidy(self.tag(figure, name), _array(values), {"task": self.tasks})

    def marginal_changes(self, figure: int) -> Iterator[pa.Table]:
        """`‖(ΔW)_i‖` of the trained block and of its two controls, and predictions from contexts of another task [Fig. 3]."""
        trained, untrained = self.training.model, build(self.config, self.model)
        wrong = self.prompts.other_contexts()
        runs = {
            "trained": (trained, self.prompts),
            "untrained": (untrained, self.prompts),
            "wrong-task": (trained, wrong),
        }
        for control, (block, prompts) in runs.items():
            norms = _array(_dynamics(block, prompts).marginal_norms())
            axes = {"task": self.tasks, "n": range(1, self.config.examples + 1)}
            yield tidy(self.tag(figure, "marginal change", control), norms, axes)
        tag = self.tag(figure, "prediction with context", "wrong-task")
        yield tidy(tag, _array(predict(trained, wrong)), {"task": self.tasks})

    def distances(self, figure: int) -> Iterator[pa.Table]:
        """`‖t − t̂‖` and `‖t − t̂‖ / ‖t‖` of the activations after every block, with context and patched without [Fig. 5]."""
        stack, (query, context, _) = self.training.model, self.prompts
        assert isinstance(stack, Stack)
        full = stack.activations(query, context)
        patched = stack.activations(query, None, transfer(stack, query, context))
        absolute = torch.stack([(a.double() - b.double()).norm(dim=-1) for a, b in zip(full, patched, strict=True)])
        lengths = torch.stack([a.double().norm(dim=-1) for a in full])
        axes = {"block": range(1, len(stack) + 1), "task": self.tasks}
        yield tidy(self.tag(figure, "block distance"), _array(absolute), axes)
        yield tidy(self.tag(figure, "relative block distance"), _array(absolute / lengths), axes)

    def finetuning(self, figure: int) -> Iterator[pa.Table]:
        """Losses after `i` SGD steps and of `W_0 + ΔW_0(C_i)`, the alignment of the two updates, and least squares [Fig. 4]."""
        block, (query, context, target) = self.training.model, self.prompts
        assert isinstance(block, ContextualBlock)
        with torch.no_grad():
            implicit = _dynamics(block, self.prompts)
            losses = half_square(implicit.updated_outputs().double(), target[:, None].double())
        axes = {"task": self.tasks, "n": range(self.config.examples + 1)}
        yield tidy(self.tag(figure, "loss of implicit update"), _array(losses), axes)
        yield tidy(self.tag(figure, "loss of least squares"), least_squares_losses(self.prompts), axes)
        yield tidy(self.tag(figure, "loss of zero predictor"), zero_losses(self.prompts), {"task": self.tasks})
        for rate in self.config.finetuning_rates:
            tuned = finetune(block, query, context, rate)
            losses = half_square(tuned.outputs.double(), target[:, None].double())
            yield tidy(self.tag(figure, "loss after SGD", lr=rate), _array(losses), axes)
            with torch.no_grad():
                alignment = tuned.alignment(implicit.updates)
            yield tidy(self.tag(figure, "alignment", lr=rate), _array(alignment), axes)

    def tag(self, figure: int, quantity: str, control: str = "trained", lr: float | None = None) -> Tag:
        """The columns that the rows of a quantity share."""
        return Tag(
            run=self.config.name,
            figure=figure,
            model=self.model.name,
            layer=self.model.layer,
            quantity=quantity,
            control=control,
            lr=lr,
        )


def _dynamics(block: Model, prompts: Prompts) -> Dynamics:
    assert isinstance(block, ContextualBlock)
    single = dynamics(block, prompts.query, prompts.context)
    assert isinstance(single, Dynamics)
    return single


def _array(values: Tensor) -> Array:
    return values.detach().double().cpu().numpy()
