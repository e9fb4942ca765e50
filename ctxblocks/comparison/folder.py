"""The folder of a comparison: a file for every cell, `run.json`, and the tables of all."""

import re
from collections.abc import Sequence
from pathlib import Path

import attrs
import cattrs
import pyarrow as pa

from ctxblocks.comparison.cells import SCHEMA
from ctxblocks.comparison.config import PRESETS, STANDARD, Cell, CompareConfig
from ctxblocks.registration.probes import Probe
from ctxblocks.registration.registry import registry
from ctxblocks.runs.document import UNREADABLE, Kind, as_plain, command_line, versions_of
from ctxblocks.runs.seeds import derive_seed
from ctxblocks.runs.tables import read_table

KIND = Kind("comparison", 2)
CELLS, TIMINGS = "cells", "timings"
PACKAGES = ("ctxblocks", "torch", "numpy", "pyarrow", "scikit-learn")


@attrs.frozen(kw_only=True)
class Words:
    """The description of a probe, kept so that a run can be shown without its plugin; see `ctxblocks.Probe`."""

    summary: str
    places: str
    first: int = 0
    scale: str = "auto"
    summed: bool = False
    exponent: str = ""

    @classmethod
    def of(cls, probe: Probe) -> "Words":
        """The description of a registered probe."""
        return cls(**{field.name: getattr(probe, field.name) for field in attrs.fields(cls)})


@attrs.frozen(kw_only=True)
class Origin:
    """The origin of the numbers of a comparison.

    Attributes:
        versions: of Python and of packages.
        probes: those measured, by name.
        absent: standard probes that no plugin provided.
    """

    versions: dict[str, str]
    probes: dict[str, Words]
    absent: tuple[str, ...] = ()

    @classmethod
    def here(cls, config: CompareConfig) -> "Origin":
        """The origin in this environment."""
        known = registry()
        return cls(
            versions=versions_of(PACKAGES),
            probes={name: Words.of(known.probe(name)) for name in config.probes},
            absent=tuple(name for name in STANDARD if name not in known.probes),
        )


@attrs.frozen(kw_only=True)
class Comparison:
    """The results of a comparison.

    Attributes:
        config: its settings.
        table: all measurements; see `SCHEMA`.
        timings: seconds, in the same columns; they differ from run to run.
        failed: the errors of cells that failed, by the cell's name.
        missing: names of the cells that are neither complete nor failed.
        origin: of the numbers.
        seeds: that of the run, and those derived from it.
    """

    config: CompareConfig
    table: pa.Table
    timings: pa.Table
    failed: dict[str, str]
    missing: tuple[str, ...] = ()
    origin: "Origin"
    seeds: dict[str, int]

    @property
    def complete(self) -> bool:
        """Whether every cell is complete."""
        return not self.failed and not self.missing

    @property
    def command(self) -> str:
        """The command line that makes the same run again."""
        return command_of(self.config)

    @property
    def notes(self) -> tuple[str, ...]:
        """One line that names the standard probes that no plugin provided, if there are any."""
        names = ", ".join(self.origin.absent)
        return (f"Not measured, since no installed plugin provides these probes: {names}.",) if names else ()


def read_comparison(out: Path) -> Comparison:
    """The results in a folder so far.

    Raises:
        ArgumentError: a file is missing, damaged or of another version; the message names it.
    """
    document = KIND.read(out)
    try:
        config = cattrs.structure(document["configuration"], CompareConfig)
        failed, origin = dict(document["failed"]), cattrs.structure(document["origin"], Origin)
    except UNREADABLE as error:
        raise KIND.broken(out, error) from error
    return gathered(config, out, failed, origin)


def gathered(config: CompareConfig, out: Path, failed: dict[str, str], origin: Origin) -> Comparison:
    """The results of all complete cells in the folder."""
    complete = [cell for cell in config.cells() if cell_path(out, cell).exists()]
    lost = {cell.name for cell in config.cells()} - {cell.name for cell in complete}
    timed = [path for path in (cell_path(out, cell, TIMINGS) for cell in complete) if path.exists()]
    return Comparison(
        config=config,
        table=_concatenated([read_cell(cell_path(out, cell)) for cell in complete]),
        timings=_concatenated([read_cell(path) for path in timed]),
        failed={name: problem for name, problem in failed.items() if name in lost},
        missing=tuple(cell.name for cell in config.cells() if cell.name in lost - set(failed)),
        origin=origin,
        seeds=_seeds(config),
    )


def _concatenated(tables: Sequence[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables) if tables else SCHEMA.empty_table()


def read_cell(path: Path) -> pa.Table:
    """The rows of a cell.

    Raises:
        ArgumentError: the file is damaged or of another version.
    """
    return read_table(path, SCHEMA, "delete it, and its cell is computed anew")


def cell_path(out: Path, cell: Cell, folder: str = CELLS) -> Path:
    """The file of a cell."""
    return out / folder / f"{re.sub(r'[^A-Za-z0-9-]', '_', cell.name)}.parquet"


def write_document(config: CompareConfig, out: Path, status: str, failed: dict[str, str]) -> None:
    """Put `run.json` into the folder."""
    content = {
        "command": command_of(config),
        "status": status,
        "configuration": as_plain(config),
        "seeds": _seeds(config),
        "failed": failed,
        "origin": cattrs.unstructure(Origin.here(config)),
    }
    KIND.write(out, content)


def command_of(config: CompareConfig) -> str:
    """The command line with these settings."""
    usual = {"seeds": 1, "inputs": 5, "learning_rate": 3e-3, "noise": 0.5, "corruption": 0.2, "seed": 0}
    usual |= {name: value for name, value in PRESETS[config.preset].items() if name != "preset"}
    changed = [name for name in usual if getattr(config, name) != usual[name]]
    names = ["preset", "layers", "tasks", "probes", *changed, "device"]
    return command_line("compare", (), {name: getattr(config, name) for name in names})


def _seeds(config: CompareConfig) -> dict[str, int]:
    weights = {
        f"weights of {layer}, {seed}": derive_seed(config.seed, "weights", layer, seed)
        for layer in config.layers
        for seed in range(config.seeds)
    }
    return {"run": config.seed, **weights}
