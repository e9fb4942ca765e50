"""Means, their standard errors and intervals."""

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from ctxblocks.runs.claims import Claim, all_hold
from ctxblocks.runs.statistics import Mean, mean_of, means_of, quantile


def test_means_and_their_errors() -> None:
    """The standard error has the sample's standard deviation; that of one sample is NaN, and is not printed."""
    values = np.array([[1.0, 4.0], [3.0, 4.0]])
    means = means_of(values)
    assert means.value.tolist() == [2.0, 4.0]
    assert means.error.tolist() == [1.0, 0.0]
    assert means.at(0) == Mean(2.0, 1.0, 2)
    assert str(means.at(0)) == "2 ± 1"
    single = means_of(values[:1])
    assert np.isnan(single.error).all()
    assert str(single.at(1)) == "4"
    assert str(Mean(math.nan, 1.0, 3)) == "–"


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=12))
@settings(deadline=None)
def test_intervals_are_those_of_the_t_test(values: list[float]) -> None:
    """A mean is above zero if scipy's two-sided t-test at 5 % says that it differs from zero, on that side."""
    mean = mean_of(np.array(values))
    if mean.error < 1e-9:
        assert mean.above_zero == (mean.value > mean.margin)
        return
    low, high = stats.t.interval(0.95, len(values) - 1, loc=mean.value, scale=mean.error)
    assert mean.value - mean.margin == pytest.approx(low, abs=1e-9)
    assert mean.value + mean.margin == pytest.approx(high, abs=1e-9)
    if abs(low) > 1e-9:
        assert mean.above_zero == (low > 0)


def test_few_samples_need_more_than_two_standard_errors() -> None:
    """Of two samples 12.7, of five 2.78, of many 1.96; of one sample nothing is known."""
    assert [round(quantile(n), 2) for n in (2, 5, 100_000)] == [12.71, 2.78, 1.96]
    assert Mean(3.0, 1.0, 2).above_zero is False
    assert Mean(3.0, 1.0, 5).above_zero is True
    assert Mean(3.0, math.nan, 1).above_zero is None
    assert math.isnan(Mean(3.0).margin)


def test_a_mean_that_is_no_number_is_above_nothing() -> None:
    """Losses that diverged give no verdict in their favour."""
    assert mean_of(np.array([math.nan, 1.0])).above_zero is False


def test_differences() -> None:
    """Errors add in quadrature, and the smaller sample counts."""
    assert Mean(5.0, 3.0, 7) - Mean(1.0, 4.0, 3) == Mean(4.0, 5.0, 3)


def test_verdicts_in_words() -> None:
    """Three of them."""
    claims = [Claim(about="a", statement="", criterion="", measured="", holds=each) for each in (True, False, None)]
    assert [claim.verdict for claim in claims] == ["holds", "does not hold", "not measured"]


@pytest.mark.parametrize(
    ("parts", "whole"),
    [([True, True], True), ([True, None], None), ([None, False], False), ([], None)],
)
def test_a_verdict_on_several_parts(parts: list[bool | None], whole: bool | None) -> None:
    """One that fails decides; one that is missing leaves it open."""
    assert all_hold(parts) is whole
