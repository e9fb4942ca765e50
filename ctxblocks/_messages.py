"""Words for error messages."""

import difflib
from collections.abc import Collection


def describe(error: BaseException) -> str:
    """The class and message of an exception, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def listed(names: Collection[str]) -> str:
    """The names in one line, or `none`."""
    return ", ".join(names) if names else "none"


def closest(name: str, known: Collection[str]) -> str:
    """`; did you mean …?`, or nothing where no known name comes close."""
    matches = difflib.get_close_matches(name, known, n=3)
    return f"; did you mean {' or '.join(repr(match) for match in matches)}?" if matches else ""
