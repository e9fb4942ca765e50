"""The command line's frame: what it loads, what it prints, and how it fails."""

import importlib.util
import inspect
import io
import json
import os
import resource
import subprocess
import sys
import types
from collections.abc import Sequence

import attrs
import pytest
from rich.console import Console

import ctxblocks
from ctxblocks import ContextualLayer, LayerSpec, Traits, hookimpl
from ctxblocks.cli import Device, Json, Seed, UnusedDevice, UnusedSeed, layers, main
from ctxblocks.cli.entry import COMMANDS, app, plugin_commands
from ctxblocks.registration.registry import Registry

HEAVY = ("torch", "matplotlib", "numpy", "scipy", "sklearn", "pyarrow", "transformers", "ctxblocks_")
ANNOUNCING = {
    "ctxblocks_transformers",
    "ctxblocks_transformers.commands",
    "ctxblocks_transformers.commands.announced",
}
"""Modules of plugins that the list of commands needs: names and one line each."""
FROM_PLUGINS = ("trace", "explain", "export")
UNUSED = {"layers": ("seed", "device"), "report": ("seed", "device")} | dict.fromkeys(FROM_PLUGINS, ("seed",))
"""Common options that do nothing in a command."""


@attrs.frozen(kw_only=True)
class Config:
    """One option of every kind that the listing tells apart."""

    width: int
    bias: bool = True
    window: int | None = None
    modes: tuple[str, ...] = ("a", "b")
    heads: int = attrs.field(default=attrs.Factory(lambda self: self.width, takes_self=True))


def claims(config: Config) -> Traits:
    """A window where there is one, and always an order."""
    return Traits(windowed=config.window, positional=True)


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """The registry of the process, holding one layer, one failure, one clash and one blocked plugin."""
    registry = Registry()

    def plugin(*names: str) -> types.SimpleNamespace:
        specs = [
            LayerSpec(
                name=name,
                summary="[δ] of :star:",
                config=Config,
                build=ContextualLayer,
                examples=(Config(width=4), Config(width=4, window=2)),
                traits=claims,
            )
            for name in names
        ]
        return types.SimpleNamespace(ctxblocks_layers=hookimpl(lambda: specs))

    registry.register(plugin("banded", "same"), "one")
    registry.register(plugin("other"), "two")
    registry._plugins["two"] = attrs.evolve(registry._plugins["two"], layers=tuple(plugin("same").ctxblocks_layers()))
    registry._failures["mine:flash"] = ImportError("no\nkernel")
    registry._blocked = ("mine:slow",)
    monkeypatch.setattr("ctxblocks.registration.registry._shared", registry)
    return registry


