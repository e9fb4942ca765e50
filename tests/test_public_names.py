"""The names at the top of the package."""

import importlib
import pkgutil
import subprocess
import sys

import ctxblocks


def test_every_public_name_resolves() -> None:
    """`__all__` holds names that exist, sorted."""
    assert list(ctxblocks.__all__) == sorted(ctxblocks.__all__)
    for name in ctxblocks.__all__:
        assert getattr(ctxblocks, name) is not None


def test_names_are_the_same_before_and_after_every_module_is_imported() -> None:
    """No module hides a public name of its package: each gives the same object however much has been imported."""
    before = {name: getattr(ctxblocks, name) for name in ctxblocks.__all__}
    for module in pkgutil.walk_packages(ctxblocks.__path__, "ctxblocks."):
        if module.name != "ctxblocks.testing.suite":  # pytest itself imports it, with its assertions rewritten
            importlib.import_module(module.name)
    for name, found in before.items():
        assert getattr(ctxblocks, name) is found or name == "__version__"


def test_import_loads_neither_torch_nor_plugins() -> None:
    """`import ctxblocks` stays light: nothing heavy, and no plugin."""
    code = (
        "import sys, ctxblocks; heavy = {'torch', 'numpy', 'attrs', 'pluggy'}; "
        "print([m for m in sys.modules if m.split('.')[0] in heavy or m.startswith('ctxblocks_')])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
