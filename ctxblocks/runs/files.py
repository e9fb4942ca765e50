"""Files that appear whole or not at all: written aside in the same folder, flushed, renamed."""

import os
import tempfile
from pathlib import Path

from ctxblocks.base.errors import ArgumentError


def write_bytes(path: Path, content: bytes) -> None:
    """Put the content at the path; whoever reads it finds the old file or the new one, and nothing between."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    aside = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.chmod(0o644)
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def write_text(path: Path, content: str) -> None:
    """The same for text."""
    write_bytes(path, content.encode())


def make_folders(folder: Path, *inner: str) -> None:
    """Make the folder of a run and those inside it, and see that it can be written.

    Raises:
        ArgumentError: it cannot.
    """
    try:
        for path in (folder, *(folder / name for name in inner)):
            path.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        raise ArgumentError(
            f"out: got {str(folder)!r}, needs a folder that can be written ({error.strerror}); give another one with --out"
        ) from error
