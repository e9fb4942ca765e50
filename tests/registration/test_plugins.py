"""Installed plugins: found in real metadata on the path, loaded one by one."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import ctxblocks
from ctxblocks import PluginError, UnknownLayerError
from ctxblocks.registration.plugins import installed
from ctxblocks.registration.registry import Registry

ROOT = Path(__file__).parents[2]
GOOD = """
import attrs, torch
from ctxblocks import ContextualLayer, LayerSpec, hookimpl

@attrs.frozen(kw_only=True)
class Config:
    width: int

class Echo(ContextualLayer):
    def __init__(self, config):
        super().__init__(config.width)
    def forward(self, query, context):
        return query.clone()

@hookimpl
def ctxblocks_layers():
    return [LayerSpec(name="NAME", summary="the query", config=Config, build=Echo)]
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a distribution on the path: modules (name to source) and entry points (name to module), as pip leaves them."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(name: str, entries: str, **modules: str) -> None:
        info = tmp_path / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[ctxblocks]\n{entries}\n")
        for module, source in modules.items():
            (tmp_path / f"{module}.py").write_text(source)
            monkeypatch.delitem(sys.modules, module, raising=False)

    return install


def loaded(block: str = "") -> Registry:
    """A registry of the test's own distributions only, whose names end in `-test`."""
    others = [name for name in installed() if not name.partition(":")[0].endswith("-test")]
    registry = Registry()
    registry.load_installed(",".join([block, *others]))
    return registry


def test_a_plugin_goes_by_distribution_and_entry_point(install: Install) -> None:
    """Two distributions may call their entry points alike: both load."""
    install("one-test", "echo = t_one", t_one=GOOD.replace("NAME", "a"))
    install("two-test", "echo = t_two", t_two=GOOD.replace("NAME", "b"))
    registry = loaded()
    assert dict(registry.providers) == {"a": "one-test:echo", "b": "two-test:echo"}
    assert not registry.failures
    assert registry.create("a", width=3).width == 3


@pytest.mark.parametrize(
    "failure", ["raise RuntimeError('no\\nkernel')", "raise SystemExit('no kernel')", "import t_absent"]
)
def test_a_plugin_whose_import_fails_is_listed_and_the_rest_work(install: Install, failure: str) -> None:
    """The failed plugin stands with its cause, and its cause comes up for names that are its own, or nobody's."""
    install("bad-test", "my_flash = t_bad", t_bad=failure)
    install("good-test", "good = t_good", t_good=GOOD.replace("NAME", "works"))
    registry = loaded()
    assert list(registry.layers) == ["works"]
    assert list(registry.failures) == ["bad-test:my_flash"]
    cause = registry.failures["bad-test:my_flash"]
    text = rf"{type(cause).__name__}: (no kernel|No module named 't_absent')$"
    for name in ("my-flash", "my-flash-attention"):
        with pytest.raises(
            PluginError, match=rf"^layer '{name}': the plugin 'bad-test:my_flash' failed to load with {text}"
        ) as e:
            registry.layer(name)
        assert e.value.__cause__ is cause
    for name in ("wors", "my-flashy"):
        with pytest.raises(
            UnknownLayerError, match=rf"needs one of works.*; the plugin 'bad-test:my_flash' failed with {text}"
        ):
            registry.layer(name)


@pytest.mark.parametrize(
    "source",
    [
        "import pytest\npytest.importorskip('t_absent')",
        "import asyncio\nraise asyncio.CancelledError",
        "raise SystemExit",
    ],
)
def test_whatever_a_plugin_raises_is_its_failure(install: Install, source: str) -> None:
    """Also what is no `Exception`, and the others load."""
    install("bad-test", "bad = t_bad", t_bad=source)
    install("good-test", "good = t_good", t_good=GOOD.replace("NAME", "works"))
    registry = loaded()
    assert list(registry.layers) == ["works"]
    assert list(registry.failures) == ["bad-test:bad"]


