"""Files that appear whole or not at all: written under a temporary name in the same folder, flushed, renamed."""

import os
import tempfile
from pathlib import Path

from ctxblocks.base.errors import ArgumentError


def write_bytes(path: Path, content: bytes) -> None:
    """Write the content to the path; a reader sees the old file or the new one, never a part of it."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, content: str) -> None:
    """Write text as UTF-8, see `write_bytes`."""
    write_bytes(path, content.encode())


def make_folders(folder: Path, *inner: str) -> None:
    """Make the folder of a run and those inside it, and check that they can be written to.

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
