"""The section of a reproduction: the paper's claims and figures, or the losses so far of an unfinished run."""

from pathlib import Path

import numpy as np
import safetensors.torch
from safetensors import SafetensorError

from ctxblocks.base.errors import ArgumentError
from ctxblocks.experiments.captions import describe_model, describe_run
from ctxblocks.experiments.checkpoints import HISTORY
from ctxblocks.experiments.claims import final_losses
from ctxblocks.experiments.figures import compose
from ctxblocks.experiments.metrics import SCHEMA, Metrics
from ctxblocks.experiments.presets import Configuration
from ctxblocks.experiments.record import Record, read_record
from ctxblocks.report import Section, Table
from ctxblocks.runs.figure import BLUE, GREY, RED, Curve, Figure, Panel
from ctxblocks.runs.statistics import Array, Mean
from ctxblocks.runs.tables import read_table

TITLE = "The implicit dynamics of a context, reproduced"
LEAD = (
    "A context acts on a block exactly as a rank-one update of its first dense layer does. This run trains the models, moves "
    "every context into the weights, draws the figures and checks the claims"
)


def read_reproduction(run: Path) -> Section:
    """The section of the run in a folder, finished or not.

    Raises:
        ArgumentError: a file is damaged or of another version.
    """
    record = read_record(run)
    if record.status != "complete":
        return _unfinished(record, run)
    table = read_table(run / "metrics.parquet", SCHEMA, "give the run's command again, into another folder")
    return reproduction_section(record, Metrics(table))


def reproduction_section(record: Record, metrics: Metrics) -> Section:
    """The section of a complete run."""
    config, held = record.configuration, sum(claim.holds is True for claim in record.claims)
    return Section(
        title=f"{TITLE}: {config.name}",
        lead=f"{LEAD}: {held} of {len(record.claims)} hold.",
        command=record.command,
        statements=record.claims,
        tables=(_losses(config, metrics),),
        figures=tuple(compose(config, metrics, record.claims)),
        settings=_settings(config),
        seeds=record.seeds,
        versions=record.versions,
    )


def _losses(config: Configuration, metrics: Metrics) -> Table:
    losses = {model.name: final_losses(metrics, model.name) for model in config.models}
    return Table(
        title="Models",
        heads=("model", "final validation loss ½(ŷ − y)²", "zero predictor"),
        rows=tuple((name, Mean(loss), Mean(zero)) for name, (loss, zero) in losses.items()),
    )


def _settings(config: Configuration) -> tuple[tuple[str, str], ...]:
    models = ((model.name, describe_model(config, model)) for model in config.models)
    return (("run", describe_run(config)), *models)


def _unfinished(record: Record, run: Path) -> Section:
    """The section of an unfinished run: the steps taken, and the losses so far."""
    config = record.configuration
    histories = {model.name: _history(run / "checkpoints" / f"{model.name}.safetensors") for model in config.models}
    steps = {name: int(history[-1, 0]) if len(history) else 0 for name, history in histories.items()}
    missing = [
        f"{model.name}: {steps[model.name]} of {model.steps} steps are done"
        for model in config.models
        if steps[model.name] < model.steps
    ]
    figures = ", ".join(map(str, config.figures))
    panels = tuple((_panel(name, history),) for name, history in histories.items() if len(history))
    return Section(
        title=f"{TITLE}: {config.name}",
        lead=f"{LEAD}.",
        command=record.command,
        missing=(*missing, f"the measurements, Figures {figures} and their claims"),
        figures=(_training(panels, describe_run(config)),) if panels else (),
        settings=_settings(config),
        seeds=record.seeds,
        versions=record.versions,
    )


def _training(panels: tuple[tuple[Panel, ...], ...], settings: str) -> Figure:
    caption = f"Losses at the evaluations so far: of training, and on validation tasks with and without the context. {settings}"
    return Figure(name="training", title="training so far", rows=(panels,), caption=caption)


def _history(path: Path) -> Array:  # (evaluations, 4)
    if not path.exists():
        return np.zeros((0, len(HISTORY)))
    try:
        history: Array = safetensors.torch.load(path.read_bytes())["history"].reshape(-1, len(HISTORY)).numpy()
    except (SafetensorError, KeyError, RuntimeError, OSError) as error:
        raise ArgumentError(
            f"{path}: cannot be read ({type(error).__name__}), needs a whole checkpoint; delete it to train anew"
        ) from error
    return history


def _panel(name: str, history: Array) -> Panel:
    colours = (GREY, BLUE, RED)
    curves = (
        Curve(
            label=label,
            x=history[:, 0],
            y=history[:, column],
            colour=colours[column - 1],
            style="rings" if column == 3 else "line",
        )
        for column, label in enumerate(HISTORY)
        if column
    )
    return Panel(title=name, xlabel="training step", ylabel="loss ½(ŷ − y)², mean", curves=tuple(curves))
