"""A comparison's numbers by what they are: means over seeds with their standard errors."""

from collections import defaultdict
from typing import NamedTuple

import attrs
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ctxblocks.comparison.config import ERROR

Array = NDArray[np.float64]


class Series(NamedTuple):
    """One quantity against `n`.

    Attributes:
        n: context tokens.
        value: the mean over seeds.
        error: its standard error over seeds; of one seed, over tasks.
    """

    n: Array
    value: Array
    error: Array


class Number(NamedTuple):
    """One quantity that has no `n`; see `Series`."""

    value: float
    error: float


@attrs.frozen
class Key:
    """What a quantity is of: columns of the table."""

    task: str
    layer: str
    control: str
    probe: str
    condition: str = "clean"
    block: int | None = None


class Measurements:
    """The rows of a table, found by what they are.

    Args:
        table: of a comparison.
    """

    def __init__(self, table: pa.Table) -> None:
        self._rows: dict[Key, dict[int, list[tuple[int | None, float, float]]]] = defaultdict(lambda: defaultdict(list))
        names = ("task", "layer", "control", "probe", "condition", "block", "seed", "n", "value", "error")
        columns = (table[name].to_pylist() for name in names)
        for *key, seed, n, value, error in zip(*columns, strict=True):
            self._rows[Key(*key)][seed].append((n, value, float("nan") if error is None else error))

    def series(self, key: Key) -> Series | None:
        """Against `n`; None where it was not measured."""
        seeds = self._rows.get(key)
        if not seeds or next(iter(seeds.values()))[0][0] is None:
            return None
        parts = np.array([sorted(rows) for rows in seeds.values()], dtype=np.float64)  # (seeds, n, 3)
        return Series(parts[0, :, 0], parts[:, :, 1].mean(0), _error(parts[:, :, 1], parts[0, :, 2]))

    def number(self, key: Key) -> Number | None:
        """Without `n`; None where it was not measured."""
        seeds = self._rows.get(key)
        if not seeds or next(iter(seeds.values()))[0][0] is not None:
            return None
        parts = np.array([rows[0][1:] for rows in seeds.values()], dtype=np.float64)  # (seeds, 2)
        return Number(float(parts[:, 0].mean()), float(_error(parts[:, 0], parts[0, 1])))

    def blocks(self, task: str, probe: str) -> list[int]:
        """The blocks in which a probe was measured."""
        found = {key.block for key in self._rows if key.task == task and key.probe == probe}
        return sorted(block for block in found if block is not None)

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
        found = {key.control: series for key in keys if (series := self.series(key)) is not None}
        return dict(sorted(found.items(), key=lambda item: item[1].value[-1]))


def _error(
    values: Array,  # (seeds, …)
    alone: Array,  # (…): over tasks
) -> Array:
    if len(values) == 1:
        return alone
    return np.asarray(values.std(axis=0, ddof=1) / np.sqrt(len(values)))
