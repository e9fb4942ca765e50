"""Sections of a page of results: how a kind of run is read from its folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from ctxblocks.registration.specs import check_name


@attrs.frozen(kw_only=True)
class SectionSpec:
    """A kind of run as a plugin announces it from its `ctxblocks_sections` hook.

    Attributes:
        kind: what `"kind"` in `run.json` of such a run says, in lower case with hyphens.
        summary: one line.
        read: `read(folder)` returns the `ctxblocks.report.Section` of the run in that folder, finished or not. It raises
            `ArgumentError` where a file is damaged or of another version.
    """

    kind: str = attrs.field()
    summary: str
    read: Callable[[Path], Any]

    @kind.validator
    def _check_kind(self, attribute: Any, value: str) -> None:
        check_name("SectionSpec", value, "comparison")

    @property
    def name(self) -> str:
        """The kind."""
        return self.kind
