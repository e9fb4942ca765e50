"""A reproduction from beginning to end: train, measure, check the claims, draw the figures, write the run."""

from collections.abc import Sequence
from pathlib import Path

import attrs
import cattrs
import joblib

from ctxblocks.base.errors import ArgumentError
from ctxblocks.experiments.claims import check_claims
from ctxblocks.experiments.metrics import Metrics
from ctxblocks.experiments.presets import Configuration
from ctxblocks.experiments.record import FigureFiles, Record, check_folder
from ctxblocks.registration.observers import Observer, watched
from ctxblocks.registration.registry import registry
from ctxblocks.report import reproduction_section, write_page
from ctxblocks.runs.figure_files import write_figure
from ctxblocks.runs.files import make_folders
from ctxblocks.runs.jobs import Progress, run_jobs
from ctxblocks.runs.tables import write_table


def reproduce(
    config: Configuration,
    out: Path,
    workers: int | None = None,
    progress: Progress = lambda name, step, steps: None,
    observers: Sequence[str] = (),
) -> Record:
    """Reproduce the figures of a configuration and write the run into a folder.

    A folder that holds the same configuration's run, killed or complete, is gone on with from its last checkpoints, and
    ends in the same numbers. The numbers depend on the configuration alone, not on how many workers there are.

    Args:
        config: as `preset` gives, or one of your own.
        out: the folder: `run.json`, `metrics.parquet`, `checkpoints/`, `figures/`, `report.html`.
        workers: models trained side by side; by default as many as there are cores.
        progress: told every model's steps.
        observers: names of registered observers, told every row of the table and every figure.

    Raises:
        ArgumentError: the folder cannot be written, or holds another configuration's run; `workers` is below 1; or nobody
            provides an observer.
        CtxblocksError: a worker died.
    """
    workers = joblib.cpu_count() if workers is None else workers
    if workers < 1:
        raise ArgumentError(f"workers: got {workers}, needs at least 1; leave it out for one per core")
    opens = [registry().observer(name).open for name in observers]
    make_folders(out, "checkpoints", "figures")
    check_folder(out, config)
    record = Record.begin(config)
    record.write(out)
    with watched([each(out) for each in opens], cattrs.unstructure(config)) as told:
        return _reproduced(record, out, (workers, progress), told)


def _reproduced(record: Record, out: Path, how: tuple[int, Progress], observers: Sequence[Observer]) -> Record:
    config, (workers, progress) = record.configuration, how
    metrics = Metrics(run_jobs(config, out / "checkpoints", workers, progress))
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
