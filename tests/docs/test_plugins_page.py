"""docs/plugins.md: its code runs, and it names every hook and every trait."""

import ast
import re
import sys
from pathlib import Path

import attrs
import pytest
import torch

import ctxblocks
from ctxblocks import Traits
from ctxblocks.registration import hooks as hooks_module
from ctxblocks.registration.registry import Registry

PAGE = Path(__file__).parents[2] / "docs" / "plugins.md"


def test_the_page_s_code_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every Python block of docs/plugins.md runs, in order, and prints what its comments say."""
    monkeypatch.setattr("ctxblocks.registration.registry._shared", Registry())
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "leaky", raising=False)
    torch.manual_seed(0)
    names: dict[str, object] = {}
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 5
    for block in blocks:
        if block.startswith("# leaky.py"):
            (tmp_path / "leaky.py").write_text(block, "utf-8")
        else:
            exec(block, names)
    printed = capsys.readouterr().out
    assert printed.startswith("torch.Size([2, 4])\ntorch.Size([2, 8, 4])\nleaky\n{} {} ()\n")
    assert "has no option 'dekay'; did you mean 'decay'?; the options of layer 'leaky' are width, decay" in printed
    assert not ctxblocks.registry().layers


def test_the_page_lists_every_trait() -> None:
    """docs/plugins.md has a row for each trait."""
    rows = re.findall(r"^\| `(\w+)=", PAGE.read_text("utf-8"), re.MULTILINE)
    assert rows == [field.name for field in attrs.fields(Traits)]


def test_the_page_documents_every_hook() -> None:
    """docs/plugins.md documents each hook of the specification with its exact signature."""
    tree = ast.parse(Path(hooks_module.__file__).read_text("utf-8"))
    hooks = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert [node.name for node in hooks] == [
        "ctxblocks_layers",
        "ctxblocks_families",
        "ctxblocks_probes",
        "ctxblocks_tasks",
        "ctxblocks_observers",
        "ctxblocks_sections",
        "ctxblocks_commands",
    ]
    for node in hooks:
        assert ast.get_docstring(node)
        signature = f"def {node.name}({ast.unparse(node.args)}) -> {ast.unparse(node.returns)}"  # type: ignore[arg-type]
        assert f"\n    {signature}\n" in PAGE.read_text("utf-8")
