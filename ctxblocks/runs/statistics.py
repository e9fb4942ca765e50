"""The few statistics that figures and claims share."""

from typing import NamedTuple

import numpy as np

from ctxblocks.experiments.metrics import Array


class Mean(NamedTuple):
    """A mean over tasks and its standard error.

    Attributes:
        value: the mean.
        error: the standard error of the mean.
    """

    value: Array
    error: Array

    def __str__(self) -> str:
        """`mean ± SE`, of a single mean."""
        return f"{float(self.value):.3g} ± {float(self.error):.1g}"

    @property
    def above_zero(self) -> bool:
        """Whether a single mean is more than two standard errors above zero."""
        return bool(self.value > 2 * self.error)


def mean_over_tasks(
    values: Array,  # (tasks, …)
) -> Mean:  # (…)
    """The mean over the first dimension, with its standard error; that of one task is infinite."""
    tasks = len(values)
    error = values.std(axis=0, ddof=1) / np.sqrt(tasks) if tasks > 1 else np.full(values.shape[1:], np.inf)
    return Mean(np.asarray(values.mean(axis=0)), np.asarray(error))


def decay(
    values: Array,  # (tasks, n)
) -> float:
    """The mean over the first ten tokens divided by that over the last ten; of a short prompt, its two halves."""
    count = max(1, min(10, values.shape[-1] // 2))
    return float(values[:, :count].mean() / values[:, -count:].mean())
