"""Disentanglement, completeness, informativeness (Eastwood and Williams 2018, https://openreview.net/forum?id=By-7dz-AZ)."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from vaekit.devices import cores
from vaekit.metrics.disentanglement.points import Advance, Points

TREES = 100  # rounds of boosting, scikit-learn's default, as in Locatello et al. 2019


def dci(points: Points, advance: Advance) -> tuple[np.ndarray, np.ndarray]:
    """What boosted trees make of the codes, factor by factor: how much each dimension matters to them, [D, F], each
    column a distribution, and their accuracy on test points, [F].

    `advance` gets the trees as they grow, `trees` in all. They take nearly all the time that the scores cost, so
    factors are learnt side by side, on as many cores as torch has threads; how many changes no number.
    """
    from sklearn.ensemble import GradientBoostingClassifier

    codes, interrupted = points.codes.astype(np.float32), threading.Event()

    def learnt(j: int) -> tuple[np.ndarray, float]:
        taught, asked = points.factors[points.train, j], points.factors[points.test, j]
        each = _grown(taught)

        def told(*_: Any) -> bool:
            advance(each)
            return interrupted.is_set()

        model = GradientBoostingClassifier(n_estimators=TREES, random_state=(points.seed + j) % 2**32)
        model.fit(codes[points.train], taught, monitor=told)
        return model.feature_importances_, model.score(codes[points.test], asked)

    order = sorted(range(points.factors.shape[1]), key=lambda j: -_grown(points.factors[points.train, j]))
    with ThreadPoolExecutor(
        min(torch.get_num_threads(), cores())
    ) as pool:  # a tree grows outside Python's lock
        try:
            found = dict(zip(order, pool.map(learnt, order), strict=True))
        except BaseException:
            interrupted.set()
            raise
    importance, accuracy = zip(*(found[j] for j in range(len(order))), strict=True)
    return np.stack(importance, axis=1), np.array(accuracy)


def trees(points: Points) -> int:
    """How many trees `dci` grows."""
    return TREES * sum(_grown(values[points.train]) for values in points.factors.T)


def _grown(values: np.ndarray) -> int:
    """Trees of one round of boosting: one a class, and of two classes one."""
    classes = len(np.unique(values))
    return 1 if classes == 2 else classes


def disentanglement(importance: np.ndarray) -> float:
    """How far each dimension matters to one factor alone: 1 - the entropy of its row over log F, by the row's weight."""
    return _purity(importance)


def completeness(importance: np.ndarray) -> float:
    """How far each factor needs one dimension alone: 1 - the entropy of its column over log D, by the column's weight."""
    return _purity(importance.T)


def _purity(rows: np.ndarray) -> float:
    """[n, m], m at least 2, entries from 0 -> a number between 0 and 1; 0 where nothing matters."""
    total = rows.sum(1, keepdims=True)
    p = rows / np.where(total > 0, total, 1.0)
    entropy = -(p * np.log(np.where(p > 0, p, 1.0))).sum(1) / np.log(rows.shape[1])
    whole = total.sum()
    return float(((1 - entropy) * total[:, 0]).sum() / whole) if whole > 0 else 0.0
