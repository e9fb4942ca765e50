"""Times of several functions, side by side: each round calls every one of them, so that a slow minute hits all alike."""

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import attrs
import torch

from ctxblocks.bench.load import Load, Reader, between, share_of
from ctxblocks.bench.statistics import Timing, timing

Call = Callable[[], object]
Clock = Callable[[Call], float]
"""Calls a function and says how many seconds it took."""


@attrs.frozen(kw_only=True)
class Timed:
    """A function to be timed.

    Attributes:
        call: it.
        repeats: in how many rounds it takes part.
        calls: how many in a row make one repeat.
    """

    call: Call
    repeats: int
    calls: int = 1


@attrs.frozen(kw_only=True)
class Stopwatch:
    """What times are taken with.

    Attributes:
        clock: of the device.
        usage: reads the processors' counters.
        processors: of the machine.
        threads: that compute; the processors that they leave free may be used by others without disturbing them.
        disturbed: the share of foreign load, beyond those, from which a round is made again.
        retries: how often at most.
        patience: seconds after which no further round of one `interleave` is made again.
    """

    clock: Clock
    usage: Reader
    processors: int
    threads: int
    disturbed: float = 0.1
    retries: int = 2
    patience: float = 15.0

    def interleave(self, functions: Mapping[str, Timed]) -> dict[str, Timing]:
        """Every function's time, from rounds over all of them.

        A round in which others used the machine is made again; of all attempts the least disturbed one counts.
        """
        seconds: dict[str, list[float]] = {name: [] for name in functions}
        loads: dict[str, list[Load]] = {name: [] for name in functions}
        patience, spare = self.patience, max(0.0, 1 - self.threads / self.processors)
        for number in range(max((timed.repeats for timed in functions.values()), default=0)):
            taking_part = {name: timed for name, timed in functions.items() if timed.repeats > number}
            best = last = self._round(taking_part)
            for _ in range(self.retries):
                if share_of([last.load]) < self.disturbed + spare or patience <= 0:
                    break
                last = self._round(taking_part)
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
    """One repeat of every function: what others did meanwhile, and seconds of a call."""

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
    """Seconds on the wall's clock."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def cuda_clock(call: Call) -> float:
    """Seconds between two events on the GPU's current stream, all earlier work finished."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1000


def clock_of(device: torch.device) -> Clock:
    """The clock that fits the device."""
    return cuda_clock if device.type == "cuda" else cpu_clock
