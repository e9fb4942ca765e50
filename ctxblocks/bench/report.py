"""The report of a benchmark: a JSON document, a table and a figure, and the files that hold them."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import attrs

from ctxblocks.bench.config import BenchConfig
from ctxblocks.bench.picture import picture
from ctxblocks.bench.records import Ceilings, Comparison, Growth, Machine, Measurement, Row
from ctxblocks.bench.statistics import Timing
from ctxblocks.runs.files import make_folders, write_bytes, write_text

FILES = ("bench.json", "bench.csv", "bench.png", "bench.svg")
FORMAT = 1
DISTURBED = 0.1
"""The share of foreign load from which a note names the measurement."""
COLUMNS = ("layer", "variant", "length", "function", "status", "note", "estimate", "median", "lower", "upper")
MORE_COLUMNS = ("repeats", "calls", "foreign", "memory", "flops", "moved", "bound", "bound_by", "share")


@attrs.frozen(kw_only=True)
class Report:
    """The results of a benchmark.

    Attributes:
        config: the settings.
        machine: the machine and software.
        ceilings: peak rates of the machine.
        rows: one for each layer variant and length.
        growths: one for each layer variant.
        comparisons: comparisons with plain code.
        notes: further remarks, one line each.
    """

    config: BenchConfig
    machine: Machine
    ceilings: Ceilings
    rows: tuple[Row, ...]
    growths: tuple[Growth, ...]
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...] = ()

    @property
    def foreign(self) -> float:
        """The mean share of processor time that other processes used during the measurements, from 0 to 1."""
        shares = [time.foreign for _, time in self._times()]
        return sum(shares) / len(shares) if shares else 0.0

    @property
    def remarks(self) -> tuple[str, ...]:
        """The notes, and one that names the measurements with high foreign load."""
        disturbed: dict[str, float] = {}
        for where, time in self._times():
            if time.foreign >= DISTURBED:
                disturbed[where] = max(time.foreign, disturbed.get(where, 0.0))
        if not disturbed:
            return self.notes
        places = "; ".join(f"{where} ({share:.0%})" for where, share in disturbed.items())
        return (*self.notes, f"other processes kept using the processors at {places}")

    def as_json(self) -> dict[str, Any]:
        """The results as JSON types, with times in seconds and memory in bytes."""
        return {
            "format": FORMAT,
            "config": attrs.asdict(self.config),
            "machine": attrs.asdict(self.machine),
            "ceilings": attrs.asdict(self.ceilings),
            "foreign": self.foreign,
            "rows": [{**attrs.asdict(row), "ratios": row.ratios} for row in self.rows],
            "exponents": [attrs.asdict(growth) for growth in self.growths],
            "comparisons": [attrs.asdict(comparison) for comparison in self.comparisons],
            "notes": list(self.remarks),
        }

    def as_csv(self) -> str:
        """A table with a line for each layer variant, length and function, with times in seconds and memory in bytes."""
        content = io.StringIO()
        table = csv.writer(content, lineterminator="\n")
        table.writerow([*COLUMNS, *MORE_COLUMNS])
        for row in self.rows:
            for name, measurement in row.functions.items():
                table.writerow([row.layer, row.variant, row.length, name, *_cells(measurement)])
        return content.getvalue()

    def write(self, folder: Path) -> None:
        """Write the document, the table and the figure; each file appears whole or not at all.

        Raises:
            ArgumentError: the folder cannot be written.
        """
        make_folders(folder)
        drawn = picture(self.rows)
        write_text(folder / "bench.json", json.dumps(self.as_json(), indent=2) + "\n")
        write_text(folder / "bench.csv", self.as_csv())
        write_bytes(folder / "bench.png", drawn.png)
        write_bytes(folder / "bench.svg", drawn.svg)

    def _times(self) -> list[tuple[str, Timing]]:
        rows = [(f"{row.variant}, n = {row.length}", m.time) for row in self.rows for m in row.functions.values()]
        rows += [(comparison.name, time) for comparison in self.comparisons for time in comparison.times.values()]
        return [(where, time) for where, time in rows if time is not None]


def _cells(measurement: Measurement) -> list[Any]:
    time, work, bound = measurement.time, measurement.work, measurement.bound
    return [
        measurement.status,
        measurement.note,
        measurement.estimate,
        *((time.median, time.lower, time.upper, time.repeats, time.calls, time.foreign) if time else [None] * 6),
        *((work.memory, work.flops, work.moved) if work else [None] * 3),
        *((bound.seconds, bound.by, bound.share) if bound else [None] * 3),
    ]
