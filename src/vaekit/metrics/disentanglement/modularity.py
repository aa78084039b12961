"""Modularity (Ridgeway and Mozer 2018, https://arxiv.org/abs/1802.05312, section 3)."""

from __future__ import annotations

import numpy as np


def modularity(information: np.ndarray) -> np.ndarray:
    """How far each dimension is from telling of one factor alone, [D], 1 where it tells of no other.

    1 - sum over the other factors of I^2 / (I_max^2 (F - 1)), of `information` [D, F] with F at least 2; 0 where there
    is none at all. The score is the mean over dimensions. How much a dimension tells does not count: one of pure noise,
    whose estimates of information are biased most for the factor with most values, reads high.
    """
    squares = np.square(information)
    most = squares.max(1)
    others = (squares.sum(1) - most) / (np.where(most > 0, most, 1.0) * (information.shape[1] - 1))
    return np.where(most > 0, 1 - others, 0.0)
