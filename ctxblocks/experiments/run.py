"""A reproduction from beginning to end: train, measure, check the claims, draw the figures, write the run."""

from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
import pyarrow as pa

from ctxblocks.experiments.claims import check_claims
from ctxblocks.experiments.measurements import measure
from ctxblocks.experiments.metrics import Metrics
from ctxblocks.experiments.presets import Configuration, ModelConfig
from ctxblocks.experiments.record import KIND, FigureFiles, Record
from ctxblocks.experiments.section import reproduction_section
from ctxblocks.experiments.training import train
from ctxblocks.registration.observers import Observer, Step, notify, watched
from ctxblocks.registration.registry import registry
from ctxblocks.report import write_page
from ctxblocks.runs.document import as_plain
from ctxblocks.runs.figure_files import write_figure
from ctxblocks.runs.files import make_folders
from ctxblocks.runs.jobs import Job, Report, run_jobs, workers_of
from ctxblocks.runs.tables import write_table

Progress = Callable[[str, int, int], None]
"""Called with a model's name, the steps taken and the steps in total."""


def reproduce(
    config: Configuration,
    out: Path,
    workers: int | None = None,
    progress: Progress = lambda name, step, steps: None,
    observers: Sequence[str] = (),
) -> Record:
    """Reproduce the figures of a configuration and write the run into a folder.

    If the folder holds a run of the same configuration, killed or complete, it is resumed from its last checkpoints and
    ends in the same numbers. The numbers depend on the configuration alone, not on the number of workers.

    Args:
        config: as `preset` returns, or another one.
        out: the folder: `run.json`, `metrics.parquet`, `checkpoints/`, `figures/`, `report.html`.
        workers: models trained side by side; by default as many as there are processors.
        progress: called after every training step.
        observers: names of registered observers, notified of every training step and evaluation as it happens, of every row
            of the table and of every figure.

    Raises:
        ArgumentError: the folder cannot be written, or holds a run of another configuration; `workers` is below 1; or nobody
            provides an observer.
        CtxblocksError: a worker died.
    """
    workers = workers_of(workers)
    opens = [registry().observer(name).open for name in observers]
    make_folders(out, "checkpoints", "figures")
    KIND.check_folder(out, as_plain(config))
    record = Record.begin(config)
    record.write(out)
    with watched([each(out) for each in opens], as_plain(config)) as watching:

        def report(event: object) -> None:
            notify(watching, event)
            if isinstance(event, Step):
                progress(event.model, event.step, event.steps)

        metrics = Metrics(train_and_measure(config, out / "checkpoints", workers, report))
        return _finish(record, out, metrics, watching)


@attrs.frozen
class ModelJob:
    """The work of one process: train one model and measure it."""

    config: Configuration
    model: ModelConfig
    checkpoints: Path

    def __call__(self, report: Report) -> pa.Table:
        """The measurements of the trained model."""
        training = train(self.config, self.model, self.checkpoints / f"{self.model.name}.safetensors", report)
        return measure(self.config, self.model, training)


def train_and_measure(config: Configuration, checkpoints: Path, workers: int, report: Report) -> pa.Table:
    """The measurements of all models, in the order of the configuration.

    Args:
        config: of the run.
        checkpoints: the folder for them.
        workers: processes side by side; 1, or a single model, works in this process.
        report: called with every `Step` and `Evaluation`.

    Raises:
        CtxblocksError: a worker died.
    """
    jobs = [Job(model.name, ModelJob(config, model, checkpoints)) for model in reversed(config.models)]  # longest first
    tables: dict[str, pa.Table] = {}
    for outcome in run_jobs(jobs, min(workers, len(jobs)), report):
        if outcome.error is not None:
            raise outcome.error
        tables[outcome.job.name] = outcome.result
    return pa.concat_tables([tables[model.name] for model in config.models])


def _finish(record: Record, out: Path, metrics: Metrics, observers: Sequence[Observer]) -> Record:
    """Write the table, the claims, the figures and the page."""
    config = record.configuration
    write_table(metrics.table, out / "metrics.parquet")
    for row in metrics.table.to_pylist() if observers else ():
        for observer in observers:
            observer.row(row)
    record = attrs.evolve(record, claims=tuple(check_claims(config, metrics)))
    section = reproduction_section(record, metrics)
    written = tuple(
        FigureFiles(number=number, caption=figure.caption, files=write_figure(figure, out, observers))
        for number, figure in zip(config.figures, section.figures, strict=True)
    )
    write_page([section], out / "report.html")
    record = attrs.evolve(record, status="complete", figures=written)
    record.write(out)
    return record
