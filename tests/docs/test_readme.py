"""README.md: its code runs, its links lead somewhere, and its two commands are the two there are."""

import re
from pathlib import Path

import pytest
import torch

from ctxblocks.registration.registry import Registry

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text("utf-8")


def test_the_code_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Python block runs, in order, on a registry of its own that ends with the layer of the last block."""
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
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of the README and the docs names a file that exists."""
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text("utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_there_are_two_set_up_commands() -> None:
    """Exactly two shell lines, each complete with only Python and pip."""
    lines = re.findall(r"^```sh\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        assert line.count("\n") == 1
        assert line.startswith("python3 -m venv .venv && .venv/bin/pip install -q -c constraints.txt ")
