"""The folder of a comparison: a file for every cell, `run.json`, and the tables of all."""

import json
import platform
import re
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import attrs
import cattrs
import pyarrow as pa

from ctxblocks.base.errors import ArgumentError
from ctxblocks.comparison.cells import SCHEMA
from ctxblocks.comparison.config import FORMAT, PRESETS, Cell, CompareConfig
from ctxblocks.experiments.tasks import derive_seed
from ctxblocks.registration.registry import registry
from ctxblocks.runs.files import write_text
from ctxblocks.runs.tables import read_table

FILE = "run.json"
KIND = "comparison"
CELLS, TIMINGS = "cells", "timings"
PACKAGES = ("ctxblocks", "torch", "numpy", "pyarrow", "scikit-learn")


@attrs.frozen(kw_only=True)
class Words:
    """What a probe says of itself, kept so that a run can be told without its plugin.

    Attributes:
        summary: one line.
        places: what its last dimension counts.
    """

    summary: str
    places: str


@attrs.frozen(kw_only=True)
class Origin:
    """What the numbers of a comparison come from.

    Attributes:
        versions: of Python and of packages.
        probes: those measured, by name.
    """

    versions: dict[str, str]
    probes: dict[str, Words]

    @classmethod
    def here(cls, config: CompareConfig) -> "Origin":
        """This environment."""
        versions = {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}
        found = ((name, registry().probe(name)) for name in config.probes)
        return cls(versions=versions, probes={name: Words(summary=p.summary, places=p.places) for name, p in found})


@attrs.frozen(kw_only=True)
class Comparison:
    """What a comparison came to.

    Attributes:
        config: its settings.
        table: all measurements; see `SCHEMA`.
        timings: seconds, in the same columns; another run's differ.
        failed: what went wrong, by the cell's name.
        missing: names of the cells that have neither landed nor failed.
        origin: what the numbers come from.
        seeds: the run's, and those derived from it.
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
        """Whether every cell has landed."""
        return not self.failed and not self.missing

    @property
    def command(self) -> str:
        """That makes the same run again."""
        return command_of(self.config)


def read_comparison(out: Path) -> Comparison:
    """What has landed in a folder so far.

    Raises:
        ArgumentError: a file is missing, damaged or of another version; the message names it.
    """
    document = read_document(out / FILE)
    try:
        config = cattrs.structure(document["configuration"], CompareConfig)
        failed, origin = dict(document["failed"]), cattrs.structure(document["origin"], Origin)
    except (KeyError, TypeError, ValueError, cattrs.BaseValidationError) as error:
        raise ArgumentError(f"{out / FILE}: is no whole comparison's ({type(error).__name__}); run it anew") from error
    return gathered(config, out, failed, origin)


def gathered(config: CompareConfig, out: Path, failed: dict[str, str], origin: Origin) -> Comparison:
    """The cells that the folder holds, as one."""
    landed = [cell for cell in config.cells() if cell_path(out, cell).exists()]
    lost = {cell.name for cell in config.cells()} - {cell.name for cell in landed}
    timed = [path for path in (cell_path(out, cell, TIMINGS) for cell in landed) if path.exists()]
    return Comparison(
        config=config,
        table=_concatenated([read_cell(cell_path(out, cell)) for cell in landed]),
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
    """Of a cell's rows."""
    return out / folder / f"{re.sub(r'[^A-Za-z0-9-]', '_', cell.name)}.parquet"


def read_document(path: Path) -> dict[str, Any]:
    """`run.json` of a comparison of this version.

    Raises:
        ArgumentError: it is something else.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
        version = found["format"]
        kind, _ = found["kind"], found["configuration"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArgumentError(f"{path}: is no comparison's ({error!r}); give another folder with --out") from error
    if kind != KIND:
        raise ArgumentError(f"{path}: is a {kind}'s, needs a comparison's; give another folder with --out")
    if version != FORMAT:
        raise ArgumentError(f"{path}: is of format {version}, needs {FORMAT}; give another folder with --out")
    document: dict[str, Any] = found
    return document


def check_folder(config: CompareConfig, out: Path) -> None:
    """Refuse a folder that holds something else than a part of this comparison.

    Raises:
        ArgumentError: it does.
    """
    path = out / FILE
    if not path.exists():
        return
    there = read_document(path)["configuration"]
    other = [name for name, value in plain(config).items() if there.get(name) != value]
    if other:
        raise ArgumentError(
            f"{path}: holds a comparison with another {other[0]}, {there.get(other[0])!r} for "
            f"{plain(config)[other[0]]!r}; give another folder with --out, or the same settings"
        )


def write_document(config: CompareConfig, out: Path, status: str, failed: dict[str, str]) -> None:
    """Put `run.json` into the folder."""
    document = {
        "format": FORMAT,
        "kind": KIND,
        "command": command_of(config),
        "status": status,
        "configuration": plain(config),
        "seeds": _seeds(config),
        "failed": failed,
        "origin": cattrs.unstructure(Origin.here(config)),
    }
    write_text(out / FILE, json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def plain(config: CompareConfig) -> dict[str, Any]:
    """As JSON gives it back."""
    found: dict[str, Any] = json.loads(json.dumps(cattrs.unstructure(config)))
    return found


def command_of(config: CompareConfig) -> str:
    """The command line with these settings."""
    lists = (f"--{name} {' '.join(getattr(config, name))}" for name in ("layers", "tasks", "probes"))
    usual = {"seeds": 1, "inputs": 5, "learning_rate": 3e-3, "noise": 0.5, "corruption": 0.2, "seed": 0}
    usual |= {name: value for name, value in PRESETS[config.preset].items() if name != "preset"}
    changed = (name for name in usual if getattr(config, name) != usual[name])
    options = (f"--{name.replace('_', '-')} {getattr(config, name)}" for name in changed)
    return " ".join(["ctxblocks compare", f"--preset {config.preset}", *lists, *options, f"--device {config.device}"])


def _seeds(config: CompareConfig) -> dict[str, int]:
    weights = {
        f"weights of {layer}, {seed}": derive_seed(config.seed, "weights", layer, seed)
        for layer in config.layers
        for seed in range(config.seeds)
    }
    return {"run": config.seed, **weights}
