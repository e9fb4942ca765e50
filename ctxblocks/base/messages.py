"""Helpers for the text of error messages."""

import difflib
from collections.abc import Collection

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")


def describe(error: BaseException) -> str:
    """The class and message of an exception, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def listed(names: Collection[str]) -> str:
    """The names separated by commas, or `none`."""
    return ", ".join(names) if names else "none"


def closest(name: str, known: Collection[str]) -> str:
    """`; did you mean …?`, or an empty string if no known name is similar."""
    matches = difflib.get_close_matches(name, known, n=3)
    return f"; did you mean {' or '.join(repr(match) for match in matches)}?" if matches else ""


def in_units(size: float) -> str:
    """A number of bytes in the largest unit that is not larger than it, such as `381 GiB`."""
    power = 0
    while size >= 1024 and power + 1 < len(UNITS):
        size, power = size / 1024, power + 1
    return f"{size:.3g} {UNITS[power]}" if size < 1000 else f"{size:.0f} {UNITS[power]}"
