"""The content of a page of results, whatever kind of run it comes from."""

import attrs

from ctxblocks.runs.claims import Claim
from ctxblocks.runs.figure import Curve as Curve, Figure as Figure, Panel as Panel
from ctxblocks.runs.statistics import Mean as Mean

Statement = Claim
Cell = str | int | Mean | None
"""A cell of a table; None is empty."""


@attrs.frozen(kw_only=True)
class Table:
    """A table that can be sorted by its columns.

    Attributes:
        title: above the table.
        note: what its columns mean.
        heads: of the columns.
        rows: with one cell for every head.
    """

    title: str
    note: str = ""
    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@attrs.frozen(kw_only=True)
class Section:
    """One run.

    Attributes:
        title: of the run.
        lead: its result in a few sentences.
        command: the command line that makes the same run again.
        missing: the missing parts of an unfinished run; empty for a complete one.
        notes: remarks on what a complete run does not hold.
        statements: claims with verdicts.
        tables: of results.
        figures: drawn from the run's numbers.
        details: tables that are folded, below the figures.
        settings: pairs of a name and a value.
        seeds: by their purpose.
        versions: of Python and packages.
    """

    title: str
    lead: str
    command: str
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
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
