"""From the folders of runs to a page."""

import json
from collections.abc import Sequence
from pathlib import Path

from ctxblocks.base.errors import ArgumentError
from ctxblocks.registration.registry import registry
from ctxblocks.report.content import Page, Section
from ctxblocks.report.page import render
from ctxblocks.runs.document import FILE, UNREADABLE
from ctxblocks.runs.files import make_folders, write_text


def write_report(runs: Sequence[Path], out: Path) -> Page:
    """Write one page with a section for each run, and return its content; the file appears whole.

    Args:
        runs: folders of runs, as `ctxblocks reproduce` and `ctxblocks compare` write them, finished or not.
        out: the HTML file.

    Raises:
        ArgumentError: there is no run, one of them is damaged or of another version (the message names the file), or the
            page cannot be written.
    """
    return write_page(read_sections(runs), out)


def write_page(sections: Sequence[Section], out: Path) -> Page:
    """Write one page of sections, and return its content; see `write_report`."""
    title = sections[0].title if len(sections) == 1 else f"{len(sections)} runs of ctxblocks"
    page = Page(title=title, sections=tuple(sections))
    make_folders(out.parent)
    write_text(out, render(page))
    return page


def read_sections(runs: Sequence[Path]) -> tuple[Section, ...]:
    """The content of the page: a section for each run.

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
        spec = registry().section(kind)
    except UNREADABLE as error:
        raise ArgumentError(
            f"{path}: is no run of this version ({type(error).__name__}: {error}), needs one of the kinds "
            f"{', '.join(registry().sections)}; give the command of the run again, into another folder"
        ) from error
    section: Section = spec.read(run)
    return section
