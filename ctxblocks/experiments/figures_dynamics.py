"""Figure 3 and the right panel of Figure 6: the marginal change of the weights with every token, and its controls."""

import numpy as np

from ctxblocks.experiments.metrics import Metrics
from ctxblocks.runs.figure import BLACK, BLUE, GREEN, ORANGE, Cell, Curve, Panel
from ctxblocks.runs.statistics import means_of

CONTROLS = {
    "trained": ("trained", BLUE, "thick"),
    "untrained": ("control: untrained", ORANGE, "line"),
    "wrong-task": ("control: context of another task", GREEN, "line"),
}


def marginal_cell(metrics: Metrics, model: str, title: str, tasks: int) -> Cell:
    """`‖(ΔW)_i‖` against `i` for the trained block and its controls, and the slope that averaging alone would give."""
    curves = []
    for control, (label, colour, style) in CONTROLS.items():
        where = {"model": model, "quantity": "marginal change", "control": control}
        mean, n = means_of(metrics.array(where, "task", "n")), metrics.coordinates(where, "n")
        curves.append(Curve(label=label, x=n, y=mean.value, error=mean.error, colour=colour, style=style))
    guide = curves[1].y[0] * n[0] / n
    curves.append(Curve(label="slope of 1/i", x=n, y=np.asarray(guide), colour=BLACK, style="dotted"))
    panel = Panel(
        title=f"{title}: marginal change",
        xlabel="i, tokens in the context",
        ylabel=f"‖Wᵢ − Wᵢ₋₁‖ (mean ± SE, {tasks} tasks)",
        curves=tuple(curves),
        xscale="log",
        yscale="log",
        legend="lower left",
    )
    return (panel,)
