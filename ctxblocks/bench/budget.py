"""What can be afforded: a call's time at a length, estimated from shorter ones, against a budget of seconds."""

import itertools
import math
from collections.abc import Mapping

import attrs

from ctxblocks.bench.statistics import exponent

STEEPEST = 3.0
"""The fastest growth that an estimate assumes: a loop over prefixes of quadratic attention."""
RUNG = 4
"""Between one probed length and the next."""
SHORTEST = 16
"""Tokens of the shortest probe, where the length asked for is far longer."""


@attrs.frozen(kw_only=True)
class Budget:
    """How long one function may be measured at one length.

    Attributes:
        seconds: for all its calls.
        repeats: of each function; None leaves it to the time that a call takes.
        most: repeats of a short call, where they are left to it.
        least: repeats of a long one.
        unhurried: seconds for all repeats, from which on there are fewer than the most.
        shortest: seconds that a repeat should last, made of several calls if need be: the first one after another
            function finds its tensors neither in the cache nor in the allocator's hands.
    """

    seconds: float = 12.0
    repeats: int | None = None
    most: int = 9
    least: int = 3
    unhurried: float = 2.0
    shortest: float = 0.03

    def affords(self, call: float) -> bool:
        """Whether calls of so many seconds fit, in the fewest repeats allowed."""
        return call * (self.least if self.repeats is None else self.repeats) <= self.seconds

    def repeats_of(self, call: float) -> int:
        """Repeats of a call of so many seconds."""
        if self.repeats is not None:
            return self.repeats
        return max(self.least, min(self.most, int(self.unhurried / max(call, 1e-9))))

    def of_loop(self) -> "Budget":
        """The budget of the loop, which is a mean over many calls already: one repeat may do, and may take longer."""
        return attrs.evolve(self, seconds=1.25 * self.seconds, least=1, unhurried=self.seconds / 4)

    def calls_of(self, call: float) -> int:
        """Calls of so many seconds that make one repeat."""
        return max(1, math.ceil(self.shortest / max(call, 1e-9)))

    def probes(self, seconds: Mapping[int, float], length: int) -> bool:
        """Whether a call of that length is worth its time for an estimate alone, where `{n: t}` is known.

        A second point is worth the whole budget, a further one a twentieth, and only where it leads well beyond.
        """
        known = max(seconds)
        if length <= known or (len(seconds) > 1 and length < RUNG * known):
            return False
        return estimate(seconds, length) * (20 if len(seconds) > 1 else 1) <= self.seconds


def rungs(length: int) -> list[int]:
    """Shorter lengths to probe on the way to a length: quarters of quarters, at least two where there are two."""
    lengths = [length // RUNG**power for power in (4, 3, 2, 1)]
    long_enough = [rung for rung in lengths if rung >= SHORTEST]
    return long_enough if len(long_enough) > 1 else sorted({max(1, length // 4), max(1, length // 2)})


def estimate(seconds: Mapping[int, float], length: int) -> float:
    """Seconds at a length from those at shorter ones `{n: t}`: the power law of the two longest, at least linear.

    One length alone is taken to grow with the square.
    """
    known = sorted(n for n in seconds if n < length)
    last = known[-1]
    power = 2.0
    if len(known) > 1:
        power = exponent((known[-2], seconds[known[-2]]), (last, seconds[last]))
    return float(seconds[last] * (length / last) ** min(STEEPEST, max(1.0, power)))


def loop_estimate(samples: Mapping[int, float]) -> float:
    """Seconds of one call on every prefix from those of a few `{i: t}`, the first and the last among them: trapezoids."""
    known = sorted(samples)
    pairs = itertools.pairwise(known)
    between = sum((after - before) * (samples[before] + samples[after]) / 2 for before, after in pairs)
    return between + samples[known[-1]]
