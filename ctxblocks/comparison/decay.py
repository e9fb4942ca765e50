"""The decay of a quantity over tokens: the exponent of a power law, with a bootstrap interval over tasks."""

import dataclasses

import numpy as np

from ctxblocks.base.errors import ArgumentError
from ctxblocks.runs.statistics import Array

RESAMPLES = 1000
"""Sets of tasks that the bootstrap draws."""
SUFFIXES = ("", "-low", "-high")
"""Of the rows of a table that hold an exponent, and the ends of its 95 % interval."""


@dataclasses.dataclass(frozen=True)
class Decay:
    """`‖(ΔW)_i‖ ∼ i^(−exponent)`.

    Attributes:
        exponent: of the mean over tasks, by least squares of logarithms; 1 for averaging, 0 for a change that does not fall.
        low: lower end of the interval.
        high: upper end.
        level: the share of resampled sets of tasks whose exponents are in the interval.
    """

    exponent: float
    low: float
    high: float
    level: float


def decay_exponent(
    changes: Array,  # (tasks, n): of token i = 1 … n
    start: int = 2,
    level: float = 0.95,
    seed: int = 0,
) -> Decay:
    """Fit a power law to the mean marginal change of tokens `start … n`, with a percentile bootstrap interval over tasks.

    Raises:
        ArgumentError: there are fewer than two tasks or fewer than three tokens from `start` on, or changes are not positive.
    """
    values = np.asarray(changes, dtype=np.float64)
    if values.ndim != 2 or len(values) < 2 or values.shape[1] - start + 1 < 3:
        raise ArgumentError(
            f"changes: got shape {values.shape} from token {start} on, needs (tasks, n) with at least 2 tasks and 3 tokens"
        )
    if not 0 < level < 1:
        raise ArgumentError(f"level: got {level}, needs a share between 0 and 1")
    part = values[:, start - 1 :]
    if not (part.mean(0) > 0).all() or not np.isfinite(part).all():
        raise ArgumentError("changes: got zeros or infinities, needs positive ones; take a block whose weights move")
    places = np.log(np.arange(start, values.shape[1] + 1))
    chosen = np.random.default_rng(seed).integers(len(part), size=(RESAMPLES, len(part)))
    slopes = _slopes(places, part[chosen].mean(1))
    low, high = np.quantile(slopes, [(1 - level) / 2, (1 + level) / 2])
    return Decay(float(_slopes(places, part.mean(0)[None])[0]), float(low), float(high), level)


def exponents(
    name: str,
    changes: Array,  # (tasks, n)
) -> dict[str, float]:
    """The exponent of that name and the ends of its 95 % interval; NaN where the weights do not change."""
    try:
        decay = decay_exponent(changes)
        values = (decay.exponent, decay.low, decay.high)
    except ArgumentError:
        values = (float("nan"),) * 3
    return {f"{name}{suffix}": value for suffix, value in zip(SUFFIXES, values, strict=True)}


def _slopes(
    places: Array,  # (n,)
    means: Array,  # (sets, n)
) -> Array:  # (sets,)
    """Minus the slope of `log means` over the places."""
    centred = places - places.mean()
    logs = np.log(np.maximum(means, np.finfo(np.float64).tiny))
    slopes: Array = -(logs @ centred) / (centred @ centred)
    return slopes
