"""The public names of the package."""

import importlib
import pkgutil
import subprocess
import sys

import ctxblocks


def test_every_public_name_resolves() -> None:
    """Every name in `__all__` exists, and the list is sorted."""
    assert list(ctxblocks.__all__) == sorted(ctxblocks.__all__)
    for name in ctxblocks.__all__:
        assert getattr(ctxblocks, name) is not None


def test_names_are_the_same_before_and_after_every_module_is_imported() -> None:
    """No submodule hides a public name of its package: a name gives the same object before and after all imports."""
    before = {name: getattr(ctxblocks, name) for name in ctxblocks.__all__}
    for module in pkgutil.walk_packages(ctxblocks.__path__, "ctxblocks."):
        if module.name != "ctxblocks.testing.suite":  # pytest itself imports it, with its assertions rewritten
            importlib.import_module(module.name)
    for name, value in before.items():
        assert getattr(ctxblocks, name) is value


def test_import_loads_neither_torch_nor_plugins() -> None:
    """`import ctxblocks` imports no large library and no plugin."""
    code = (
        "import sys, ctxblocks; heavy = {'torch', 'numpy', 'attrs', 'pluggy'}; "
        "print([m for m in sys.modules if m.split('.')[0] in heavy or m.startswith('ctxblocks_')])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
