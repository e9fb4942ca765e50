"""What comparisons register: their section of a page of results."""

from pathlib import Path
from typing import TYPE_CHECKING

from ctxblocks.registration.sections import SectionSpec
from ctxblocks.registration.specs import hookimpl

if TYPE_CHECKING:
    from ctxblocks.report import Section


def _read(folder: Path) -> "Section":
    from ctxblocks.comparison.folder import read_comparison
    from ctxblocks.comparison.section import comparison_section

    return comparison_section(read_comparison(folder))


@hookimpl
def ctxblocks_sections() -> list[SectionSpec]:
    """The section of a comparison."""
    return [SectionSpec(kind="comparison", summary="Architectures at matched sizes, compared.", read=_read)]
