"""From folders of runs to a page."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from ctxblocks.base.errors import ArgumentError
from ctxblocks.comparison.folder import read_comparison
from ctxblocks.report.comparison import comparison_section
from ctxblocks.report.content import Page, Section
from ctxblocks.report.page import render
from ctxblocks.report.reproduction import read_reproduction
from ctxblocks.runs.files import make_folders, write_text

FILE = "run.json"
KINDS: dict[str, Callable[[Path], Section]] = {
    "comparison": lambda run: comparison_section(read_comparison(run)),
    "reproduction": read_reproduction,
}
"""What a run's `kind` may be, and how its section is made."""


def write_report(runs: Sequence[Path], out: Path) -> Page:
    """Write one page of all the runs, and return its contents; the file appears whole.

    Args:
        runs: folders that `reproduce` and `compare` wrote, finished or not.
        out: the HTML file.

    Raises:
        ArgumentError: there is no run, one of them is damaged or of another version (the message names the file), or the
            page cannot be written.
    """
    return write_page(read_sections(runs), out)


def write_page(sections: Sequence[Section], out: Path) -> Page:
    """The same of sections that are at hand."""
    title = sections[0].title if len(sections) == 1 else f"{len(sections)} runs of ctxblocks"
    page = Page(title=title, sections=tuple(sections))
    make_folders(out.parent)
    write_text(out, render(page))
    return page


def read_sections(runs: Sequence[Path]) -> tuple[Section, ...]:
    """The contents of the page, a section for each run.

    Raises:
        ArgumentError: see `write_report`.
    """
    if not runs:
        raise ArgumentError("runs: got none, needs the folder of at least one run, as reproduce and compare write them")
    return tuple(_section(Path(run)) for run in runs)


def _section(run: Path) -> Section:
    path = run / FILE
    if not path.exists():
        raise ArgumentError(
            f"run: got {str(run)!r}, which holds no {FILE}, needs a folder that reproduce or compare wrote"
        )
    try:
        kind = json.loads(path.read_text("utf-8"))["kind"]
        make = KINDS[kind]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArgumentError(
            f"{path}: is no run of this version ({type(error).__name__}: {error}), needs one of the kinds {', '.join(KINDS)}; "
            f"give the command of the run again, into another folder"
        ) from error
    return make(run)
