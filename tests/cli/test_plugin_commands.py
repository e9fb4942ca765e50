"""Commands that plugins add to the command line, and what becomes of faulty ones."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cli.test_cli import shell

from ctxblocks.registration.commands import GROUP


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put a distribution on the path: entry points of the group of commands (name to module), and modules (name to source)."""

    def install(name: str, entries: str, **modules: str) -> None:
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{GROUP}]\n{entries}\n")
        for module, source in modules.items():
            (tmp_path / f"{module}.py").write_text(source)

    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return install


ANNOUNCED = """
from ctxblocks import CommandSpec, hookimpl

@hookimpl
def ctxblocks_commands():
    return [CommandSpec(name="NAME", summary="Greet.", function="FUNCTION")]
"""
GREETING = "def greet(name: str, *, seed: int = 0) -> int:\n    print('hello', name, seed)\n    return 3\n"


def announced(name: str, function: str = "t_greet:greet") -> str:
    return ANNOUNCED.replace("NAME", name).replace("FUNCTION", function)


def test_a_plugin_adds_a_command(install: Callable[..., None]) -> None:
    """It is listed, called with its arguments, and its return value is the exit code; blocked, it is unknown."""
    install("greeting", "polite = t_polite", t_polite=announced("greet"), t_greet=GREETING)
    assert " greet " in shell(["--help"]).stdout
    run = shell(["greet", "you", "--seed", "4"])
    assert (run.returncode, run.stdout, run.stderr) == (3, "hello you 4\n", "")
    for block in ("polite", "greeting:polite"):
        blocked = shell(["greet", "you"], CTXBLOCKS_BLOCK=block)
        assert blocked.returncode == 2
        assert blocked.stderr.startswith("error: ctxblocks: got 'greet', needs one of the commands layers, verify,")
        assert shell(["layers"], CTXBLOCKS_BLOCK=block).returncode == 0


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("raise RuntimeError('no\\nluck')", "commands of the plugin 'broken:bad' are left out: RuntimeError: no luck"),
        (
            "import pytest\npytest.importorskip('t_absent')",
            "commands of the plugin 'broken:bad' are left out: Skipped: could not import 't_absent'",
        ),
        ("raise SystemExit(1)", "commands of the plugin 'broken:bad' are left out: SystemExit: 1"),
        (
            announced("greet", "t_greet"),
            "are left out: ArgumentError: CommandSpec 'greet': got the function 't_greet', needs",
        ),
        (announced("A b"), "are left out: ArgumentError: CommandSpec: got the name 'A b', needs lower case"),
        (announced("layers"), "command 'layers' is provided by ctxblocks and 'broken:bad'; leave one out with"),
        (announced("trace"), "command 'trace' is provided by 'broken:bad' and 'ctxblocks:transformers'; leave one out"),
    ],
)
def test_a_plugin_with_a_faulty_command_breaks_no_other(
    source: str, problem: str, install: Callable[..., None]
) -> None:
    """One line on stderr where commands are listed, and none elsewhere."""
    install("broken", "bad = t_bad", t_bad=source)
    page = shell(["--help"])
    assert page.returncode == 0
    assert " explain " in page.stdout
    assert page.stderr.count("\n") == 1
    assert page.stderr.startswith("warning: ")
    assert problem in page.stderr
    run = shell(["layers", "--json"])
    assert (run.returncode, run.stderr) == (0, "")


def test_a_command_whose_module_cannot_be_imported(install: Callable[..., None]) -> None:
    """One line, for that command alone."""
    install("absent", "a = t_announced", t_announced=announced("greet", "t_absent:greet"))
    run = shell(["greet", "you"])
    assert run.returncode == 2
    assert run.stderr.startswith(
        "error: command 'greet': t_absent:greet cannot be imported (ModuleNotFoundError: No mod"
    )
    assert run.stderr.count("\n") == 1


def test_commands_have_a_group_of_their_own(install: Callable[..., None], tmp_path: Path) -> None:
    """A plugin of the other group that provides commands fails, with the way out."""
    install("mixed", "a = t_announced", t_announced=announced("greet"), t_greet=GREETING)
    entries = tmp_path / "mixed-1.0.dist-info" / "entry_points.txt"
    entries.write_text(entries.read_text().replace(GROUP, "ctxblocks"))
    failures = json.loads(shell(["layers", "--json"]).stdout)["failures"]
    assert "announce that in the group 'ctxblocks.commands'" in failures["mixed:a"]


def test_a_plugin_that_prints_leaves_json_alone(install: Callable[..., None], tmp_path: Path) -> None:
    """What it prints on import and in its hooks goes to stderr, and stdout holds one JSON document."""
    loud = (
        announced("greet")
        .replace("from ctxblocks", "print('loading')\nfrom ctxblocks")
        .replace("    return", "    print('hook')\n    return")
    )
    install("loud", "a = t_loud", t_loud=loud)
    entries = tmp_path / "loud-1.0.dist-info" / "entry_points.txt"
    entries.write_text(f"[{GROUP}]\na = t_loud\n[ctxblocks]\na = t_loud\n")
    run = shell(["layers", "--json"])
    assert json.loads(run.stdout)["failures"]["loud:a"].startswith("PluginError: ")
    assert run.stderr == "loading\nhook\n"
