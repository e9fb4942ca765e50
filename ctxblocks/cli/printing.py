"""How all commands print: JSON, tables, lines of text, and progress bars."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

Advance = Callable[[str, int, str], None]
"""Called with the name of a bar, how much is done, and a text to show (by default the name)."""
PIPE_WIDTH = 10_000
"""Characters in a line of a pipe or file, so that each row of a table is one line."""


def print_json(value: Any) -> None:
    """Print a result on stdout as one JSON document."""
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")


def console() -> Console:
    """A console on stdout: as wide as the terminal, and without limit in a pipe or file."""
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return Console(width=width, markup=False, highlight=False, emoji=False)


def new_table(out: Console, *heads: str, texts: int | None = None) -> Table:
    """An empty table; on a narrow terminal its cells fold and are not cut.

    Args:
        out: where it will be printed; a terminal gets rules.
        heads: of the columns.
        texts: how many columns, from the left, hold text; the others hold numbers, aligned to the right and never folded.
            By default all hold text.
    """
    padding = (0, 0, 0, 1) if out.is_terminal and texts is not None else (0, 1)
    table = Table(box=box.SIMPLE_HEAD if out.is_terminal else None, padding=padding)
    for place, head in enumerate(heads):
        number = texts is not None and place >= texts
        table.add_column(head, justify="right" if number else "left", overflow="fold", no_wrap=number)
    return table


def print_lines(out: Console, lines: Iterable[str]) -> None:
    """Print lines of text, which a terminal wraps."""
    for line in lines:
        out.print(line, soft_wrap=True)


@contextmanager
def progress_bars(totals: Mapping[str, int]) -> Iterator[Advance]:
    """A bar for each name, with its total, while the context lasts; only where stderr is a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bars:
        tasks = {name: bars.add_task(name, total=total) for name, total in totals.items()}
        yield lambda name, done, text: bars.update(tasks[name], completed=done, description=text or name)
