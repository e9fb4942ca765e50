"""Runs as one HTML page that needs nothing beside itself: `write_report(["runs/mine"], "mine.html")`."""

import importlib
from typing import Any

_HOMES = {
    "Page": "_content",
    "Section": "_content",
    "Statement": "_content",
    "Table": "_content",
    "comparison_section": "_comparison",
    "read_sections": "_sources",
    "render": "_page",
    "reproduction_section": "_reproduction",
    "write_page": "_sources",
    "write_report": "_sources",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ctxblocks.report' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ctxblocks.report.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
