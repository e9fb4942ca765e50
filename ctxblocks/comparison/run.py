"""A comparison from beginning to end: cells side by side, each written when it is complete, and one table of all."""

from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from ctxblocks.base.messages import describe
from ctxblocks.comparison.cells import run_cell
from ctxblocks.comparison.config import Cell, CompareConfig
from ctxblocks.comparison.folder import (
    CELLS,
    KIND,
    TIMINGS,
    Comparison,
    Origin,
    cell_path,
    gathered,
    read_cell,
    write_document,
)
from ctxblocks.registration.observers import Observer, notify, watched
from ctxblocks.registration.registry import registry
from ctxblocks.runs.document import as_plain
from ctxblocks.runs.figure_files import write_figure
from ctxblocks.runs.files import make_folders
from ctxblocks.runs.jobs import Job, Outcome, Report, run_jobs, workers_of
from ctxblocks.runs.tables import write_table

Progress = Callable[[int, int, str], None]
"""Called with the number of cells that are done, the number of all, and the last cell with its error, if it failed."""


def compare(
    config: CompareConfig,
    out: Path,
    workers: int | None = None,
    progress: Progress = lambda done, of, what: None,
    observers: Sequence[str] = (),
    drawn: bool = True,
) -> Comparison:
    """Train and measure every cell that is missing in the folder, and write the table of all.

    The file of a cell appears whole when the cell is complete, so that a comparison which was killed loses only the cells in
    progress, and ends in the same table. A cell that fails, or whose worker process dies, is reported, and the others finish;
    the next call tries it again.

    Args:
        config: as `compare_config` returns.
        out: the folder: `run.json`, `metrics.parquet`, `timings.parquet`, `cells/`, `timings/`.
        workers: processes side by side, one thread each; by default one for each processor. 1 works in this process.
        progress: called after every cell.
        observers: names of registered observers, notified of every training step and evaluation as it happens, of the rows
            of every cell that is complete, and of every figure.
        drawn: whether to draw `figures/` and to write `report.html`, which takes some seconds.

    Raises:
        ArgumentError: the folder cannot be written, holds another comparison or another version's, or a damaged file; or
            nobody provides an observer.
    """
    workers = workers_of(workers)
    opens = [registry().observer(name).open for name in observers]
    make_folders(out, CELLS, TIMINGS)
    KIND.check_folder(out, as_plain(config))
    write_document(config, out, "running", {})
    with watched([each(out) for each in opens], as_plain(config)) as watching:
        comparison = _compared(config, out, workers, progress, watching)
        if drawn:
            _draw(comparison, out, watching)
    write_document(config, out, "incomplete" if comparison.failed else "complete", comparison.failed)
    return comparison


@attrs.frozen
class CellJob:
    """The work of one process: compute one cell and write its files."""

    config: CompareConfig
    cell: Cell
    out: Path

    def __call__(self, report: Report) -> str:
        """What went wrong; "" if nothing did."""
        try:
            table, timings = run_cell(self.config, self.cell, report)
        except Exception as error:  # errors of a plugin's layer, task or probe must not end the other cells
            return describe(error)
        write_table(timings, cell_path(self.out, self.cell, TIMINGS))
        write_table(table, cell_path(self.out, self.cell))
        return ""


def _compared(
    config: CompareConfig, out: Path, workers: int, progress: Progress, observers: Sequence[Observer]
) -> Comparison:
    cells = config.cells()
    missing = {cell.name: cell for cell in cells if not cell_path(out, cell).exists()}
    jobs = [Job(name, CellJob(config, cell, out)) for name, cell in missing.items()]
    failed: dict[str, str] = {}
    outcomes = run_jobs(jobs, workers, lambda event: notify(observers, event))
    for done, outcome in enumerate(outcomes, start=len(cells) - len(missing) + 1):
        name, problem = outcome.job.name, _problem(outcome)
        if problem:
            failed[name] = problem
        elif observers:
            _observe(observers, cell_path(out, missing[name]))
        progress(done, len(cells), f"{name}: {problem}" if problem else name)
    comparison = gathered(config, out, failed, Origin.here(config))
    write_table(comparison.table, out / "metrics.parquet")
    write_table(comparison.timings, out / "timings.parquet")
    return comparison


def _problem(outcome: Outcome) -> str:
    """What went wrong with a cell; full disks and the like end the comparison, since they concern all cells."""
    if isinstance(outcome.error, OSError):
        raise outcome.error
    return describe(outcome.error) if outcome.error is not None else str(outcome.result)


def _observe(observers: Sequence[Observer], path: Path) -> None:
    for row in read_cell(path).to_pylist():
        for observer in observers:
            observer.row(row)


def _draw(comparison: Comparison, out: Path, observers: Sequence[Observer]) -> None:
    """Write the figures, of which observers are notified, and the page."""
    from ctxblocks.comparison.section import comparison_section
    from ctxblocks.report import write_page

    section = comparison_section(comparison)
    make_folders(out, "figures")
    for figure in section.figures:
        write_figure(figure, out, observers)
    write_page([section], out / "report.html")