def shell(arguments: Sequence[str], **changes: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-c", "import sys; from ctxblocks.cli import main; sys.exit(main())", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **changes}, encoding="utf-8")


def asked_for_help(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The page that `--help` prints, and the modules that it loaded."""
    script = f"import sys; from ctxblocks.cli import main; main({[*arguments, '--help']}); print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    page, modules = output.rstrip().rsplit("\n", 1)
    return page, modules.split()


def test_help_names_every_command_and_imports_none() -> None:
    """`ctxblocks --help` loads what it prints and no more."""
    page, modules = asked_for_help([])
    for name in (*COMMANDS, *FROM_PLUGINS):
        assert f" {name} " in page
    assert {name for name in modules if name.startswith(HEAVY)} == ANNOUNCING
    assert [name for name in modules if name.startswith("ctxblocks.cli.")] == ["ctxblocks.cli.entry"]


@pytest.mark.parametrize("name", [*COMMANDS, *FROM_PLUGINS])
def test_help_of_a_command_loads_neither_torch_nor_plugins(name: str) -> None:
    """A command's module imports them inside its function."""
    page, modules = asked_for_help([name])
    assert "--json" in page
    commands = {*ANNOUNCING, "ctxblocks_transformers.commands.options", f"ctxblocks_transformers.commands.{name}"}
    assert {each for each in modules if each.startswith(HEAVY)} <= (commands if name in FROM_PLUGINS else set())
    for option in ("seed", "device"):
        assert (f"--{option} " in page) == (option not in UNUSED.get(name, ()))


def test_help_answers_in_under_400_ms() -> None:
    """Measured as processor time, which other processes on the cores stretch less than the wall clock's."""

    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    times = []
    for _ in range(5):
        start = spent()
        assert shell(["--help"]).returncode == 0
        times.append(spent() - start)
    assert min(times) < 0.4


def test_version() -> None:
    """`--version` prints the distribution's."""
    result = shell(["--version"])
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{ctxblocks.__version__}\n", "")


@pytest.mark.parametrize("name", [*COMMANDS, *FROM_PLUGINS])
def test_every_command_has_the_common_options(name: str) -> None:
    """Each command is a function of annotated parameters, `--json`, `--seed` and `--device` among them."""
    assert set(plugin_commands()) == set(FROM_PLUGINS)
    package = "ctxblocks.cli" if name in COMMANDS else "ctxblocks_transformers.commands"
    assert importlib.util.find_spec(f"{package}.{name}"), f"the module of the command {name} is missing"
    parameters = inspect.signature(app[name].default_command).parameters  # type: ignore[arg-type]
    unused = UNUSED.get(name, ())
    assert parameters["as_json"].annotation == Json
    assert parameters["seed"].annotation == (UnusedSeed if "seed" in unused else Seed)
    assert parameters["device"].annotation == (UnusedDevice if "device" in unused else Device)


def test_layers_prints_one_line_per_layer_into_a_pipe(shared: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    """Layer, provider, traits, parameters and summary, and below what went wrong."""
    assert main(["layers"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "layer provider traits parameters summary",
        "banded one positional, windowed* width, bias=True, window=None, modes=('a', 'b'), heads=derived [δ] of :star:",
        "* in some configurations",
        "failed: mine:flash: ImportError: no kernel",
        "clash: same is provided by one and two, and neither gets it",
        "left out by CTXBLOCKS_BLOCK: mine:slow",
    ]


def test_layers_cuts_no_name_short_on_a_narrow_terminal(shared: Registry) -> None:
    """Cells fold instead."""
    out = Console(file=io.StringIO(), width=50, force_terminal=True, color_system=None, markup=False, emoji=False)
    layers._print(shared, out)
    text = out.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in text
    assert max(map(len, text.split("* in some")[0].splitlines())) <= 50


def test_layers_as_json(shared: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    """The same as data, and nothing else on stdout."""
    assert main(["layers", "--json", "--seed", "3", "--device", "cpu"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "layers": [
            {
                "name": "banded",
                "provider": "one",
                "summary": "[δ] of :star:",
                "traits": {"always": ["positional"], "sometimes": ["windowed"]},
                "parameters": [
                    {"name": "width", "required": True, "default": None},
                    {"name": "bias", "required": False, "default": True},
                    {"name": "window", "required": False, "default": None},
                    {"name": "modes", "required": False, "default": "('a', 'b')"},
                    {"name": "heads", "required": False, "default": "derived"},
                ],
            }
        ],
        "failures": {"mine:flash": "ImportError: no kernel"},
        "clashes": {"same": ["one", "two"]},
        "blocked": ["mine:slow"],
    }


def test_an_interrupt_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Control-C ends a command in one line."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(layers, "registry", interrupt)
    assert main(["layers"]) == 130
    assert capsys.readouterr() == ("", "error: interrupted\n")


def test_letters_that_the_terminal_lacks_are_escaped(shared: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ASCII terminal gets escapes, not a crash."""
    terminal = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(terminal, encoding="ascii"))
    assert main(["layers"]) == 0
    assert rb"[\u03b4] of :star:" in terminal.getvalue()
