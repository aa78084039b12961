"""The beta-VAE score (Higgins et al. 2017, https://openreview.net/forum?id=Sy2fzU9gl, section 3)."""

from __future__ import annotations

import warnings

import numpy as np

from vaekit.metrics.disentanglement.points import BATCH, TEST, TRAIN, Advance, Points


def betavae(points: Points, advance: Advance) -> float:
    """How often a linear classifier tells which factor 64 pairs share, from the mean of |z1 - z2| over the pairs.

    Logistic regression with scikit-learn's own penalty (C = 1), fitted on 10,000 such means and judged on 5,000. An
    entangled code can read 1 as well: to be linearly separable is little to ask.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    draws = np.random.default_rng([points.seed, 2])
    n_factors = points.factors.shape[1]
    sets = []
    for n in (TRAIN, TEST):
        fixed = draws.integers(n_factors, size=n)
        gaps = np.empty((n, points.codes.shape[1]))
        for factor in range(n_factors):
            at = np.flatnonzero(fixed == factor)
            for some in np.array_split(at, max(1, len(at) // 500)):
                one = draws.integers(len(points.codes), size=(len(some), BATCH))
                other = points.sharing(factor, one, draws)
                gaps[some] = np.abs(points.codes[one] - points.codes[other]).mean(1)
                advance(len(some))
        sets.append((gaps, fixed))
    (train, taught), (test, asked) = sets
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the protocol stops at 100 iterations
        return float(LogisticRegression().fit(train, taught).score(test, asked))
