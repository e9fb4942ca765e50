"""How the command line fails: one line, and the exit code that says why."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli.test_cli import shell

from ctxblocks.cli import main
from ctxblocks.registration.plugins import installed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "layer",
            "ctxblocks: got 'layer', needs one of the commands layers, verify, reproduce, bench, compare, report, explain, "
            "export, trace; did you mean 'layers'?",
        ),
        (
            "--bogus",
            "ctxblocks: got '--bogus', needs one of the commands layers, verify, reproduce, bench, compare, report, explain,",
        ),
        ("layers --bogus", "Unknown option: --bogus. See ctxblocks layers --help."),
        ("layers --device tpu", 'Invalid value "tpu" for --device. Choose from: "auto", "cpu", "cuda".'),
        ("layers --seed x", "Invalid value for --seed: got 'x', needs an integer from 0 to 2**64 - 1"),
        ("layers --seed", 'Command "layers" parameter --seed requires an argument. See ctxblocks layers --help.'),
        ("layers extra", "Unused Tokens: ['extra']. See ctxblocks layers --help."),
    ],
)
def test_a_wrong_command_line_is_one_line(arguments: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, the message on stderr, nothing on stdout."""
    assert main(arguments.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1


def test_an_error_of_ctxblocks_is_one_line() -> None:
    """So is what the package itself refuses, here a list of blocked plugins."""
    result = shell(["layers"], CTXBLOCKS_BLOCK="nobody")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: CTXBLOCKS_BLOCK: got 'nobody', needs names of installed plugins: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(("redirection", "code"), [("> /dev/full", 2), (">&-", 2), ("| true", 1)])
@pytest.mark.parametrize("arguments", ["layers --json", "layers", "--help"])
def test_output_that_cannot_be_written(arguments: str, redirection: str, code: int, tmp_path: Path) -> None:
    """A full disk and a closed stdout are reported in one line; a pipe that its reader has closed, as `head` does, is not."""
    script = tmp_path / "run.py"
    script.write_text("import sys, time; time.sleep(0.2); from ctxblocks.cli import main; sys.exit(main())\n")
    command = f"{sys.executable} {script} {arguments} {redirection}; exit ${{PIPESTATUS[0]}}"
    environment = {
        **os.environ,
        "PYTHONUNBUFFERED": "",
        "CTXBLOCKS_BLOCK": ",".join(installed()),
    }  # a short, late write
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment)
    message = {"> /dev/full": "[Errno 28] No space left on device", ">&-": "ctxblocks: stdout is closed, needs some"}
    assert result.returncode == code
    assert result.stderr.startswith(f"error: {message[redirection]}" if code == 2 else "")
    assert result.stderr.count("\n") == (1 if code == 2 else 0)
