"""The mutual information gap (Chen et al. 2018, https://arxiv.org/abs/1802.04942, equation 6)."""

from __future__ import annotations

import numpy as np


def mig(information: np.ndarray, entropies: np.ndarray) -> np.ndarray:
    """How far the code that tells most of a factor is ahead of the next, as a share of the factor's entropy, [F].

    `information` [D, F] with D at least 2, `entropies` [F] above 0, nats. The score is the mean over factors, 0 to 1:
    each factor is in one dimension, and in no other.
    """
    first, second = np.sort(information, axis=0)[::-1][:2]
    return (first - second) / entropies
