"""One job per model, each on one thread in a process of its own, side by side."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from pathlib import Path

import attrs
import pyarrow as pa
import torch

from ctxblocks._errors import CtxblocksError
from ctxblocks.experiments._measurements import measure
from ctxblocks.experiments._presets import Configuration, ModelConfig
from ctxblocks.experiments._training import Report, train

Progress = Callable[[str, int, int], None]
"""Told a model's name, the steps taken and the steps in all."""


def run_jobs(config: Configuration, checkpoints: Path, workers: int, progress: Progress) -> pa.Table:
    """Train and measure every model; the numbers do not depend on how many workers there are.

    Args:
        config: of the run.
        checkpoints: the folder for them.
        workers: processes side by side; 1 works in this process.
        progress: told of every step.

    Raises:
        CtxblocksError: a worker died.
    """
    if workers == 1 or len(config.models) == 1:
        tables = [run_job(config, model, checkpoints, _report_to(progress, model)) for model in config.models]
        return pa.concat_tables(tables)
    return pa.concat_tables(_Pool(config, checkpoints, workers, progress).run())


def run_job(config: Configuration, model: ModelConfig, checkpoints: Path, report: Report) -> pa.Table:
    """Train one model and measure it, on one thread, so that the order of its sums never changes."""
    with _one_thread():
        training = train(config, model, checkpoints / f"{model.name}.safetensors", report)
        return measure(config, model, training)


def _report_to(progress: Progress, model: ModelConfig) -> Report:
    return lambda step: progress(model.name, step, model.steps)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@attrs.define
class _Worker:
    """A process and our end of its pipe."""

    model: ModelConfig
    process: multiprocessing.process.BaseProcess
    pipe: Connection


class _Pool:
    """At most so many workers at a time; the last models, which take longest, first."""

    def __init__(self, config: Configuration, checkpoints: Path, workers: int, progress: Progress) -> None:
        self.config, self.checkpoints, self.limit, self.progress = config, checkpoints, workers, progress
        self.running: list[_Worker] = []
        self.tables: dict[str, pa.Table] = {}

    def run(self) -> list[pa.Table]:
        """The tables of all models, in the order of the configuration."""
        waiting = list(self.config.models)
        try:
            while waiting or self.running:
                while waiting and len(self.running) < self.limit:
                    self.running.append(self.start(waiting.pop()))
                ready = wait([worker.pipe for worker in self.running])
                for worker in [worker for worker in self.running if worker.pipe in ready]:
                    self.receive(worker)
        finally:
            for worker in self.running:
                worker.process.terminate()
                worker.process.join()
        return [self.tables[model.name] for model in self.config.models]

    def start(self, model: ModelConfig) -> _Worker:
        """A fresh process: nothing of this one is inherited."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(theirs, self.config, model, self.checkpoints), daemon=True)
        process.start()
        theirs.close()
        return _Worker(model, process, ours)

    def receive(self, worker: _Worker) -> None:
        """One message: a step, the table, or an error."""
        try:
            message = worker.pipe.recv()
        except EOFError:
            worker.process.join()
            raise CtxblocksError(
                f"worker for {worker.model.name}: ended with exit code {worker.process.exitcode} before it was done; "
                f"run the same command again to go on from its last checkpoint"
            ) from None
        if isinstance(message, int):
            self.progress(worker.model.name, message, worker.model.steps)
            return
        if isinstance(message, Exception):
            raise message
        self.tables[worker.model.name] = message
        worker.process.join()
        self.running.remove(worker)


def _work(pipe: Connection, config: Configuration, model: ModelConfig, checkpoints: Path) -> None:
    """What a worker does. A parent that is gone breaks the pipe, and ends the worker with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted, and ends its workers
    try:
        pipe.send(run_job(config, model, checkpoints, pipe.send))
    except BrokenPipeError:
        return
    except (CtxblocksError, OSError) as error:
        pipe.send(error)
