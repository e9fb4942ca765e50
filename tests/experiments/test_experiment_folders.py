"""Runs that are refused or fail: foreign folders, folders that cannot be written, workers that die."""

import os
from pathlib import Path

import attrs
import pytest
from small_experiments import small_configuration

from ctxblocks.base.errors import ArgumentError, CtxblocksError
from ctxblocks.experiments import Configuration, Record, reproduce
from ctxblocks.runs.files import write_bytes

Finished = tuple[Path, Record]


def test_another_configurations_run_is_refused(finished: Finished, configuration: Configuration) -> None:
    """The message says what differs, and nothing is touched."""
    folder, _ = finished
    before = (folder / "run.json").read_bytes()
    with pytest.raises(
        ArgumentError,
        match=r"holds a reproduction .*\(it differs in seed: 0 there, 1 here, tasks: 8 there, 9 here\).*--out",
    ):
        reproduce(attrs.evolve(configuration, seed=1, tasks=9), folder)
    assert (folder / "run.json").read_bytes() == before


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"configuration": {"preset": 1}}'])
def test_a_foreign_run_json_is_refused(content: str, configuration: Configuration, tmp_path: Path) -> None:
    """What cannot be read as a reproduction's is left as it is."""
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(
        ArgumentError, match=r"run\.json: is not that of a whole reproduction .*give another folder with --out"
    ):
        reproduce(configuration, tmp_path)
    assert (tmp_path / "run.json").read_text() == content


def test_a_folder_that_cannot_be_written_is_refused(configuration: Configuration, tmp_path: Path) -> None:
    """Here one below a file."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ArgumentError, match=r"needs a folder that can be written \(Not a directory\)"):
        reproduce(configuration, tmp_path / "file" / "run")


def test_no_workers_are_refused(configuration: Configuration, tmp_path: Path) -> None:
    """At least one."""
    with pytest.raises(ArgumentError, match="workers: got 0, needs at least 1"):
        reproduce(configuration, tmp_path, workers=0)


def die(*arguments: object) -> None:
    """What a worker does that runs out of memory."""
    os._exit(3)


def test_a_worker_that_dies_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named, and so is the way out."""
    monkeypatch.setattr("ctxblocks.runs.jobs._work", die)
    with pytest.raises(
        CtxblocksError, match=r"worker for (pre|post)-norm-stack: ended with exit code 3 .*run the same command again"
    ):
        reproduce(small_configuration(5), tmp_path, workers=2)


def test_an_error_in_a_worker_arrives(tmp_path: Path) -> None:
    """What a model's configuration refuses is raised here, as it was there."""
    config = small_configuration(5)
    wrong = tuple(attrs.evolve(model, options={"heads": 3}) for model in config.models)
    with pytest.raises(ArgumentError, match="heads: got 3 for width 8"):
        reproduce(attrs.evolve(config, models=wrong), tmp_path, workers=2)


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If writing fails the old file stays, and no other."""
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
