"""`run.json`: what a run is, written and read in one way for every kind of run."""

import json
import platform
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import attrs
import cattrs

from ctxblocks.base.errors import ArgumentError
from ctxblocks.runs.files import write_text

FILE = "run.json"
SHORT = 40
"""Settings of more characters than this are named in an error without their values."""
UNREADABLE = (OSError, ValueError, KeyError, TypeError, cattrs.BaseValidationError)
"""What reading a document of another origin can raise."""


@attrs.frozen
class Kind:
    """A kind of run.

    Attributes:
        name: as `run.json` holds it.
        format: version of the folder's format; another one is refused.
    """

    name: str
    format: int

    def write(self, folder: Path, content: Mapping[str, Any]) -> None:
        """Put `run.json` into the folder."""
        write_text(folder / FILE, json.dumps(self.document(content), indent=2, ensure_ascii=False) + "\n")

    def document(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """The content, preceded by format and kind."""
        return {"format": self.format, "kind": self.name, **content}

    def read(self, folder: Path) -> dict[str, Any]:
        """The content of `run.json`.

        Raises:
            ArgumentError: it cannot be read, or is that of another kind or format.
        """
        path = folder / FILE
        try:
            document: dict[str, Any] = json.loads(path.read_text("utf-8"))
            version = (document["kind"], document["format"])
        except UNREADABLE as error:
            raise self.broken(folder, error) from error
        if version != (self.name, self.format):
            raise ArgumentError(
                f"{path}: is a {version[0]} of format {version[1]}, needs a {self.name} of format {self.format}; "
                f"give another folder with --out"
            )
        return document

    def broken(self, folder: Path, error: Exception) -> ArgumentError:
        """The error to raise where `run.json` does not hold what one of this kind holds."""
        return ArgumentError(
            f"{folder / FILE}: is not that of a whole {self.name} ({type(error).__name__}), needs one; "
            f"give another folder with --out"
        )

    def check_folder(self, folder: Path, configuration: Mapping[str, Any]) -> None:
        """Raise if the folder holds a run of another configuration; a folder without a run passes.

        Raises:
            ArgumentError: it does, or its `run.json` is not one of this kind.
        """
        if not (folder / FILE).exists():
            return
        try:
            there: dict[str, Any] = dict(self.read(folder)["configuration"])
        except UNREADABLE as error:
            raise error if isinstance(error, ArgumentError) else self.broken(folder, error) from error
        differing = [name for name in configuration if there.get(name) != configuration[name]]
        if differing:
            raise ArgumentError(
                f"out: got {str(folder)!r}, which holds a {self.name} of another configuration (it differs in "
                f"{', '.join(_difference(name, there.get(name), configuration[name]) for name in differing)}), "
                f"needs a folder without a run, or with this very one to resume; give another folder with --out"
            )


def as_plain(configuration: Any) -> dict[str, Any]:
    """A configuration as JSON gives it back."""
    plain: dict[str, Any] = json.loads(json.dumps(cattrs.unstructure(configuration)))
    return plain


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """The versions of Python and of packages."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in packages}}


def command_line(command: str, arguments: Iterable[object], options: Mapping[str, object]) -> str:
    """The command line with these arguments and options; a tuple gives several values, an empty one leaves the option out."""
    words = ["ctxblocks", command, *map(str, arguments)]
    for name, value in options.items():
        values = value if isinstance(value, tuple) else (value,)
        words += [f"--{name.replace('_', '-')}", *map(str, values)] if values else []
    return " ".join(words)


def _difference(name: str, there: object, here: object) -> str:
    values = f"{name}: {there!r} there, {here!r} here"
    return values if len(values) <= SHORT else name
