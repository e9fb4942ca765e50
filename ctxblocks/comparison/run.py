"""A comparison from beginning to end: cells side by side, each written as it lands, and one table of all."""

import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import joblib

from ctxblocks.base.errors import ArgumentError
from ctxblocks.comparison.cells import run_cell
from ctxblocks.comparison.config import Cell, CompareConfig
from ctxblocks.comparison.folder import (
    CELLS,
    TIMINGS,
    Comparison,
    Origin,
    cell_path,
    check_folder,
    gathered,
    plain,
    read_cell,
    write_document,
)
from ctxblocks.registration.observers import Observer, watched
from ctxblocks.registration.registry import registry
from ctxblocks.runs.figure_files import write_figure
from ctxblocks.runs.files import make_folders
from ctxblocks.runs.tables import write_table

Progress = Callable[[int, int, str], None]
"""Told how many cells are done, how many there are, and what became of the last."""


def compare(
    config: CompareConfig,
    out: Path,
    workers: int | None = None,
    progress: Progress = lambda done, of, what: None,
    observers: Sequence[str] = (),
    drawn: bool = True,
) -> Comparison:
    """Train and measure every cell that the folder lacks, and write the table of all.

    A cell's file appears whole when it is done, so that a comparison which was killed loses only what was under way, and
    ends in the same table. A cell that fails is reported, and the rest finish; the next call tries it again.

    Args:
        config: as `compare_config` gives.
        out: the folder: `run.json`, `metrics.parquet`, `timings.parquet`, `cells/`, `timings/`.
        workers: processes side by side, one thread each; by default one for each processor.
        progress: told of every cell.
        observers: names of registered observers, told the rows of every cell that lands, and every figure.
        drawn: whether to draw `figures/` and to write `report.html`, which takes some seconds.

    Raises:
        ArgumentError: the folder cannot be written, holds another comparison or another version's, or a damaged file; or
            nobody provides an observer.
    """
    workers = joblib.cpu_count() if workers is None else workers
    if workers < 1:
        raise ArgumentError(f"workers: got {workers}, needs at least 1; leave it out for one per processor")
    opens = [registry().observer(name).open for name in observers]
    make_folders(out, CELLS, TIMINGS)
    check_folder(config, out)
    write_document(config, out, "running", {})
    with watched([each(out) for each in opens], plain(config)) as told:
        found = _compared(config, out, workers, progress, told)
        if drawn:
            _draw(found, out, told)
    write_document(config, out, "incomplete" if found.failed else "complete", found.failed)
    return found


def _compared(
    config: CompareConfig, out: Path, workers: int, progress: Progress, observers: Sequence[Observer]
) -> Comparison:
    cells = config.cells()
    missing = [cell for cell in cells if not cell_path(out, cell).exists()]
    failed: dict[str, str] = {}
    jobs = joblib.Parallel(n_jobs=workers, return_as="generator_unordered", batch_size=1)
    work = (joblib.delayed(_work)(config, cell, out) for cell in missing)
    for done, (cell, problem) in enumerate(jobs(work), start=len(cells) - len(missing) + 1):
        if problem:
            failed[cell.name] = problem
        elif observers:
            rows = read_cell(cell_path(out, cell)).to_pylist()
            for observer, row in itertools.product(observers, rows):
                observer.row(row)
        progress(done, len(cells), f"{cell.name}: {problem}" if problem else cell.name)
    found = gathered(config, out, failed, Origin.here(config))
    write_table(found.table, out / "metrics.parquet")
    write_table(found.timings, out / "timings.parquet")
    return found


def _draw(found: Comparison, out: Path, observers: Sequence[Observer]) -> None:
    """Figures, of which observers are told, and the page."""
    from ctxblocks.report import comparison_section, write_page

    section = comparison_section(found)
    make_folders(out, "figures")
    for figure in section.figures:
        write_figure(figure, out, observers)
    write_page([section], out / "report.html")


def _work(config: CompareConfig, cell: Cell, out: Path) -> tuple[Cell, str]:
    """One cell in a process of its own."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        table, timings = run_cell(config, cell)
    except Exception as error:  # whatever a plugin's layer, task or probe raises must not take the others with it
        return cell, f"{type(error).__name__}: {' '.join(str(error).split())}"
    write_table(timings, cell_path(out, cell, TIMINGS))
    write_table(table, cell_path(out, cell))
    return cell, ""
