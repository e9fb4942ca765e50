"""The command line: commands are named here and imported on use, so that `--help` loads neither torch nor a plugin."""

import io
import os
import sys
from collections.abc import Sequence

import cyclopts

import ctxblocks
from ctxblocks.base.errors import CtxblocksError
from ctxblocks.base.messages import closest, listed

COMMANDS = {
    "layers": "Every registered layer with its provider, traits and parameters, and the plugins that failed.",
    "verify": "Check on every layer, block and dtype that a context equals its update of the weights.",
    "reproduce": "Train, verify and draw the paper's figures with their controls, and write a run and its report.",
    "bench": "Measure time and memory of all prefixes beside one forward pass, layer by layer.",
    "compare": "Train layers at matched sizes on the same tasks, and measure what contexts do to their weights.",
    "report": "Write one HTML page of one run or several, which needs nothing beside itself.",
    "trace": "Measure what every token of a prompt does to the weights of every block of a language model.",
    "explain": "Print wiring, readers, shapes and formulas of a language model, layer by layer.",
    "export": "Write what a prompt does to a language model's weights as a LoRA adapter.",
}
"""The commands with their one line of help. Command `x` is the function `x` of the module `ctxblocks.cli.x`."""


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code.

    What the user can mend (a wrong option, an unknown layer, a full disk) is one line on stderr and exit code 2;
    an interrupt is 130. A command's own code passes through, 1 being "it ran, and the answer is no".
    """
    if sys.stdout is None:
        return _fail("ctxblocks: stdout is closed, needs somewhere to print; send it to /dev/null instead")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal without the letter δ gets its escape
    try:
        code = app(sys.argv[1:] if arguments is None else list(arguments))
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        return 1  # the reader of the pipe has left, as `head` does; nobody is there to be told
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
        print("error: interrupted", file=sys.stderr)
        return 130
    return code if isinstance(code, int) else 0


def _fail(problem: Exception | str) -> int:
    """Say in one line what is wrong."""
    print("error:", " ".join(str(problem).split()), file=sys.stderr)
    return 2


def _unknown(error: cyclopts.UnknownCommandError) -> str:
    """The message for a command that does not exist; cyclopts would import every command to find a similar one."""
    asked = (error.unused_tokens or [""])[0]
    return f"ctxblocks: got {asked!r}, needs one of the commands {listed(COMMANDS)}{closest(asked, COMMANDS)}"


def _discard_output() -> None:
    """Send what is still buffered for stdout nowhere, so that the interpreter does not fail on it again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
