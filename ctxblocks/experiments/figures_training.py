"""Figures 2 and 5, and most of Figure 6: losses during training, with context and of updated weights without it."""

import numpy as np

from ctxblocks.experiments.baselines import half_squares
from ctxblocks.experiments.claims import AGREEMENT, final_losses, prediction_differences
from ctxblocks.experiments.metrics import Metrics
from ctxblocks.runs.figure import BLACK, BLUE, GREY, ORANGE, RED, Cell, Curve, Panel
from ctxblocks.runs.statistics import Array, means_of

LOSS = "loss ½(ŷ − y)²"
STEP = "training step"
WITH, WITHOUT = "validation, with context", "validation, updated weights, no context"


def training_cells(metrics: Metrics, model: str, title: str) -> tuple[Cell, Cell]:
    """The left and the middle panels of Figure 2, for one model."""
    history = _History(metrics, model)
    zero = final_losses(metrics, model)[1]
    ends = history.steps[[0, -1]]
    training = Curve(label="training", x=history.steps, y=history.training, colour=GREY)
    baseline = Curve(label="zero predictor", x=ends, y=np.full(2, zero), colour=BLACK, style="dotted")
    left = Panel(
        title=f"{title}: losses",
        xlabel=STEP,
        ylabel=f"{LOSS}, mean",
        curves=(training, *history.validation(0), baseline),
        yscale="log" if history.with_context.min() < zero / 3 else "linear",
        legend="upper right",
        headroom=0.5,
    )
    start = len(history.steps) // 2
    zoomed = Panel(
        title=f"{title}: second half, zoomed",
        xlabel="",
        ylabel=f"{LOSS}, mean",
        curves=history.validation(start),
        legend="upper right",
        headroom=0.5,
    )
    return (left,), (zoomed, history.difference(title))


class _History:
    """The losses of a training."""

    def __init__(self, metrics: Metrics, model: str) -> None:
        where = {"model": model, "quantity": "training loss"}
        self.steps = metrics.coordinates(where, "step")
        self.training = metrics.array(where, "step")
        self.with_context, self.updated = (
            metrics.array({"model": model, "quantity": f"validation loss {name}"}, "step")
            for name in ("with context", "of updated weights")
        )

    def validation(self, start: int) -> tuple[Curve, Curve]:
        """Both validation losses, from one evaluation on."""
        x = self.steps[start:]
        return (
            Curve(label=WITH, x=x, y=self.with_context[start:], colour=BLUE),
            Curve(label=WITHOUT, x=x, y=self.updated[start:], colour=RED, style="rings"),
        )

    def difference(self, title: str) -> Panel:
        """The difference of the two losses, and the limit of the claim."""
        gap = np.abs(self.with_context - self.updated)
        limit = Curve(
            label="limit of the claim", x=self.steps[[0, -1]], y=np.full(2, AGREEMENT), colour=BLACK, style="dotted"
        )
        return Panel(
            title=f"{title}: difference of the two",
            xlabel=STEP,
            ylabel="|difference|",
            curves=(Curve(label="|difference|", x=self.steps, y=visible(gap), colour=ORANGE, style="marked"), limit),
            yscale="log",
            legend=None,
        )


def tasks_cell(metrics: Metrics, model: str) -> Cell:
    """The right panels of Figure 2: both losses on every new task, sorted by loss, and the differences of the predictions."""
    target, predicted, updated = (
        metrics.array({"model": model, "control": "trained", "quantity": name}, "task")
        for name in ("target", "prediction with context", "prediction of updated weights")
    )
    losses, twins = half_squares(predicted, target), half_squares(updated, target)
    order, rank = np.argsort(losses, kind="stable"), np.arange(1.0, len(target) + 1)
    upper = Panel(
        title=f"{len(target)} new tasks: losses",
        xlabel="",
        ylabel=LOSS,
        curves=(
            Curve(label="updated weights, no context", x=rank, y=twins[order], colour=RED, style="rings"),
            Curve(label="with context", x=rank, y=losses[order], colour=BLUE, style="dots"),
        ),
        yscale="log",
    )
    gap = prediction_differences(metrics, model)[order]
    lower = Panel(
        title="difference of the two predictions",
        xlabel="task, in the order of its loss",
        ylabel="|ŷ − ŷ'|",
        curves=(Curve(label="|difference|", x=rank, y=gap, colour=ORANGE, style="dots"),),
        legend=None,
    )
    return upper, lower


def distances_cell(metrics: Metrics, model: str, tasks: int) -> Cell:
    """The right panel of Figure 5: absolute and relative distances of the block outputs."""
    curves = []
    for name, label, colour in (("block", "‖t − t̂‖₂", BLUE), ("relative block", "‖t − t̂‖₂ / ‖t‖₂", RED)):
        values = metrics.array({"model": model, "quantity": f"{name} distance"}, "task", "block")
        blocks = np.arange(1.0, values.shape[1] + 1)
        mean = means_of(values)
        curves.append(
            Curve(label=f"{label}, mean ± SE", x=blocks, y=mean.value, error=mean.error, colour=colour, style="marked")
        )
        largest = values.max(axis=0)
        curves.append(Curve(label=f"{label}, largest", x=blocks, y=largest, colour=colour, style="dashed"))
    limit = Curve(label="limit of the claim", x=blocks[[0, -1]], y=np.full(2, AGREEMENT), colour=BLACK, style="dotted")
    panel = Panel(
        title=f"{model}: block outputs, {tasks} tasks",
        xlabel="block",
        ylabel="L2 distance, absolute and relative",
        curves=(*curves, limit),
        yscale="log",
        legend="upper right",
        headroom=0.7,
    )
    return (panel,)


def visible(gap: Array) -> Array:
    """Differences for a logarithmic axis, without those that are exactly 0."""
    return np.where(gap > 0, gap, np.nan)
