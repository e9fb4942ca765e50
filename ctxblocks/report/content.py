"""What stands on a page of results, whatever kind of run it came from."""

import math
from typing import NamedTuple

import attrs

from ctxblocks.runs.figure import Figure


class Measured(NamedTuple):
    """A number with its standard error; NaN where there is none."""

    value: float
    error: float = math.nan

    def __str__(self) -> str:
        """`value ± error`, three digits and one."""
        if not math.isfinite(self.value):
            return "–"
        return f"{self.value:.3g} ± {self.error:.1g}" if math.isfinite(self.error) else f"{self.value:.3g}"


Cell = str | int | Measured | None


@attrs.frozen(kw_only=True)
class Table:
    """A table that readers can sort.

    Attributes:
        title: above it.
        note: what its columns mean.
        heads: of the columns.
        rows: one cell for every head; None is empty.
    """

    title: str
    note: str = ""
    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@attrs.frozen(kw_only=True)
class Statement:
    """A claim and its verdict.

    Attributes:
        about: a figure or a task.
        statement: the claim.
        criterion: when it counts as true.
        measured: the numbers.
        holds: the verdict; None where it cannot be told.
    """

    about: str
    statement: str
    criterion: str
    measured: str
    holds: bool | None

    @property
    def verdict(self) -> str:
        """In words."""
        return {True: "holds", False: "does not hold", None: "cannot be told"}[self.holds]


@attrs.frozen(kw_only=True)
class Section:
    """One run.

    Attributes:
        title: what it is.
        lead: its result in a few sentences.
        command: that makes the same run again.
        missing: what an unfinished run lacks; empty for a complete one.
        statements: claims with verdicts.
        tables: of results.
        figures: drawn from the run's numbers.
        details: tables that stand folded below the figures.
        settings: pairs of a name and a value.
        seeds: by what they are of.
        versions: of Python and packages.
    """

    title: str
    lead: str
    command: str
    missing: tuple[str, ...] = ()
    statements: tuple[Statement, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    details: tuple[Table, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()
    seeds: dict[str, int]
    versions: dict[str, str]


@attrs.frozen(kw_only=True)
class Page:
    """All runs of a report."""

    title: str
    sections: tuple[Section, ...]
