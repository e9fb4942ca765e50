"""`run.json`: read as it was written, and refused where it is something else."""

import json
from pathlib import Path

import pytest

from ctxblocks import ArgumentError
from ctxblocks.runs.document import Kind, command_line

KIND = Kind("song", 3)


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Preceded by format and kind."""
    KIND.write(tmp_path, {"configuration": {"a": 1}, "ü": [1, 2]})
    assert list(json.loads((tmp_path / "run.json").read_text("utf-8"))) == ["format", "kind", "configuration", "ü"]
    assert KIND.read(tmp_path) == {"format": 3, "kind": "song", "configuration": {"a": 1}, "ü": [1, 2]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"run\.json: is not that of a whole song \(JSONDecodeError\)"),
        ("[]", r"is not that of a whole song \(TypeError\)"),
        ("{}", r"is not that of a whole song \(KeyError\)"),
        ('{"kind": "dance", "format": 3}', "is a dance of format 3, needs a song of format 3; give another folder"),
        ('{"kind": "song", "format": 2}', "is a song of format 2, needs a song of format 3; give another folder"),
        ('{"kind": "song", "format": 3}', r"is not that of a whole song \(KeyError\)"),
        (
            '{"kind": "song", "format": 3, "configuration": {"a": 1, "b": [], "c": 0}}',
            r"holds a song of another configuration \(it differs in a: 1 there, 2 here, b\), needs a folder without a run, or",
        ),
    ],
)
def test_other_folders_are_refused(content: str, message: str, tmp_path: Path) -> None:
    """With what is wrong, and what to do; a long setting is named without its values."""
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ArgumentError, match=message):
        KIND.check_folder(tmp_path, {"a": 2, "b": ["long"] * 20, "c": 0})


def test_folders_that_pass(tmp_path: Path) -> None:
    """One without a run, and one with the same configuration."""
    KIND.check_folder(tmp_path, {"a": 2})
    KIND.write(tmp_path, {"configuration": {"a": 2}})
    KIND.check_folder(tmp_path, {"a": 2})


def test_command_lines() -> None:
    """Arguments, options of one and of several values, and none."""
    options = {"learning_rate": 0.1, "layers": ("a", "b"), "probes": ()}
    assert command_line("sing", (2, 3), options) == "ctxblocks sing 2 3 --learning-rate 0.1 --layers a b"
