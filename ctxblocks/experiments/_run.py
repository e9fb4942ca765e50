"""A reproduction from beginning to end: train, measure, check the claims, draw the figures, write the run."""

import io
from pathlib import Path

import attrs
import joblib
import pyarrow.parquet as pq

from ctxblocks._errors import ArgumentError
from ctxblocks.experiments._claims import check_claims
from ctxblocks.experiments._drawing import Figure, Pictures, draw, numbers
from ctxblocks.experiments._figures import compose
from ctxblocks.experiments._files import make_folders, write_bytes, write_text
from ctxblocks.experiments._jobs import Progress, run_jobs
from ctxblocks.experiments._metrics import Metrics
from ctxblocks.experiments._presets import Configuration
from ctxblocks.experiments._record import FigureFiles, Record, check_folder
from ctxblocks.experiments._report import render


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
    pictures = {figure.number: draw(figure) for figure in figures}
    written = tuple(_write_figure(figure, pictures[figure.number], out) for figure in figures)
    record = attrs.evolve(record, status="complete", claims=tuple(claims), figures=written)
    inlined = {number: picture.svg.decode() for number, picture in pictures.items()}
    write_text(out / "report.html", render(record, metrics, inlined))
    record.write(out)
    return record


def _write_metrics(metrics: Metrics, path: Path) -> None:
    content = io.BytesIO()
    pq.write_table(metrics.table, content, compression="zstd")
    write_bytes(path, content.getvalue())


def _write_figure(figure: Figure, pictures: Pictures, out: Path) -> FigureFiles:
    """The picture twice, its numbers, and its caption."""
    stem = f"figures/figure-{figure.number}"
    write_bytes(out / f"{stem}.png", pictures.png)
    write_bytes(out / f"{stem}.svg", pictures.svg)
    write_text(out / f"{stem}.csv", numbers(figure))
    write_text(out / f"{stem}.txt", figure.caption + "\n")
    files = tuple(f"{stem}.{kind}" for kind in ("png", "svg", "csv", "txt"))
    return FigureFiles(number=figure.number, caption=figure.caption, files=files)
