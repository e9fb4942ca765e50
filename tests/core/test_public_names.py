"""The names at the top of the package."""

import ast
import subprocess
import sys
from pathlib import Path

import ctxblocks


def test_every_public_name_resolves() -> None:
    """`__all__` holds names that exist, sorted."""
    assert list(ctxblocks.__all__) == sorted(ctxblocks.__all__)
    for name in ctxblocks.__all__:
        assert getattr(ctxblocks, name) is not None


def test_type_checkers_see_the_names_that_resolve() -> None:
    """The imports for type checkers and the table of homes name the same things."""
    tree = ast.parse(Path(ctxblocks.__file__).read_text(encoding="utf-8"))
    seen = {
        (alias.name, node.module.removeprefix("ctxblocks."))
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ctxblocks.")
        for alias in node.names
    }
    assert seen == set(ctxblocks._HOMES.items())


def test_import_loads_neither_torch_nor_plugins() -> None:
    """`import ctxblocks` stays light: nothing heavy, and no plugin."""
    code = (
        "import sys, ctxblocks; heavy = {'torch', 'numpy', 'attrs', 'pluggy'}; "
        "print([m for m in sys.modules if m.split('.')[0] in heavy or m.startswith('ctxblocks_')])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
