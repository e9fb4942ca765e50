"""What reproductions register: their section of a page of results."""

from pathlib import Path
from typing import TYPE_CHECKING

from ctxblocks.registration.sections import SectionSpec
from ctxblocks.registration.specs import hookimpl

if TYPE_CHECKING:
    from ctxblocks.report import Section


def _read(folder: Path) -> "Section":
    from ctxblocks.experiments.section import read_reproduction

    return read_reproduction(folder)


@hookimpl
def ctxblocks_sections() -> list[SectionSpec]:
    """The section of a reproduction."""
    return [SectionSpec(kind="reproduction", summary="The paper's figures and claims.", read=_read)]
