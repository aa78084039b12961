"""Mutual information by a histogram, against the cases whose answer is known."""

import math

import numpy as np
import pytest

from vaekit.metrics.disentanglement import information


def test_a_noisy_channel_tells_what_shannon_says():
    sent = np.repeat([0, 1], 1000)
    flipped = np.tile(np.arange(1000) < 110, 2)  # a binary symmetric channel that flips 11 % of the bits
    lost = -0.11 * math.log(0.11) - 0.89 * math.log(0.89)
    found = information.mutual_information(sent, np.where(flipped, 1 - sent, sent))
    assert found == pytest.approx(math.log(2) - lost, abs=1e-12)
    erased = np.where(
        np.tile(np.arange(1000) < 250, 2), 2, sent
    )  # an erasure channel keeps what is not erased
    assert information.mutual_information(sent, erased) == pytest.approx(0.75 * math.log(2), abs=1e-12)


def test_what_is_a_function_of_the_other_tells_its_own_entropy():
    a = np.random.default_rng(0).integers(0, 12, 5000)
    assert information.mutual_information(a, a % 3) == pytest.approx(information.entropy(a % 3), abs=1e-12)
    assert information.mutual_information(a % 3, a) == pytest.approx(information.entropy(a % 3), abs=1e-12)
    assert information.entropy(np.arange(40)) == pytest.approx(math.log(40), abs=1e-12)
    assert information.entropy(np.zeros(7, np.int64)) == 0
    assert information.mutual_information(a, np.zeros_like(a)) == pytest.approx(0, abs=1e-12)


def test_independent_values_tell_nothing_but_the_bias_that_is_stated():
    a, b = np.divmod(np.arange(20 * 40), 40)
    assert information.mutual_information(a, b) == pytest.approx(0, abs=1e-12)  # each pair as often
    draws, n = np.random.default_rng(0), 10_000
    found = [
        information.mutual_information(draws.integers(0, 20, n), draws.integers(0, 40, n)) for _ in range(30)
    ]
    assert np.mean(found) == pytest.approx(19 * 39 / (2 * n), rel=0.03)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9, -0.8])
def test_two_gaussians_tell_of_each_other_what_their_correlation_says(rho):
    x, noise = np.random.default_rng(1).normal(size=(2, 400_000))
    pair = np.stack([x, rho * x + math.sqrt(1 - rho**2) * noise], 1)
    truth = -0.5 * math.log(1 - rho**2)
    first, second = information.discretised(pair, 50).T
    # what falls into one bin is not told apart, less of it where there are more; the bias is 0.003
    assert information.mutual_information(first, second) == pytest.approx(truth, abs=0.015)
    first, second = information.discretised(pair, 5).T
    assert information.mutual_information(first, second) < max(0.9 * truth, 0.001)


def test_bins_are_of_equal_width_and_a_constant_is_in_one():
    codes = np.stack([np.linspace(-3, 7, 101), np.full(101, 2.5), np.linspace(0, 1, 101) ** 2], 1)
    bins = information.discretised(codes, 20)
    assert np.bincount(bins[:, 0]).tolist() == [5] * 19 + [6]  # the greatest code is in the last bin
    assert set(bins[:, 1]) == {0} and np.bincount(bins[:, 2])[0] > 20
    scaled = information.discretised(codes * [4, 0.5, 2] - [1, 0, 8], 20)
    assert np.array_equal(bins, scaled)


def test_it_is_scikit_learns():
    from sklearn.metrics import mutual_info_score

    draws = np.random.default_rng(2)
    factors = np.stack([draws.integers(0, 5, 3000), draws.integers(0, 9, 3000)], 1)
    codes = factors @ draws.normal(size=(2, 3)) + draws.normal(size=(3000, 3))
    found, bins = information.matrix(codes, factors), information.discretised(codes)
    assert found.shape == (3, 2)
    for i in range(3):
        for j in range(2):
            assert found[i, j] == pytest.approx(mutual_info_score(bins[:, i], factors[:, j]), abs=1e-10)
