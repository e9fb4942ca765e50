"""Medians with quartiles, and exponents of growth."""

import math
from collections.abc import Mapping, Sequence

import attrs
import numpy as np


@attrs.frozen(kw_only=True)
class Timing:
    """The time of a call, from interleaved repeats.

    Attributes:
        median: median of the repeats, in seconds.
        lower: lower quartile of the repeats, in seconds.
        upper: upper quartile of the repeats, in seconds.
        repeats: number of repeats, without warm-up.
        calls: consecutive calls in each repeat; all times are those of one call.
        foreign: share of the machine's processor time that other processes used meanwhile, from 0 to 1.
    """

    median: float
    lower: float
    upper: float
    repeats: int
    calls: int
    foreign: float


def timing(seconds: Sequence[float], calls: int, foreign: float) -> Timing:
    """The summary of at least one repeat, with quartiles interpolated between the repeats."""
    lower, median, upper = np.quantile(seconds, (0.25, 0.5, 0.75)).tolist()
    return Timing(median=median, lower=lower, upper=upper, repeats=len(seconds), calls=calls, foreign=foreign)


def exponent(shorter: tuple[int, float], longer: tuple[int, float]) -> float:
    """`p` of `t ∝ nᵖ` through two pairs `(n, t)`."""
    return math.log(longer[1] / shorter[1]) / math.log(longer[0] / shorter[0])


def overall_exponent(seconds: Mapping[int, float]) -> float | None:
    """The exponent between the shortest and the longest length of `{n: t}`; None if there is only one length."""
    if len(seconds) < 2:
        return None
    first, last = min(seconds), max(seconds)
    return exponent((first, seconds[first]), (last, seconds[last]))
