"""Interleaved timing: every round calls all functions, so that a slow period affects all of them alike."""

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import attrs
import torch

from ctxblocks.bench.load import Load, UsageSource, between, share_of
from ctxblocks.bench.statistics import Timing, timing

Call = Callable[[], object]
Clock = Callable[[Call], float]
"""Calls a function and returns the seconds that it took."""


@attrs.frozen(kw_only=True)
class Timed:
    """A function to be timed.

    Attributes:
        call: the function.
        repeats: number of rounds in which it is called.
        calls: consecutive calls in each round.
    """

    call: Call
    repeats: int
    calls: int = 1


@attrs.frozen(kw_only=True)
class Stopwatch:
    """Measures the times of functions, and repeats rounds that other processes disturbed.

    Attributes:
        clock: the clock of the device.
        usage: reads the counters of processor time.
        processors: number of processors of the machine.
        threads: number of threads that compute; other processes may use the remaining processors without disturbing them.
        disturbed: the share of foreign load, in addition to the remaining processors, from which a round is repeated.
        retries: the largest number of repetitions of a round.
        patience: seconds of repetitions in one `interleave` after which no round is repeated any more.
    """

    clock: Clock
    usage: UsageSource
    processors: int
    threads: int
    disturbed: float = 0.1
    retries: int = 2
    patience: float = 15.0

    def interleave(self, functions: Mapping[str, Timed]) -> dict[str, Timing]:
        """Time all functions in rounds.

        A round that other processes disturbed is repeated; of all attempts, the one with the least foreign load is used.
        """
        seconds: dict[str, list[float]] = {name: [] for name in functions}
        loads: dict[str, list[Load]] = {name: [] for name in functions}
        patience, spare = self.patience, max(0.0, 1 - self.threads / self.processors)
        for number in range(max((timed.repeats for timed in functions.values()), default=0)):
            active = {name: timed for name, timed in functions.items() if timed.repeats > number}
            best = last = self._round(active)
            for _ in range(self.retries):
                if share_of([last.load]) < self.disturbed + spare or patience <= 0:
                    break
                last = self._round(active)
                patience -= last.load.room / self.processors
                best = min(best, last, key=lambda attempt: share_of([attempt.load]))
            for name, value in best.seconds.items():
                seconds[name].append(value)
                loads[name].append(best.load)
        return {name: timing(seconds[name], timed.calls, share_of(loads[name])) for name, timed in functions.items()}

    def _round(self, functions: Mapping[str, Timed]) -> "_Round":
        before = self.usage()
        seconds = {name: self.clock(_repeated(timed)) / timed.calls for name, timed in functions.items()}
        return _Round(between(before, self.usage(), self.processors), seconds)


class _Round(NamedTuple):
    """One repeat of every function: the foreign load, and the seconds of a call of each function."""

    load: Load
    seconds: dict[str, float]


def _repeated(timed: Timed) -> Call:
    if timed.calls == 1:
        return timed.call

    def several() -> None:
        for _ in range(timed.calls):
            timed.call()

    return several


def cpu_clock(call: Call) -> float:
    """Wall-clock seconds."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def cuda_clock(call: Call) -> float:
    """Seconds between two events on the current CUDA stream, after all earlier work has finished."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1000


def clock_of(device: torch.device) -> Clock:
    """The clock for a device."""
    return cuda_clock if device.type == "cuda" else cpu_clock
