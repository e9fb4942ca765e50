"""docs/architectures.md: its command is valid and its figures exist."""

import re
import shlex
from pathlib import Path

from ctxblocks.cli import main
from ctxblocks.comparison import CompareConfig

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "architectures.md").read_text()


def test_the_command_is_valid(asked: list[CompareConfig]) -> None:
    """The command of the page has the settings that the page describes."""
    (line,) = re.findall(r"^ctxblocks compare .*$", PAGE, re.MULTILINE)
    assert main(shlex.split(line)[1:]) == 2
    (config,) = asked
    assert f"{config.blocks} pre-norm blocks of width {config.width}" in PAGE
    assert f"{config.steps} steps of {config.batch} tasks, {config.seeds} models of each layer" in PAGE
    assert set(re.findall(r"^\| `([a-z-]+)` \|", PAGE, re.MULTILINE)) == set(config.layers)


def test_figures_exist() -> None:
    """The three figures of the page are PNG files in `docs`."""
    figures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", PAGE)
    assert len(figures) == 3
    assert all((DOCS / name).read_bytes().startswith(b"\x89PNG") for name in figures)
