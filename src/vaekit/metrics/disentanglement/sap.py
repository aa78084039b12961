"""The separated attribute predictability (Kumar et al. 2018, https://arxiv.org/abs/1711.00848, section 3)."""

from __future__ import annotations

import warnings

import numpy as np

from vaekit.metrics.disentanglement.points import Advance, Points


def sap(points: Points, advance: Advance) -> np.ndarray:
    """How well each dimension alone tells each factor: the accuracy of a linear classifier on test points, [D, F].

    A support vector machine with C = 0.01 and balanced classes (Locatello et al. 2019). `gaps` makes the score of it.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    n_codes, n_factors = points.codes.shape[1], points.factors.shape[1]
    accuracy = np.zeros((n_codes, n_factors))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for j in range(n_factors):
            taught, asked = points.factors[points.train, j], points.factors[points.test, j]
            for i in range(n_codes):
                code = points.codes[:, i : i + 1]
                # the primal problem has one unknown here: the same optimum, without a number for each point
                model = LinearSVC(C=0.01, class_weight="balanced", dual=False)
                accuracy[i, j] = model.fit(code[points.train], taught).score(code[points.test], asked)
                advance(1)
    return accuracy


def gaps(accuracy: np.ndarray) -> np.ndarray:
    """By how much the best dimension is ahead of the next, factor by factor: [D, F] -> [F]. The score is their mean; its
    greatest value is below 1, for one number hardly separates many values linearly."""
    first, second = np.sort(accuracy, axis=0)[::-1][:2]
    return first - second
