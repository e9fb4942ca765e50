"""Measuring a layer variant at one length: estimates, then time and work of the functions that fit the budget."""

from contextlib import AbstractContextManager

import attrs
import torch

from ctxblocks.base.memory import memory_errors
from ctxblocks.bench.budget import Budget, estimate, loop_estimate, trial_lengths
from ctxblocks.bench.config import WAY_OUT, context_of
from ctxblocks.bench.counting import Work, count_work
from ctxblocks.bench.records import FUNCTIONS, Bound, Ceilings, Measurement, Row
from ctxblocks.bench.statistics import Timing
from ctxblocks.bench.subject import Subject
from ctxblocks.bench.timing import Call, Stopwatch, Timed
from ctxblocks.exactness.dtypes import MISSING


@attrs.frozen(kw_only=True)
class Bench:
    """The instruments of all measurements.

    Attributes:
        device: the device.
        stopwatch: measures times.
        budget: limits the time of a measurement.
        ceilings: peak rates of the machine.
    """

    device: torch.device
    stopwatch: Stopwatch
    budget: Budget
    ceilings: Ceilings

    def measure(self, subject: Subject, length: int) -> Row:
        """Measure every function of the subject at this length.

        Raises:
            OutOfMemoryError: an allocation failed.
        """
        calls = subject.calls(length)
        functions = {name: subject.missing(name) for name in FUNCTIONS}
        timed: dict[str, Timed] = {}
        works: dict[str, Work] = {}
        for name in [name for name in FUNCTIONS if name in calls]:
            with self._guarded(subject, length, name):
                functions[name] = self._foresee(subject, name, length)
                if functions[name].status == "measured":
                    calls[name]()
                    works[name] = count_work(calls[name], self.device)
                    timed[name] = _timed(calls[name], self.stopwatch.clock(calls[name]), self.budget)
        with self._guarded(subject, length, "loop"):
            functions["loop"] = self._foresee_loop(subject, length)
        if functions["loop"].status == "measured":
            timed["loop"] = _timed(subject.loop(length), functions["loop"].estimate or 0.0, self.budget.of_loop())
        with self._guarded(subject, length, "functions"):
            times = self.stopwatch.interleave(timed)
        for name, time in times.items():
            subject.seconds.setdefault(name, {})[length] = time.median
            functions[name] = self._complete(functions[name], time, works.get(name))
        return Row(
            layer=subject.variant.spec.name,
            variant=subject.variant.label,
            options=dict(subject.variant.options),
            length=length,
            functions=functions,
        )

    def _foresee(self, subject: Subject, name: str, length: int) -> Measurement:
        """Whether calls at this length fit the budget, estimated from shorter ones; trial calls are made if there are too few."""
        seconds = subject.seconds.setdefault(name, {})
        for shorter in trial_lengths(length):
            if seconds and not self.budget.allows_trial(seconds, shorter):
                continue
            lack = _trial_call(subject.calls(shorter)[name], self.stopwatch, seconds, shorter)
            if lack is not None:
                return Measurement(status="not available", note=lack)
        return _verdict(estimate(seconds, length), "shorter contexts", self.budget)

    def _foresee_loop(self, subject: Subject, length: int) -> Measurement:
        """Whether the loop fits the budget, estimated from calls on a few of its prefixes."""
        samples: dict[int, float] = {}
        for start in sorted({0, length // 4, length // 2, length}):
            lack = _trial_call(subject.single(start), self.stopwatch, samples, start)
            if lack is not None:
                return Measurement(status="not available", note=lack)
        return _verdict(loop_estimate(samples), "a few prefixes", self.budget.of_loop())

    def _complete(self, foreseen: Measurement, time: Timing, work: Work | None) -> Measurement:
        """The measurement with time, work and bound."""
        bound = None if work is None else bound_of(work, time.median, self.ceilings)
        return attrs.evolve(foreseen, time=time, work=work, bound=bound)

    def _guarded(self, subject: Subject, length: int, what: str) -> AbstractContextManager[None]:
        return memory_errors(self.device, context_of(length, subject.layer.width, what), WAY_OUT)


def _verdict(seconds: float, by: str, budget: Budget) -> Measurement:
    """A measurement that is to be made, or one that is not affordable, with the reason."""
    if budget.affords(seconds):
        return Measurement(status="measured", estimate=seconds)
    note = f"about {seconds:.3g} s a call, estimated from {by}; the budget of all repeats is {budget.seconds:g} s"
    return Measurement(status="not affordable", note=note, estimate=seconds)


def _timed(call: Call, seconds: float, budget: Budget) -> Timed:
    """The call with the repeats and calls per repeat that the budget allows if one call takes `seconds`."""
    return Timed(call=call, repeats=budget.repeats_of(seconds), calls=budget.calls_of(seconds))


def bound_of(work: Work, seconds: float, ceilings: Ceilings) -> Bound:
    """The least time for this work, and its ratio to the measured time."""
    operations, transfers = work.flops / ceilings.flops, work.moved / ceilings.bandwidth
    least = max(operations, transfers)
    return Bound(seconds=least, by="operations" if operations > transfers else "bytes", share=least / seconds)


def _trial_call(call: Call, stopwatch: Stopwatch, seconds: dict[int, float], length: int) -> str | None:
    """Call twice and store the time of the second call; returns torch's message if an operation is missing, else None."""
    try:
        call()
    except (RuntimeError, NotImplementedError) as error:
        if MISSING not in str(error):
            raise
        return str(error)
    seconds[length] = max(stopwatch.clock(call), 1e-9)
    return None
