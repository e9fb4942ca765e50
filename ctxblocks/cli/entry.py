"""The entry point `ctxblocks`: commands are named here and imported when they are called."""

import functools
import io
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import cyclopts

import ctxblocks
from ctxblocks.base.errors import CtxblocksError
from ctxblocks.base.messages import closest, listed

if TYPE_CHECKING:
    from ctxblocks.registration.commands import CommandSpec

COMMANDS = {
    "layers": "List all registered layers with their providers, traits and parameters, and the plugins that failed.",
    "verify": "Check for every layer, block and dtype that a context equals its update of the weights.",
    "reproduce": "Train, verify and draw the paper's figures with their controls, and write a run and its report.",
    "bench": "Measure time and memory of all prefixes relative to one forward pass, layer by layer.",
    "compare": "Train layers at matched sizes on the same tasks, and measure the effect of contexts on their weights.",
    "report": "Write one self-contained HTML page of one or several runs.",
}
"""The commands of the core with their line of help. Command `x` is the function `x` of the module `ctxblocks.cli.x`."""


def _version() -> str:
    return str(ctxblocks.__version__)


app = cyclopts.App(
    name="ctxblocks",
    help="Contexts as exact rank-one updates of a network's weights.",
    help_format="plaintext",
    version=_version,
    print_error=False,
    exit_on_error=False,
    suppress_keyboard_interrupt=False,
    result_action="return_value",
)
for _name, _help in COMMANDS.items():
    app.command(f"ctxblocks.cli.{_name}:{_name}", name=_name, help=_help)


@functools.cache
def plugin_commands() -> "dict[str, CommandSpec]":
    """The commands of plugins by name, added to the app; problems are reported on stderr."""
    from ctxblocks.registration.installed import installed_commands

    specs, problems = installed_commands(COMMANDS)
    for spec in specs.values():
        app.command(spec.function, name=spec.name, help=spec.summary)
    for problem in problems:
        _say(f"warning: {problem}")
    return specs


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code.

    What users can correct (a wrong option, an unknown layer, a full disk) is one line on stderr and exit code 2; an
    interrupt is 130. The return value of a command is its exit code: 1 if it ran and its answer is no.
    """
    if sys.stdout is None:
        return _fail("ctxblocks: stdout is closed, needs somewhere to print; send it to /dev/null instead")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal without the letter δ gets its escape
    try:
        code = _run(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        return 1  # the reader of the pipe has closed it, as `head` does
    except OSError as error:
        _discard_output()
        return _fail(error)
    except CtxblocksError as error:
        return _fail(error)
    except cyclopts.UnknownCommandError as error:
        return _fail(_unknown(error))
    except cyclopts.CycloptsError as error:
        return _fail(f"{error} See {' '.join(['ctxblocks', *(error.command_chain or ()), '--help'])}.")
    except KeyboardInterrupt:
        _say("error: interrupted")
        return 130
    return code if isinstance(code, int) else 0


def _run(arguments: list[str]) -> object:
    """Run one command; those of plugins are looked up only if no command of the core is named."""
    name = arguments[0] if arguments else ""
    if name not in COMMANDS and name != "--version" and name in plugin_commands():
        plugin_commands()[name].load()  # an error of its import is one line
    return app(arguments)


def _fail(problem: Exception | str) -> int:
    """Report an error in one line."""
    _say(f"error: {problem}")
    return 2


def _say(message: str) -> None:
    print(" ".join(message.split()), file=sys.stderr)


def _unknown(error: cyclopts.UnknownCommandError) -> str:
    """The message for a command that does not exist; cyclopts would import every command to find a similar one."""
    asked, known = (error.unused_tokens or [""])[0], (*COMMANDS, *plugin_commands())
    return f"ctxblocks: got {asked!r}, needs one of the commands {listed(known)}{closest(asked, known)}"


def _discard_output() -> None:
    """Send what is still buffered for stdout to /dev/null, so that the interpreter does not fail on it again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
