"""Runs as one self-contained HTML page: `write_report(["runs/mine"], "mine.html")`.

What the page of a kind of run holds comes from plugins, by the hook `ctxblocks_sections`.
"""

from typing import Any

import lazy_loader

from ctxblocks.base.errors import MovedNameError

_resolve, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
_MOVED = {"comparison_section": "ctxblocks.comparison", "reproduction_section": "ctxblocks.experiments"}


def __getattr__(name: str) -> Any:
    if name in _MOVED:
        raise MovedNameError(f"ctxblocks.report.{name}: has moved; use {_MOVED[name]}.{name}")
    return _resolve(name)
