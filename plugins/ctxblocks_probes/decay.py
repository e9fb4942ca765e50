"""How fast the marginal change falls: the exponent of a power law, with an interval from the tasks themselves."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from ctxblocks import ArgumentError

RESAMPLES = 1000


@dataclasses.dataclass(frozen=True)
class Decay:
    """`‖(ΔW)_i‖ ∼ i^(−exponent)`.

    Attributes:
        exponent: of the mean over tasks, by least squares of logarithms; 1 is averaging, 0 a change that does not fall.
        low: lower end of the interval.
        high: upper end.
        level: the share of resampled sets of tasks whose exponents lie in the interval.
    """

    exponent: float
    low: float
    high: float
    level: float


def decay_exponent(
    changes: NDArray[np.float64],  # (tasks, n): of token i = 1 … n
    start: int = 2,
    level: float = 0.95,
    seed: int = 0,
) -> Decay:
    """Fit the mean marginal change of tokens `start … n`; the interval is the percentile bootstrap's over tasks.

    Raises:
        ArgumentError: there are fewer than two tasks, fewer than three tokens from `start` on, or changes that are not positive.
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


def _slopes(
    places: NDArray[np.float64],  # (n,)
    means: NDArray[np.float64],  # (sets, n)
) -> NDArray[np.float64]:  # (sets,)
    """Minus the slope of `log means` over the places."""
    centred = places - places.mean()
    logs = np.log(np.maximum(means, np.finfo(np.float64).tiny))
    found: NDArray[np.float64] = -(logs @ centred) / (centred @ centred)
    return found
