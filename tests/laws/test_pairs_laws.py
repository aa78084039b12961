"""Paired differences: the interval covers the truth as often as it says, and pairing takes out what rows share."""

import numpy as np
import pytest

from vaekit.report.pairs import paired


def test_the_interval_holds_the_true_difference_in_95_of_100_cases():
    rng, n, repeats, truth = np.random.default_rng(0), 200, 4000, 0.3
    hard = rng.gamma(2, 20, (repeats, n))  # what makes a row hard for both is far larger than the difference
    a, b = hard + truth + rng.normal(0, 1, (repeats, n)), hard + rng.normal(0, 1, (repeats, n))
    pairs = [paired(x, y) for x, y in zip(a, b, strict=True)]
    held = np.mean([abs(pair.mean - truth) <= pair.half for pair in pairs])
    assert held == pytest.approx(0.95, abs=4 * np.sqrt(0.95 * 0.05 / repeats))
    assert np.mean([pair.half for pair in pairs]) == pytest.approx(1.96 * np.sqrt(2 / n), rel=0.02)


def test_it_is_the_mean_difference_with_its_standard_error():
    from scipy import stats

    a, b = np.random.default_rng(1).normal(size=(2, 50))
    pair = paired(a, b)
    low, high = stats.norm.interval(0.95, loc=(a - b).mean(), scale=stats.sem(a - b))
    assert (pair.mean - pair.half, pair.mean + pair.half) == pytest.approx((low, high), abs=1e-4)
    other = paired(b, a)
    assert (other.mean, other.half, other.below) == pytest.approx((-pair.mean, pair.half, 1 - pair.below))
    assert pair.n == 50


def test_equal_rows_are_no_difference_and_a_constant_one_is_sure():
    x = np.arange(10.0)
    even = paired(x, x)
    assert (even.mean, even.half, even.below, even.sure) == (0, 0, 0.5, False)
    assert paired(x + 1, x).sure and paired(x + 1, x).below == 0
