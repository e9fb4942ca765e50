"""The numbers of a comparison, looked up by what they measure: means over seeds with their standard errors."""

from collections import defaultdict
from typing import NamedTuple

import attrs
import numpy as np
import pyarrow as pa

from ctxblocks.comparison.config import ERROR
from ctxblocks.runs.statistics import Array, Mean, Means, means_of


class Series(NamedTuple):
    """One quantity against `n`; see `Measurements` for what the mean is taken over.

    Attributes:
        n: context tokens.
        value: the mean.
        error: its standard error.
        samples: how many values the mean was taken over.
    """

    n: Array
    value: Array
    error: Array
    samples: int

    @property
    def last(self) -> Mean:
        """The mean with all tokens."""
        return Mean(float(self.value[-1]), float(self.error[-1]), self.samples)

    def starting_at(self, first: int) -> "Series":
        """The part from a number of tokens on."""
        kept = self.n >= first
        return Series(self.n[kept], self.value[kept], self.error[kept], self.samples)


@attrs.frozen
class Key:
    """Columns of the table that identify a quantity."""

    task: str
    layer: str
    control: str
    probe: str
    condition: str = "clean"
    block: int | None = None


class Measurements:
    """The rows of a table, looked up by their columns.

    The mean of several seeds has the standard error over seeds. A single seed has no such error: its number is a mean over
    the new tasks of that seed, with the standard error over tasks.

    Args:
        table: of a comparison.
        trials: new tasks of each seed.
    """

    def __init__(self, table: pa.Table, trials: int = 1) -> None:
        self._trials = trials
        self._rows: dict[Key, dict[int, list[tuple[int | None, float, float]]]] = defaultdict(lambda: defaultdict(list))
        names = ("task", "layer", "control", "probe", "condition", "block", "seed", "n", "value", "error")
        columns = (table[name].to_pylist() for name in names)
        for *key, seed, n, value, error in zip(*columns, strict=True):
            self._rows[Key(*key)][seed].append((n, value, float("nan") if error is None else error))

    def series(self, key: Key) -> Series | None:
        """A quantity against `n`; None where it was not measured."""
        seeds = self._rows.get(key)
        if not seeds or next(iter(seeds.values()))[0][0] is None:
            return None
        parts = np.array([sorted(rows) for rows in seeds.values()], dtype=np.float64)  # (seeds, n, 3)
        return Series(parts[0, :, 0], *self._mean(parts[:, :, 1], parts[0, :, 2]))

    def number(self, key: Key) -> Mean | None:
        """A quantity without `n`; None where it was not measured."""
        seeds = self._rows.get(key)
        if not seeds or next(iter(seeds.values()))[0][0] is not None:
            return None
        parts = np.array([rows[0][1:] for rows in seeds.values()], dtype=np.float64)  # (seeds, 2)
        return self._mean(parts[:, 0], parts[0, 1]).at()

    def _mean(
        self,
        values: Array,  # (seeds, …)
        over_tasks: Array,  # (…): errors of the first seed
    ) -> Means:
        if len(values) > 1:
            return means_of(values)
        return Means(values[0], np.asarray(over_tasks), self._trials)

    def blocks(self, task: str, probe: str) -> list[int]:
        """The blocks in which a probe was measured."""
        blocks = {key.block for key in self._rows if key.task == task and key.probe == probe}
        return sorted(block for block in blocks if block is not None)

    def tasks(self) -> list[str]:
        """The tasks that were measured, in the order of the table."""
        return list(dict.fromkeys(key.task for key in self._rows))

    def layers(self, task: str) -> list[str]:
        """The layers with a measured model, in the order of the table."""
        return list(dict.fromkeys(key.layer for key in self._rows if key.task == task and key.layer))

    def baselines(self, task: str, condition: str = "clean") -> dict[str, Series]:
        """Errors of all baselines, the best with all examples first."""
        keys = [
            k for k in self._rows if k.task == task and not k.layer and k.probe == ERROR and k.condition == condition
        ]
        measured = {key.control: series for key in keys if (series := self.series(key)) is not None}
        return dict(sorted(measured.items(), key=lambda item: item[1].value[-1]))
