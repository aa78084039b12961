"""Mutual information of discrete variables, from a table of counts; codes become discrete by a histogram."""

from __future__ import annotations

import numpy as np

BINS = 20  # of equal width from a code's least to its greatest value (Locatello et al. 2019)


def discretised(codes: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Codes [N, D] -> the number of their bin, int64 [N, D] in 0..bins-1, dimension by dimension.

    Bins have equal width, from the least to the greatest code; a dimension that does not vary is in bin 0.
    """
    low, high = codes.min(0), codes.max(0)
    wide = np.where(high > low, high - low, 1.0)
    return ((codes - low) / wide * bins).astype(np.int64).clip(0, bins - 1)


def counts(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How often each pair of values comes: a, b int [N], from 0 -> int64 [max a + 1, max b + 1]."""
    shape = int(a.max()) + 1, int(b.max()) + 1
    return np.bincount(np.ravel_multi_index((a, b), shape), minlength=shape[0] * shape[1]).reshape(shape)


def entropy(a: np.ndarray) -> float:
    """Of the empirical distribution of a, int [N] from 0; nats."""
    p = np.bincount(a) / len(a)
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def mutual_information(a: np.ndarray, b: np.ndarray) -> float:
    """I(a; b) of the empirical joint distribution of int [N], from 0; nats.

    Biased upwards: of N independent pairs with A and B values it reads (A - 1)(B - 1) / 2N in expectation, to first
    order (Miller 1955), which for 20 bins, 40 values and 10,000 points is 0.037.
    """
    joint = counts(a, b) / len(a)
    apart = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    there = joint > 0
    return float((joint[there] * np.log(joint[there] / apart[there])).sum())


def matrix(codes: np.ndarray, factors: np.ndarray, bins: int = BINS) -> np.ndarray:
    """I(code i; factor j) of codes [N, D] in `bins` bins and factors int [N, F], from 0 -> float64 [D, F], nats."""
    binned = discretised(codes, bins)
    return np.array([[mutual_information(code, factor) for factor in factors.T] for code in binned.T])
