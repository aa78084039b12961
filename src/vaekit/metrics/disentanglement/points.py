"""What the scores are made from: codes beside factors, points to fit on and points to judge on, and rows that share a
factor's value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

TRAIN, TEST = 10_000, 5_000  # points, and votes (Locatello et al. 2019, https://arxiv.org/abs/1811.12359)
BATCH = 64  # rows that make one vote
Advance = Callable[[int], None]


@dataclass
class Points:
    """Codes [N, D] and the values of their factors int [N, F], each from 0 and at least two of them.

    `train`, `test`: numbers of rows, drawn once each by the seed: 10,000 and 5,000, of fewer rows two thirds and the
    rest.
    """

    codes: np.ndarray
    factors: np.ndarray
    seed: int
    train: np.ndarray = field(init=False)
    test: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        n = min(len(self.codes), TRAIN + TEST)
        drawn = np.random.default_rng([self.seed, 0]).permutation(len(self.codes))[:n]
        self.train, self.test = np.split(drawn, [round(n * TRAIN / (TRAIN + TEST))])
        # by factor: its rows in the order of their values, where each value begins, and how many rows it has
        self._order = [np.argsort(values, kind="stable") for values in self.factors.T]
        self._count = [np.bincount(values) for values in self.factors.T]
        self._begin = [np.cumsum(count) - count for count in self._count]

    def sharing(self, factor: int, rows: np.ndarray, draws: np.random.Generator) -> np.ndarray:
        """For each row one, drawn from all, that has the same value of a factor; of any shape."""
        values = self.factors[rows, factor]
        among = self._count[factor][values]
        place = (draws.random(values.shape) * among).astype(np.int64)
        return self._order[factor][self._begin[factor][values] + place]
