"""The mean and its standard error, once for all runs."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
LEVEL = 0.95
"""Confidence level, two-sided, at which a difference counts."""


class Mean(NamedTuple):
    """A mean over samples, or a number without an error.

    Attributes:
        value: the mean.
        error: its standard error `s / √n`, with the sample's standard deviation `s` (`n − 1` in its denominator); NaN where
            there is only one sample.
        samples: `n`, how many values the mean was taken over.
    """

    value: float
    error: float = math.nan
    samples: int = 1

    def __str__(self) -> str:
        """`mean ± standard error` with three digits and one; without an error the mean alone, and – where there is no number."""
        if not math.isfinite(self.value):
            return "–"
        return f"{self.value:.3g} ± {self.error:.1g}" if math.isfinite(self.error) else f"{self.value:.3g}"

    def __sub__(self, other: "Mean") -> "Mean":
        """The difference of two independent means; the smaller sample decides the degrees of freedom."""
        error = math.hypot(self.error, other.error)
        return Mean(self.value - other.value, error, min(self.samples, other.samples))

    @property
    def margin(self) -> float:
        """Half the width of the 95 % confidence interval, `t(n − 1)` standard errors by Student's t; NaN of one sample."""
        return quantile(self.samples) * self.error if self.samples > 1 else math.nan

    @property
    def above_zero(self) -> bool | None:
        """Whether the whole 95 % confidence interval lies above zero; None of one sample, which has no interval."""
        return None if self.samples < 2 else bool(self.value > self.margin)


class Means(NamedTuple):
    """Means over the same samples, each with its standard error; see `Mean`."""

    value: Array
    error: Array
    samples: int

    def at(self, *index: int) -> Mean:
        """A single one of them."""
        return Mean(float(self.value[index]), float(self.error[index]), self.samples)


def means_of(
    values: Array,  # (samples, …)
) -> Means:  # (…)
    """The means over the first dimension; NaN stands for the error of one sample."""
    samples = len(values)
    error = values.std(axis=0, ddof=1) / np.sqrt(samples) if samples > 1 else np.full(values.shape[1:], np.nan)
    return Means(np.asarray(values.mean(axis=0)), np.asarray(error), samples)


def mean_of(
    values: Array,  # (samples,)
) -> Mean:
    """The mean of a single quantity."""
    return means_of(values).at()


def quantile(samples: int) -> float:
    """`t(0.975, n − 1)`: how many standard errors of a mean over `n` samples its 95 % confidence interval reaches."""
    from scipy import stats

    return float(stats.t.ppf((1 + LEVEL) / 2, samples - 1))
