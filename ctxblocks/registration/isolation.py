"""Running the code of plugins: what it prints goes to stderr, and what it raises is told apart from an interrupt."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

PASSED = (KeyboardInterrupt, GeneratorExit)
"""What the user raises, and not a plugin; a plugin's `SystemExit` or a skip of pytest is a failure of that plugin."""


@contextmanager
def plugin_code() -> Iterator[None]:
    """A context in which what is printed goes to stderr, since stdout is for results."""
    with redirect_stdout(sys.stderr):
        yield
