"""Jobs in this process and in others: outcomes, reports as they happen, errors, and processes that die."""

import os
import time
from pathlib import Path

import attrs
import pytest

from ctxblocks import ArgumentError, CtxblocksError
from ctxblocks.runs import jobs
from ctxblocks.runs.jobs import Job, Report, processors, run_jobs, workers_of


@attrs.frozen
class Work:
    """Report some numbers, then do what the name says."""

    name: str
    reports: int = 1
    signal: Path | None = None

    def __call__(self, report: Report) -> str:
        for number in range(self.reports):
            report((self.name, number))
        if self.signal is not None:
            deadline = time.monotonic() + 60
            while not self.signal.exists():
                assert time.monotonic() < deadline
                time.sleep(0.01)
        if self.name == "refuse":
            raise ArgumentError("no")
        if self.name == "die":
            os._exit(3)
        return f"{self.name} is done"


def job(name: str, reports: int = 1, signal: Path | None = None) -> Job:
    return Job(name, Work(name, reports, signal))


@pytest.mark.parametrize("workers", [1, 2])
def test_every_job_has_its_outcome(workers: int) -> None:
    """With what it reported, and with what it raised."""
    heard: list[object] = []
    outcomes = list(run_jobs([job("a", 2), job("refuse"), job("b")], workers, heard.append))
    assert {outcome.job.name: outcome.result for outcome in outcomes} == {
        "a": "a is done",
        "refuse": None,
        "b": "b is done",
    }
    (error,) = [outcome.error for outcome in outcomes if outcome.error is not None]
    assert isinstance(error, ArgumentError)
    assert sorted(map(str, heard)) == ["('a', 0)", "('a', 1)", "('b', 0)", "('refuse', 0)"]


def test_what_a_job_reports_arrives_while_it_works(tmp_path: Path) -> None:
    """The job waits for a file that is written only when its report has arrived."""
    signal = tmp_path / "heard"
    outcomes = list(run_jobs([job("a", signal=signal), job("b")], 2, lambda event: signal.touch()))
    assert [outcome.error for outcome in outcomes] == [None, None]


def test_a_process_that_dies_is_named_and_the_other_jobs_finish() -> None:
    """Even if there are more jobs than processes left."""
    names = ["a", "die", "b", "die", "c"]
    outcomes = list(run_jobs([job(name) for name in names], 2, lambda event: None))
    assert sorted(outcome.job.name for outcome in outcomes) == sorted(names)
    for outcome in outcomes:
        if outcome.job.name == "die":
            assert isinstance(outcome.error, CtxblocksError)
            assert str(outcome.error).startswith(
                "worker for die: ended with exit code 3 before it was done; run the same"
            )
        else:
            assert outcome.result == f"{outcome.job.name} is done"


def test_closing_the_iterator_ends_the_processes(tmp_path: Path) -> None:
    """A job that would wait for ever does not outlive it."""
    outcomes = run_jobs([job("wait", signal=tmp_path / "never"), job("a")], 2, lambda event: None)
    assert next(outcomes).job.name == "a"
    outcomes.close()  # type: ignore[attr-defined]
    import multiprocessing

    assert not [process for process in multiprocessing.active_children() if process.is_alive()]


def test_processors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's quota counts, rounded up; without one it is the affinity's."""
    quota = tmp_path / "cpu.max"
    monkeypatch.setattr(jobs, "QUOTA", quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert processors() == workers_of(None) == 8
    for content, number in (
        ("max 100000\n", 8),
        ("150000 100000\n", 2),
        ("50000 100000\n", 1),
        ("3200000 100000\n", 8),
    ):
        quota.write_text(content)
        assert processors() == number
    assert workers_of(3) == 3
    with pytest.raises(ArgumentError, match="workers: got 0, needs at least 1; leave it out for one per processor"):
        workers_of(0)
