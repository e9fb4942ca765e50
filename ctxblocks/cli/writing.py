"""Output of commands that appears whole or not at all."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ctxblocks.runs.files import make_folders, write_bytes as write_bytes, write_text as write_text


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[None]:
    """A context with a folder that can be written to; if it is new, an error inside removes it again.

    Raises:
        ArgumentError: the folder cannot be written to.
    """
    new = not out.exists()
    make_folders(out)
    try:
        yield
    except BaseException:
        if new:
            out.rmdir()
        raise
