"""docs/architectures.md names a command that there is, and pictures that it draws."""

import re
import shlex
from pathlib import Path

from ctxblocks.cli import main
from ctxblocks.comparison import CompareConfig

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "architectures.md").read_text()


def test_the_command_is_one(asked: list[CompareConfig]) -> None:
    """It asks for the settings that the page tells."""
    (line,) = re.findall(r"^ctxblocks compare .*$", PAGE, re.MULTILINE)
    assert main(shlex.split(line)[1:]) == 2
    (config,) = asked
    told = f"{config.blocks} pre-norm blocks of width {config.width}"
    assert told in PAGE
    assert f"{config.steps} steps of {config.batch} tasks, {config.seeds} models of each layer" in PAGE
    assert set(re.findall(r"^\| `([a-z-]+)` \|", PAGE, re.MULTILINE)) == set(config.layers)


def test_pictures_are_there() -> None:
    """Beside the page."""
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", PAGE)
    assert len(pictures) == 3
    assert all((DOCS / name).read_bytes().startswith(b"\x89PNG") for name in pictures)
