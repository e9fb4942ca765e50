"""A comparison from beginning to end: cells side by side, each written as it lands, and one table of all."""

import contextlib
import io
import itertools
import json
import os
import platform
import re
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import attrs
import cattrs
import joblib
import pyarrow as pa
import pyarrow.parquet as pq

from ctxblocks._errors import ArgumentError
from ctxblocks._observers import Observer
from ctxblocks._registry import registry
from ctxblocks.comparison._cells import SCHEMA, run_cell
from ctxblocks.comparison._config import FORMAT, Cell, CompareConfig
from ctxblocks.experiments._files import make_folders, write_bytes, write_text

FILE = "run.json"
PACKAGES = ("ctxblocks", "torch", "numpy", "pyarrow", "scikit-learn")
Progress = Callable[[int, int, str], None]
"""Told how many cells are done, how many there are, and what became of the last."""


@attrs.frozen
class Comparison:
    """What a comparison came to.

    Attributes:
        config: its settings.
        table: all measurements; see `SCHEMA`.
        failed: what went wrong, by the cell's name.
        seconds: how long parts of a cell took, by its name; of cells that this call computed.
    """

    config: CompareConfig
    table: pa.Table
    failed: dict[str, str]
    seconds: dict[str, dict[str, float]]


def compare(
    config: CompareConfig,
    out: Path,
    workers: int | None = None,
    progress: Progress = lambda done, of, what: None,
    observers: Sequence[str] = (),
) -> Comparison:
    """Train and measure every cell that the folder lacks, and write the table of all.

    A cell's file appears whole when it is done, so that a comparison which was killed loses only what was under way, and
    ends in the same table. A cell that fails is reported, and the rest finish; the next call tries it again.

    Args:
        config: as `compare_config` gives.
        out: the folder: `run.json`, `metrics.parquet`, `cells/`.
        workers: processes side by side, one thread each; by default one for each processor.
        progress: told of every cell.
        observers: names of registered observers, told the rows of every cell that lands.

    Raises:
        ArgumentError: the folder cannot be written, holds another comparison or another version's, or a damaged file; or
            nobody provides an observer.
    """
    workers = joblib.cpu_count() if workers is None else workers
    if workers < 1:
        raise ArgumentError(f"workers: got {workers}, needs at least 1; leave it out for one per processor")
    specs = [registry().observer(name) for name in observers]
    make_folders(out, "cells")
    _begin(config, out)
    with _told([spec.open(out) for spec in specs], _plain(config)) as told:
        return _compared(config, out, workers, progress, told)


def _compared(
    config: CompareConfig, out: Path, workers: int, progress: Progress, observers: Sequence[Observer]
) -> Comparison:
    cells = config.cells()
    missing = [cell for cell in cells if not _path(out, cell).exists()]
    failed: dict[str, str] = {}
    seconds: dict[str, dict[str, float]] = {}
    jobs = joblib.Parallel(n_jobs=workers, return_as="generator_unordered", batch_size=1)
    for cell, problem, times in jobs(joblib.delayed(_work)(config, cell, out) for cell in missing):
        if problem:
            failed[cell.name] = problem
        elif observers:
            rows = read_cell(_path(out, cell)).to_pylist()
            for observer, row in itertools.product(observers, rows):
                observer.row(row)
        seconds[cell.name] = times
        done = len(cells) - len(missing) + len(seconds)
        progress(done, len(cells), f"{cell.name}: {problem}" if problem else cell.name)
    table = pa.concat_tables([read_cell(_path(out, cell)) for cell in cells if cell.name not in failed])
    content = io.BytesIO()
    pq.write_table(table, content, compression="zstd")
    write_bytes(out / "metrics.parquet", content.getvalue())
    _write(config, out, "incomplete" if failed else "complete", failed)
    return Comparison(config, table, failed, seconds)


@contextlib.contextmanager
def _told(observers: list[Observer], configuration: dict[str, Any]) -> Iterator[list[Observer]]:
    """Observers of a run, told of its beginning and of how it ended."""
    for observer in observers:
        observer.start(configuration)
    status = "failed"
    try:
        yield observers
        status = "over"
    finally:
        for observer in observers:
            observer.end(status)


def read_cell(path: Path) -> pa.Table:
    """The rows of a cell.

    Raises:
        ArgumentError: the file is damaged or of another version.
    """
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise ArgumentError(
            f"{path}: cannot be read ({str(error).splitlines()[0]}), needs a whole file; delete it, and its cell is computed anew"
        ) from error
    if table.schema.remove_metadata() != SCHEMA:
        raise ArgumentError(
            f"{path}: holds other columns than this version's; delete it, and its cell is computed anew"
        )
    return table


def _path(out: Path, cell: Cell) -> Path:
    return out / "cells" / f"{re.sub(r'[^A-Za-z0-9-]', '_', cell.name)}.parquet"


def _work(config: CompareConfig, cell: Cell, out: Path) -> tuple[Cell, str, dict[str, float]]:
    """One cell in a process of its own."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        table, seconds = run_cell(config, cell)
    except Exception as error:  # whatever a plugin's layer, task or probe raises must not take the others with it
        return cell, f"{type(error).__name__}: {' '.join(str(error).split())}", {}
    content = io.BytesIO()
    pq.write_table(table, content, compression="zstd")
    write_bytes(_path(out, cell), content.getvalue())
    return cell, "", seconds


def _begin(config: CompareConfig, out: Path) -> None:
    """Refuse a folder that holds something else, and say that a comparison is under way."""
    path = out / FILE
    if path.exists():
        try:
            found = json.loads(path.read_text("utf-8"))
            there = (found["format"], found["configuration"])
        except (ValueError, KeyError, TypeError) as error:
            raise ArgumentError(f"{path}: is no comparison's ({error!r}); give another folder with --out") from error
        if there[0] != FORMAT:
            raise ArgumentError(f"{path}: is of format {there[0]}, needs {FORMAT}; give another folder with --out")
        other = [name for name, value in _plain(config).items() if there[1].get(name) != value]
        if other:
            raise ArgumentError(
                f"{path}: holds a comparison with another {other[0]}, {there[1].get(other[0])!r} for "
                f"{_plain(config)[other[0]]!r}; give another folder with --out, or the same settings"
            )
    _write(config, out, "running", {})


def _write(config: CompareConfig, out: Path, status: str, failed: dict[str, str]) -> None:
    versions = {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}
    document = {
        "format": FORMAT,
        "kind": "comparison",
        "status": status,
        "configuration": _plain(config),
        "failed": failed,
        "versions": versions,
    }
    write_text(out / FILE, json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def _plain(config: CompareConfig) -> dict[str, Any]:
    """As JSON gives it back."""
    plain: dict[str, Any] = json.loads(json.dumps(cattrs.unstructure(config)))
    return plain
