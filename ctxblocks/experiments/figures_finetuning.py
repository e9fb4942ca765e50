"""Figure 4: the implicit updates compared with gradient descent on the examples of the prompt."""

import numpy as np

from ctxblocks.experiments.claims import sgd_losses
from ctxblocks.experiments.metrics import Metrics
from ctxblocks.runs.figure import BLACK, GREY, RED, SCALE, Cell, Curve, Panel
from ctxblocks.runs.statistics import Array, means_of

INDEX = "i, SGD steps or tokens in the context"


def losses_cell(metrics: Metrics, tasks: int) -> Cell:
    """The left panel: losses after `i` steps at every rate, with the update of `i` tokens, and of least squares on them."""
    implicit = metrics.array({"quantity": "loss of implicit update"}, "task", "n")
    zero = metrics.array({"quantity": "loss of zero predictor"}, "task")
    squares = metrics.array({"quantity": "loss of least squares"}, "task", "n")
    curves = [
        _curve(losses, f"SGD, rate {rate:g}", SCALE[place % len(SCALE)], bars=5 + 3 * place)
        for place, (rate, losses) in enumerate(sgd_losses(metrics).items())
    ]
    curves.append(_curve(implicit, "implicit update ΔW(Cᵢ)", RED, "thick"))
    curves.append(_curve(squares, "least squares", BLACK, "dashed"))
    curves.append(_curve(zero[:, None].repeat(implicit.shape[1], 1), "zero predictor", GREY, "dotted"))
    ends = [curve.y[-1] for curve in curves if curve.label != "least squares"]
    panel = Panel(
        title="test loss",
        xlabel=INDEX,
        ylabel=f"loss ½(ŷ − y)² (mean ± SE, {tasks} tasks)",
        curves=tuple(curves),
        yscale="log",
        ylimits=(min(ends) / 40, 3 * implicit.mean(axis=0).max()),  # the legend is below the curves
        legend="lower right",
    )
    return (panel,)


def alignment_cell(metrics: Metrics, tasks: int) -> Cell:
    """The right panel: the normalised product of the two updates."""
    where = {"quantity": "alignment"}
    curves = []
    for place, rate in enumerate(metrics.coordinates(where, "lr").tolist()):
        values = metrics.array({**where, "lr": rate}, "task", "n")
        mean = means_of(values[:, 1:])
        x = metrics.coordinates(where, "n")[1:]
        curves.append(
            Curve(
                label=f"SGD, rate {rate:g}",
                x=x,
                y=mean.value,
                error=mean.error,
                bars=4 + 3 * place,
                colour=SCALE[place % len(SCALE)],
            )
        )
    panel = Panel(
        title="alignment of the two updates",
        xlabel=INDEX,
        ylabel=f"normalised product (mean ± SE, {tasks} tasks)",
        curves=tuple(curves),
    )
    return (panel,)


def _curve(losses: Array, label: str, colour: str, style: str = "line", bars: int | None = None) -> Curve:
    """The mean over tasks against `i`, from the losses `(tasks, n + 1)`."""
    mean = means_of(losses)
    x = np.arange(float(losses.shape[1]))
    return Curve(label=label, x=x, y=mean.value, error=mean.error, bars=bars, colour=colour, style=style)
