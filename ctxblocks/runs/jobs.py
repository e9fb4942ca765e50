"""One job per model, each on one thread in a process of its own, side by side."""

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from pathlib import Path

import attrs
import pyarrow as pa

from ctxblocks.base.errors import CtxblocksError
from ctxblocks.base.threads import one_thread
from ctxblocks.experiments.measurements import measure
from ctxblocks.experiments.presets import Configuration, ModelConfig
from ctxblocks.experiments.training import Report, train

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
    with one_thread():
        training = train(config, model, checkpoints / f"{model.name}.safetensors", report)
        return measure(config, model, training)


def _report_to(progress: Progress, model: ModelConfig) -> Report:
    return lambda step: progress(model.name, step, model.steps)


@attrs.define
class _Worker:
    """A process, our end of its pipe, and the model that it works on."""

    process: multiprocessing.process.BaseProcess
    pipe: Connection
    model: ModelConfig

    def ask(self, model: ModelConfig) -> None:
        """Give it a model to work on."""
        self.model = model
        try:
            self.pipe.send(model)
        except BrokenPipeError:
            raise self.died() from None

    def died(self) -> CtxblocksError:
        """What to raise when nobody is at the other end."""
        self.process.join()
        return CtxblocksError(
            f"worker for {self.model.name}: ended with exit code {self.process.exitcode} before it was done; "
            f"run the same command again to go on from its last checkpoint"
        )


class _Pool:
    """Workers that take one model after another; the last models, which take longest, first."""

    def __init__(self, config: Configuration, checkpoints: Path, workers: int, progress: Progress) -> None:
        self.config, self.checkpoints, self.limit, self.progress = config, checkpoints, workers, progress
        self.waiting = list(config.models)
        self.running: list[_Worker] = []
        self.tables: dict[str, pa.Table] = {}

    def run(self) -> list[pa.Table]:
        """The tables of all models, in the order of the configuration."""
        try:
            while self.waiting and len(self.running) < self.limit:
                self.running.append(self.start(self.waiting.pop()))
            while self.running:
                ready = wait([worker.pipe for worker in self.running])
                for worker in [worker for worker in self.running if worker.pipe in ready]:
                    self.receive(worker)
        finally:
            for worker in self.running:
                worker.process.terminate()
                worker.process.join()
        return [self.tables[model.name] for model in self.config.models]

    def start(self, model: ModelConfig) -> _Worker:
        """A fresh process, which inherits nothing of this one, at its first model."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, self.config, self.checkpoints), daemon=True)
        process.start()
        theirs.close()
        worker = _Worker(process, ours, model)
        worker.ask(model)
        return worker

    def receive(self, worker: _Worker) -> None:
        """One message: a step, the table, or an error."""
        try:
            message = worker.pipe.recv()
        except (EOFError, ConnectionResetError):
            raise worker.died() from None
        if isinstance(message, int):
            self.progress(worker.model.name, message, worker.model.steps)
        elif isinstance(message, Exception):
            raise message
        else:
            self.tables[worker.model.name] = message
            self.carry_on(worker)

    def carry_on(self, worker: _Worker) -> None:
        """Give the worker its next model, or let it go."""
        if self.waiting:
            worker.ask(self.waiting.pop())
            return
        worker.pipe.close()
        worker.process.join()
        self.running.remove(worker)


def _work(pipe: Connection, config: Configuration, checkpoints: Path) -> None:
    """What a worker does, until there is nobody left to ask: a parent that is gone closes the pipe, and ends the worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted, and ends its workers
    try:
        while True:
            pipe.send(run_job(config, pipe.recv(), checkpoints, pipe.send))
    except (EOFError, ConnectionError):
        return
    except (CtxblocksError, OSError) as error:
        pipe.send(error)
