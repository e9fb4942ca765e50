"""Medians with quartiles, and exponents."""

import math
import statistics
from collections.abc import Mapping, Sequence

import attrs


@attrs.frozen(kw_only=True)
class Timing:
    """How long a call takes, from interleaved repeats.

    Attributes:
        median: of the repeats, in seconds.
        lower: their lower quartile, in seconds.
        upper: their upper quartile, in seconds.
        repeats: how many there were, warm-up left out.
        calls: made in a row in each of them, the time being that of one.
        foreign: the share of the machine's processors that other processes used meanwhile, 0 … 1.
    """

    median: float
    lower: float
    upper: float
    repeats: int
    calls: int
    foreign: float


def timing(seconds: Sequence[float], calls: int, foreign: float) -> Timing:
    """The summary of at least one repeat."""
    lower, median, upper = quartiles(seconds)
    return Timing(
        median=median,
        lower=lower,
        upper=upper,
        repeats=len(seconds),
        calls=calls,
        foreign=foreign,
    )


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile, interpolated between the values."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
    return lower, median, upper


def exponent(shorter: tuple[int, float], longer: tuple[int, float]) -> float:
    """`p` of `t ∝ nᵖ` through two pairs `(n, t)`."""
    return math.log(longer[1] / shorter[1]) / math.log(longer[0] / shorter[0])


def growth(seconds: Mapping[int, float]) -> float | None:
    """The exponent between the shortest and the longest length of `{n: t}`; None where there are not two."""
    if len(seconds) < 2:
        return None
    first, last = min(seconds), max(seconds)
    return exponent((first, seconds[first]), (last, seconds[last]))
