"""README.md: its code runs, its links are valid, and its two set-up commands are complete."""

import re
from pathlib import Path

import pytest
import torch

from ctxblocks.registration.registry import Registry

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text("utf-8")


def test_the_code_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Python block runs, in order, with a separate registry, to which the last block adds a layer."""
    shared = Registry()
    monkeypatch.setattr("ctxblocks.registration.registry._shared", shared)
    shared.register(__import__("ctxblocks_attention"), name="attention")
    shared.register(__import__("ctxblocks_rnn"), name="rnn")
    shared.register(__import__("ctxblocks_transformers"), name="transformers")
    torch.manual_seed(0)
    names: dict[str, object] = {}
    blocks = re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 4
    for block in blocks:
        exec(block, names)
    assert "mean" in shared.layers


@pytest.mark.parametrize("page", [*sorted(ROOT.glob("docs/*.md")), ROOT / "README.md"], ids=lambda page: page.name)
def test_links_are_valid(page: Path) -> None:
    """Every relative link of the README and the docs is a path that exists."""
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text("utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_there_are_two_set_up_commands() -> None:
    """There are exactly two shell commands, and each needs only Python and pip."""
    lines = re.findall(r"^```sh\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        assert line.count("\n") == 1
        assert line.startswith("python3 -m venv .venv && .venv/bin/pip install -q -c constraints.txt ")
