"""Budgets of time: which calls are measured, and the estimate of a call's time from shorter contexts."""

import itertools
import math
from collections.abc import Mapping

import attrs

from ctxblocks.bench.statistics import exponent

STEEPEST = 3.0
"""The largest exponent that an estimate assumes: that of a loop over the prefixes of quadratic attention."""
TRIAL_RATIO = 4
"""The ratio of consecutive trial lengths."""
SHORTEST = 16
"""Tokens of the shortest trial call, if the requested length is much larger."""


@attrs.frozen(kw_only=True)
class Budget:
    """The time that the measurement of one function at one length may take.

    Attributes:
        seconds: seconds for all repeats.
        repeats: number of repeats; None chooses it by the time of a call.
        most: the largest number of repeats chosen.
        least: the smallest number of repeats chosen.
        unhurried: seconds for all repeats above which fewer than `most` are chosen.
        shortest: least seconds of a repeat, which consists of several calls if necessary: the first call after another
            function is slower, because the caches and the allocator have served that function.
    """

    seconds: float = 12.0
    repeats: int | None = None
    most: int = 9
    least: int = 3
    unhurried: float = 2.0
    shortest: float = 0.03

    def affords(self, call: float) -> bool:
        """Whether the smallest number of repeats, of `call` seconds each, fits the budget."""
        return call * (self.least if self.repeats is None else self.repeats) <= self.seconds

    def repeats_of(self, call: float) -> int:
        """The number of repeats of a call that takes `call` seconds."""
        if self.repeats is not None:
            return self.repeats
        return max(self.least, min(self.most, int(self.unhurried / max(call, 1e-9))))

    def of_loop(self) -> "Budget":
        """The budget of the loop over prefixes, which may take longer and needs one repeat only, since it averages many calls."""
        return attrs.evolve(self, seconds=1.25 * self.seconds, least=1, unhurried=self.seconds / 4)

    def calls_of(self, call: float) -> int:
        """The number of calls in one repeat, if a call takes `call` seconds."""
        return max(1, math.ceil(self.shortest / max(call, 1e-9)))

    def allows_trial(self, seconds: Mapping[int, float], length: int) -> bool:
        """Whether a trial call at this length should be made for an estimate, given the times `{n: t}` of shorter ones.

        The second trial may take the whole budget. A further one may take a twentieth of it, and is made only if the length
        is at least `TRIAL_RATIO` times the longest so far.
        """
        known = max(seconds)
        if length <= known or (len(seconds) > 1 and length < TRIAL_RATIO * known):
            return False
        return estimate(seconds, length) * (20 if len(seconds) > 1 else 1) <= self.seconds


def trial_lengths(length: int) -> list[int]:
    """The trial lengths below a length: successive quarters from `SHORTEST` tokens, or a quarter and a half."""
    lengths = [length // TRIAL_RATIO**power for power in (4, 3, 2, 1)]
    long_enough = [shorter for shorter in lengths if shorter >= SHORTEST]
    return long_enough if len(long_enough) > 1 else sorted({max(1, length // 4), max(1, length // 2)})


def estimate(seconds: Mapping[int, float], length: int) -> float:
    """Seconds at a length, from those at shorter lengths `{n: t}`, by the power law through the two longest.

    The exponent is at least 1 and at most `STEEPEST`; from one length alone it is 2.
    """
    known = sorted(n for n in seconds if n < length)
    last = known[-1]
    power = 2.0
    if len(known) > 1:
        power = exponent((known[-2], seconds[known[-2]]), (last, seconds[last]))
    return float(seconds[last] * (length / last) ** min(STEEPEST, max(1.0, power)))


def loop_estimate(samples: Mapping[int, float]) -> float:
    """Seconds of the calls on all prefixes, by the trapezoidal rule from a few `{i: t}` that include the first and last."""
    known = sorted(samples)
    pairs = itertools.pairwise(known)
    between = sum((after - before) * (samples[before] + samples[after]) / 2 for before, after in pairs)
    return between + samples[known[-1]]
