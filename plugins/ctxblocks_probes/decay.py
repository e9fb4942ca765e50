"""How fast the marginal change falls: the exponent of a power law, with a bootstrap interval over tasks."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from ctxblocks import ArgumentError

RESAMPLES = 1000
"""Number of bootstrap samples."""


@dataclasses.dataclass(frozen=True)
class Decay:
    """`‖(ΔW)_i‖ ∼ i^(−exponent)`.

    Attributes:
        exponent: of the mean over tasks, by least squares on a log–log scale; an average over tokens has 1, a constant
            change 0.
        low: lower end of the bootstrap interval.
        high: upper end of the bootstrap interval.
        level: the share of bootstrap samples whose exponent lies in the interval, such as 0.95.
    """

    exponent: float
    low: float
    high: float
    level: float


def decay_exponent(
    changes: NDArray[np.float64],  # (tasks, n): the change of token i = 1 … n
    start: int = 2,
    level: float = 0.95,
    seed: int = 0,
) -> Decay:
    """Fit a power law to the mean marginal change of tokens `start … n`, with a percentile bootstrap interval over tasks.

    Raises:
        ArgumentError: there are fewer than two tasks or fewer than three tokens from `start` on, a mean change is not
            positive, or `level` is not between 0 and 1.
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
        raise ArgumentError("changes: got zeros or infinities, needs positive ones; use a block whose weights change")
    logs = np.log(np.arange(start, values.shape[1] + 1))
    samples = np.random.default_rng(seed).integers(len(part), size=(RESAMPLES, len(part)))
    exponents = _exponents(logs, part[samples].mean(1))
    low, high = np.quantile(exponents, [(1 - level) / 2, (1 + level) / 2])
    return Decay(float(_exponents(logs, part.mean(0)[None])[0]), float(low), float(high), level)


def _exponents(
    logs: NDArray[np.float64],  # (n,): log i
    means: NDArray[np.float64],  # (samples, n)
) -> NDArray[np.float64]:  # (samples,)
    """Minus the slope of the regression of `log means` on `log i`."""
    centred = logs - logs.mean()
    log_means = np.log(np.maximum(means, np.finfo(np.float64).tiny))
    exponents: NDArray[np.float64] = -(log_means @ centred) / (centred @ centred)
    return exponents
