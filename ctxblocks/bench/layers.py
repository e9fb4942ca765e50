"""A layer variant at one length: what can be afforded, then time and work of it, side by side."""

from contextlib import AbstractContextManager

import attrs
import torch

from ctxblocks.base.memory import memory_errors
from ctxblocks.bench.budget import Budget, estimate, loop_estimate, rungs
from ctxblocks.bench.config import WAY_OUT, context_of
from ctxblocks.bench.counting import Work, count_work
from ctxblocks.bench.records import FUNCTIONS, Bound, Ceilings, Measurement, Row
from ctxblocks.bench.statistics import Timing
from ctxblocks.bench.subject import Subject
from ctxblocks.bench.timing import Call, Stopwatch, Timed
from ctxblocks.exactness.dtypes import MISSING


@attrs.frozen(kw_only=True)
class Bench:
    """What every measurement is made with.

    Attributes:
        device: where.
        stopwatch: for times.
        budget: how long a function may take.
        ceilings: of the machine.
    """

    device: torch.device
    stopwatch: Stopwatch
    budget: Budget
    ceilings: Ceilings

    def measure(self, subject: Subject, length: int) -> Row:
        """Every function of the subject at that length.

        Raises:
            OutOfMemoryError: an allocation was refused.
        """
        calls = subject.calls(length)
        found = {name: subject.missing(name) for name in FUNCTIONS}
        timed: dict[str, Timed] = {}
        works: dict[str, Work] = {}
        for name in [name for name in FUNCTIONS if name in calls]:
            with self._guarded(subject, length, name):
                found[name] = self._foresee(subject, name, length)
                if found[name].status == "measured":
                    calls[name]()
                    works[name] = count_work(calls[name], self.device)
                    timed[name] = _timed(calls[name], self.stopwatch.clock(calls[name]), self.budget)
        with self._guarded(subject, length, "loop"):
            found["loop"] = self._foresee_loop(subject, length)
        if found["loop"].status == "measured":
            timed["loop"] = _timed(subject.loop(length), found["loop"].estimate or 0.0, self.budget.of_loop())
        with self._guarded(subject, length, "functions"):
            times = self.stopwatch.interleave(timed)
        for name, time in times.items():
            subject.seconds.setdefault(name, {})[length] = time.median
            found[name] = self._complete(found[name], time, works.get(name))
        return Row(
            layer=subject.variant.spec.name,
            variant=subject.variant.label,
            options=dict(subject.variant.options),
            length=length,
            functions=found,
        )

    def _foresee(self, subject: Subject, name: str, length: int) -> Measurement:
        """Whether calls of that length are affordable, by shorter ones that are made where too few have been."""
        seconds = subject.seconds.setdefault(name, {})
        for rung in rungs(length):
            if seconds and not self.budget.probes(seconds, rung):
                continue
            lack = _probe(subject.calls(rung)[name], self.stopwatch, seconds, rung)
            if lack is not None:
                return Measurement(status="not available", note=lack)
        return _verdict(estimate(seconds, length), "shorter contexts", self.budget)

    def _foresee_loop(self, subject: Subject, length: int) -> Measurement:
        """The same for the loop, by calls on a few of its prefixes."""
        samples: dict[int, float] = {}
        for start in sorted({0, length // 4, length // 2, length}):
            lack = _probe(subject.single(start), self.stopwatch, samples, start)
            if lack is not None:
                return Measurement(status="not available", note=lack)
        return _verdict(loop_estimate(samples), "a few prefixes", self.budget.of_loop())

    def _complete(self, foreseen: Measurement, time: Timing, work: Work | None) -> Measurement:
        """The measurement with its numbers."""
        bound = None if work is None else bound_of(work, time.median, self.ceilings)
        return attrs.evolve(foreseen, time=time, work=work, bound=bound)

    def _guarded(self, subject: Subject, length: int, what: str) -> AbstractContextManager[None]:
        return memory_errors(self.device, context_of(length, subject.layer.width, what), WAY_OUT)


def _verdict(seconds: float, by: str, budget: Budget) -> Measurement:
    """To be measured, or not affordable."""
    if budget.affords(seconds):
        return Measurement(status="measured", estimate=seconds)
    note = f"about {seconds:.3g} s a call by {by}, where {budget.seconds:g} s are given to all repeats"
    return Measurement(status="not affordable", note=note, estimate=seconds)


def _timed(call: Call, seconds: float, budget: Budget) -> Timed:
    """The call with as many repeats, of as many calls each, as its seconds allow."""
    return Timed(call=call, repeats=budget.repeats_of(seconds), calls=budget.calls_of(seconds))


def bound_of(work: Work, seconds: float, ceilings: Ceilings) -> Bound:
    """The least time for that work, and its share in the time that it took."""
    operations, transfers = work.flops / ceilings.flops, work.moved / ceilings.bandwidth
    least = max(operations, transfers)
    return Bound(seconds=least, by="operations" if operations > transfers else "bytes", share=least / seconds)


def _probe(call: Call, stopwatch: Stopwatch, seconds: dict[int, float], length: int) -> str | None:
    """Call twice and keep the second call's time; what torch says where an operation is missing, else None."""
    try:
        call()
    except (RuntimeError, NotImplementedError) as error:
        if MISSING not in str(error):
            raise
        return str(error)
    seconds[length] = max(stopwatch.clock(call), 1e-9)
    return None
