"""Figures 2–6, drawn from the numbers of a run."""

from collections.abc import Sequence

from ctxblocks.experiments.captions import caption
from ctxblocks.experiments.claims import Claim
from ctxblocks.experiments.figures_dynamics import marginal_cell
from ctxblocks.experiments.figures_finetuning import alignment_cell, losses_cell
from ctxblocks.experiments.figures_training import distances_cell, tasks_cell, training_cells
from ctxblocks.experiments.metrics import Metrics
from ctxblocks.experiments.presets import MODELS_OF, Configuration
from ctxblocks.runs.figure import Cell, Figure

COINCIDE = (
    "Left: training loss (mean since the last evaluation), and the validation loss with the context and of the updated weights "
    "on the query alone. Middle: the last two, zoomed, and their difference."
)
TITLES = {
    2: "losses with context, and of updated weights without it",
    3: "marginal change of the weights",
    4: "implicit updates compared with gradient descent",
    5: "stacks of blocks",
    6: "a recurrent network",
}
SHOWN = {
    2: f"{COINCIDE} Right: both losses on every new task, and the difference of the two predictions.",
    3: (
        "Marginal change of the first dense layer's weights with every token of the context (of rank one: Frobenius and spectral "
        "norm are the same). Controls: the same block untrained, and the trained block with the context of another task. The "
        "query column holds no label, so that a context of another task has the same distribution as the right one: where the "
        "two curves agree, the decay does not distinguish a useful context from a useless one."
    ),
    4: (
        "Left: loss on the query alone after i steps of SGD on the first dense layer, one prompt example after another, at every "
        "learning rate; with the implicit update of the first i tokens; and of least squares on them. Right: normalised "
        "Frobenius product of the two updates."
    ),
    5: f"{COINCIDE} Right: distance of the query's output after every block, with the context and patched without it.",
    6: f"{COINCIDE} Right: marginal change as in Figure 3, with the same controls.",
}


def compose(config: Configuration, metrics: Metrics, claims: Sequence[Claim]) -> list[Figure]:
    """The figures of the configuration, with captions."""
    return [
        Figure(
            name=f"figure-{number}",
            title=f"Figure {number}: {TITLES[number]}",
            rows=_rows(number, config, metrics),
            caption=caption(number, SHOWN[number], config, metrics, claims),
        )
        for number in config.figures
    ]


def _rows(number: int, config: Configuration, metrics: Metrics) -> tuple[tuple[Cell, ...], ...]:
    if number == 2:
        return ((*training_cells(metrics, "block", "block"), tasks_cell(metrics, "block")),)
    if number == 3:
        return ((marginal_cell(metrics, "block", "block", config.tasks),),)
    if number == 4:
        return ((losses_cell(metrics, config.tasks), alignment_cell(metrics, config.tasks)),)
    if number == 5:
        return tuple(
            (*training_cells(metrics, model, model), distances_cell(metrics, model, config.tasks))
            for model in MODELS_OF[5]
        )
    return ((*training_cells(metrics, "rnn", "RNN"), marginal_cell(metrics, "rnn", "RNN", config.tasks)),)
