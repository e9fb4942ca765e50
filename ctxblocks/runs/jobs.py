"""Jobs side by side, each on one thread in a separate process: what they report streams in, and a process that dies is named."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import attrs

from ctxblocks.base.errors import CtxblocksError
from ctxblocks.base.threads import one_thread
from ctxblocks.validators import at_least, integer_at_least

Report = Callable[[object], None]
"""What a job calls with everything that it reports; the object has to be picklable."""
QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Where Linux states how much processor time a container gets."""


@attrs.frozen
class Job:
    """One piece of work.

    Attributes:
        name: in error messages.
        work: a picklable function of a `Report`; its result has to be picklable too.
    """

    name: str
    work: Callable[[Report], Any]


@attrs.frozen
class Outcome:
    """How a job ended.

    Attributes:
        job: which one.
        result: what its function returned; None after an error.
        error: what it raised, or that its process died.
    """

    job: Job
    result: Any = None
    error: CtxblocksError | OSError | None = None


def processors() -> int:
    """How many processors this process may use: by its affinity and by the quota of its container."""
    affine = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    limit, _, period = QUOTA.read_text().partition(" ") if QUOTA.exists() else ("max", "", "")
    return affine if limit == "max" else max(1, min(affine, -(-int(limit) // int(period))))


def workers_of(workers: int | None) -> int:
    """The number of workers asked for; by default one for each processor.

    Raises:
        ArgumentError: it is below 1.
    """
    if workers is None:
        return processors()
    at_least(1, advice="leave it out for one per processor").check("workers", workers)
    integer_at_least(1).check("workers", workers)
    return int(workers)


def run_jobs(jobs: Sequence[Job], workers: int, report: Report) -> Iterator[Outcome]:
    """Run all jobs and give their outcomes as they end; closing the iterator ends those that still run.

    Args:
        jobs: taken up in this order.
        workers: processes side by side; 1 works in this process, which then shares the fate of its jobs.
        report: called, in this process, with everything that a job reports, as soon as it reports it.
    """
    if workers == 1:
        yield from (_run(job, report) for job in jobs)
    else:
        yield from _Pool(jobs, workers, report).run()


def _run(job: Job, report: Report) -> Outcome:
    """One job, on one thread, so that the order of its sums never changes."""
    try:
        with one_thread():
            return Outcome(job, job.work(report))
    except (CtxblocksError, OSError) as error:
        return Outcome(job, error=error)


@attrs.define
class _Worker:
    """A process, our end of its pipe, and the job that it works on."""

    process: multiprocessing.process.BaseProcess
    pipe: Connection
    job: Job

    def give(self, job: Job) -> None:
        """Hand it a job; a broken pipe shows when its answer is read."""
        self.job = job
        try:
            self.pipe.send(job)
        except BrokenPipeError:
            return

    def death(self) -> CtxblocksError:
        """The error for a process that ended before its job did."""
        self.process.join()
        return CtxblocksError(
            f"worker for {self.job.name}: ended with exit code {self.process.exitcode} before it was done; "
            f"run the same command again to resume from what it has saved"
        )


class _Pool:
    """Workers that take one job after another; one that dies is replaced."""

    def __init__(self, jobs: Sequence[Job], workers: int, report: Report) -> None:
        self.waiting, self.limit, self.report = list(jobs), workers, report
        self.running: list[_Worker] = []

    def run(self) -> Iterator[Outcome]:
        try:
            while self.waiting or self.running:
                while self.waiting and len(self.running) < self.limit:
                    self.running.append(_start(self.waiting.pop(0)))
                ready = wait([worker.pipe for worker in self.running])
                for worker in [worker for worker in self.running if worker.pipe in ready]:
                    outcome = self.receive(worker)
                    if outcome is not None:
                        yield outcome
        finally:
            for worker in self.running:
                worker.process.terminate()
                worker.process.join()

    def receive(self, worker: _Worker) -> Outcome | None:
        """One message: something reported, or the job's outcome."""
        try:
            message = worker.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.running.remove(worker)
            return Outcome(worker.job, error=worker.death())
        if not isinstance(message, Outcome):
            self.report(message)
            return None
        if self.waiting:
            worker.give(self.waiting.pop(0))
        else:
            worker.pipe.close()
            worker.process.join()
            self.running.remove(worker)
        return message


def _start(job: Job) -> _Worker:
    """A fresh process, which inherits nothing of this one, at its first job."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    worker = _Worker(process, ours, job)
    worker.give(job)
    return worker


def _work(pipe: Connection) -> None:
    """The loop of a worker. It ends when the parent closes the pipe, or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted, and ends its workers
    try:
        while True:
            pipe.send(_run(pipe.recv(), pipe.send))
    except (EOFError, ConnectionError):
        return
