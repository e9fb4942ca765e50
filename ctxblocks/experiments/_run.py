"""A reproduction from beginning to end: train, measure, check the claims, draw the figures, write the run."""

import io
from pathlib import Path

import attrs
import joblib
import pyarrow.parquet as pq

from ctxblocks._errors import ArgumentError
from ctxblocks.experiments._claims import check_claims
from ctxblocks.experiments._figure import Figure
from ctxblocks.experiments._figure_files import write_figure
from ctxblocks.experiments._figures import compose
from ctxblocks.experiments._files import make_folders, write_bytes
from ctxblocks.experiments._jobs import Progress, run_jobs
from ctxblocks.experiments._metrics import Metrics
from ctxblocks.experiments._presets import Configuration
from ctxblocks.experiments._record import FigureFiles, Record, check_folder
from ctxblocks.report import write_report


def reproduce(
    config: Configuration, out: Path, workers: int | None = None, progress: Progress = lambda name, step, steps: None
) -> Record:
    """Reproduce the figures of a configuration and write the run into a folder.

    A folder that holds the same configuration's run, killed or complete, is gone on with from its last checkpoints, and
    ends in the same numbers. The numbers depend on the configuration alone, not on how many workers there are.

    Args:
        config: as `preset` gives, or one of your own.
        out: the folder: `run.json`, `metrics.parquet`, `checkpoints/`, `figures/`, `report.html`.
        workers: models trained side by side; by default as many as there are cores.
        progress: told every model's steps.

    Raises:
        ArgumentError: the folder cannot be written, or holds another configuration's run; or `workers` is below 1.
        CtxblocksError: a worker died.
    """
    workers = joblib.cpu_count() if workers is None else workers
    if workers < 1:
        raise ArgumentError(f"workers: got {workers}, needs at least 1; leave it out for one per core")
    make_folders(out, "checkpoints", "figures")
    check_folder(out, config)
    record = Record.begin(config)
    record.write(out)
    metrics = Metrics(run_jobs(config, out / "checkpoints", workers, progress))
    _write_metrics(metrics, out / "metrics.parquet")
    claims = check_claims(config, metrics)
    figures = compose(config, metrics, claims)
    written = tuple(_recorded(*each, out) for each in zip(config.figures, figures, strict=True))
    record = attrs.evolve(record, status="complete", claims=tuple(claims), figures=written)
    record.write(out)
    write_report([out], out / "report.html")
    return record


def _write_metrics(metrics: Metrics, path: Path) -> None:
    content = io.BytesIO()
    pq.write_table(metrics.table, content, compression="zstd")
    write_bytes(path, content.getvalue())


def _recorded(number: int, figure: Figure, out: Path) -> FigureFiles:
    """The figure's files, written."""
    return FigureFiles(number=number, caption=figure.caption, files=write_figure(figure, out))