def test_an_interrupt_passes(install: Install) -> None:
    """The user's interrupt is no failure of the plugin that happened to be imported."""
    install("slow-test", "slow = t_slow", t_slow="raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        loaded()


def test_a_value_that_is_no_reference_is_named(install: Install) -> None:
    """The failure quotes the entry point's value."""
    install("odd-test", "odd = not a module!!")
    text = str(loaded().failures["odd-test:odd"])
    assert text.startswith("plugin 'odd-test:odd': its entry point is 'not a module!!', needs a reference such as")


def test_a_distribution_without_metadata_has_the_name_of_its_folder(install: Install, tmp_path: Path) -> None:
    """A broken installation still has a provider with a name."""
    install("bare-test", "a = t_bare", t_bare=GOOD.replace("NAME", "works"))
    (tmp_path / "bare_test-1.0.dist-info" / "METADATA").unlink()
    assert dict(loaded().providers) == {"works": "bare-test:a"}


def test_a_hook_that_raises_is_a_failure_too(install: Install) -> None:
    """What the hook raised is the cause, and what is wrong with a hook is one."""
    install("raises-test", "a = t_raises", t_raises=GOOD.replace("return [", 'raise OSError("gone"); ['))
    install("misspelt-test", "b = t_misspelt", t_misspelt=GOOD.replace("ctxblocks_layers", "ctxblocks_layer"))
    failures = loaded().failures
    assert list(failures) == ["misspelt-test:b", "raises-test:a"]
    assert isinstance(failures["raises-test:a"], OSError)
    assert isinstance(failures["misspelt-test:b"], PluginError)
    assert "plugin 'misspelt-test:b': got a hook named 'ctxblocks_layer'" in str(failures["misspelt-test:b"])


def test_one_name_of_two_plugins_goes_to_neither(install: Install) -> None:
    """Asking for it names both, the rest works, and it is free again for one when the other goes."""
    install("one-test", "x = t_one", t_one=GOOD.replace("NAME", "same"))
    install(
        "two-test", "y = t_two\nz = t_three", t_two=GOOD.replace("NAME", "same"), t_three=GOOD.replace("NAME", "other")
    )
    registry = loaded()
    assert list(registry.layers) == ["other"]
    assert dict(registry.clashes) == {"same": ("one-test:x", "two-test:y")}
    message = (
        "^layer 'same': the plugins 'one-test:x' and 'two-test:y' both provide it, and neither gets it; leave one out"
    )
    with pytest.raises(PluginError, match=message):
        registry.create("same", width=3)
    registry.unregister("two-test:y")
    assert registry.providers["same"] == "one-test:x"


def test_one_entry_point_announced_twice_is_a_failure(install: Install) -> None:
    """Neither of two modules under one entry point is dropped without a word."""
    install("one-test", "x = t_one\nx = t_two", t_one=GOOD.replace("NAME", "a"), t_two=GOOD.replace("NAME", "b"))
    registry = loaded()
    assert not registry.layers
    assert re.search(
        r"announces this entry point 2 times \(t_one, t_two\), needs one; give each",
        str(registry.failures["one-test:x"]),
    )


@pytest.mark.parametrize("block", ["one-test:x", " x ,", "one-test:x,x"])
def test_blocked_plugins_are_not_even_imported(install: Install, block: str) -> None:
    """A plugin is left out by its full name or its entry point's."""
    install("one-test", "x = t_one", t_one="raise RuntimeError")
    install("two-test", "y = t_two", t_two=GOOD.replace("NAME", "b"))
    registry = loaded(block)
    assert list(registry.layers) == ["b"]
    assert not registry.failures
    assert "one-test:x" in registry.blocked
    assert "two-test:y" not in registry.blocked


def test_blocking_what_is_not_installed_is_an_error(install: Install) -> None:
    """A misspelt name in the list is refused, with the closest."""
    install("one-test", "x = t_one", t_one=GOOD)
    message = (
        r"^CTXBLOCKS_BLOCK: got 'one-tst:x', needs names of installed plugins: .*one-test:x.*did you mean 'one-test:x'"
    )
    with pytest.raises(PluginError, match=message):
        loaded("one-tst:x")


def test_a_plugin_may_not_ask_for_the_registry_on_import(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would see a registry half filled; the error becomes that plugin's failure."""
    install("eager-test", "x = t_eager", t_eager="import ctxblocks\nctxblocks.registry()")
    monkeypatch.setattr("ctxblocks.registration.registry._shared", None)
    cause = ctxblocks.registry().failures["eager-test:x"]
    assert str(cause) == "registry: called while plugins are being loaded; ask for it inside a function, not on import"
    assert ctxblocks.registry() is ctxblocks.registry()


def test_the_environment_blocks_plugins(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    """`registry()` reads CTXBLOCKS_BLOCK; an error in it is raised again until it is mended."""
    install("one-test", "x = t_one", t_one=GOOD.replace("NAME", "a"))
    monkeypatch.setattr("ctxblocks.registration.registry._shared", None)
    monkeypatch.setenv("CTXBLOCKS_BLOCK", "nobody")
    for _ in range(2):
        with pytest.raises(PluginError, match="got 'nobody'"):
            ctxblocks.registry()
    monkeypatch.setenv("CTXBLOCKS_BLOCK", "one-test:x")
    assert ctxblocks.registry().blocked == ("one-test:x",)
    assert "a" not in ctxblocks.registry().layers


def test_importing_ctxblocks_loads_no_plugin_and_no_torch() -> None:
    """Names resolve on use, and plugins load with the first question."""
    script = "import ctxblocks, sys; ctxblocks.registry, ctxblocks.LayerSpec; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "ctxblocks.registration.registry" in modules
    assert not [name for name in modules if name == "torch" or name.startswith("ctxblocks_")]


def test_the_bundled_plugins_load() -> None:
    """Every entry point of this distribution provides layers."""
    registry = Registry()
    registry.load_installed()
    assert not [name for name in registry.failures if name.startswith("ctxblocks:")]


def test_the_example_distribution_is_found(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    """`examples/third_party` announces what its hook provides."""
    folder = ROOT / "examples" / "third_party"
    project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
    monkeypatch.syspath_prepend(folder / "src")
    entries = "\n".join(f"{name} = {module}" for name, module in project["entry-points"]["ctxblocks"].items())
    install(f"{project['name']}-test", entries)
    registry = loaded()
    assert dict(registry.providers) == {"mean-pool": "ctxblocks-meanpool-test:mean-pool"}
    for dtype in (torch.float64, torch.bfloat16):
        layer = registry.create("mean-pool", width=3).to(dtype)
        query, context = torch.randn(2, 3, dtype=dtype), torch.randn(2, 5, 3, dtype=dtype)
        torch.testing.assert_close(layer.prefixes(query, context)[..., -1, :], layer(query, context))
