"""The FactorVAE score (Kim and Mnih 2018, https://arxiv.org/abs/1802.05983, section 4)."""

from __future__ import annotations

import numpy as np

from vaekit.metrics.disentanglement.points import BATCH, TEST, TRAIN, Advance, Points

# standard deviation of mean codes below which a dimension has collapsed, and does not vote: of the published code
# (disentanglement_lib, _prune_dims), for the paper gives no number
ACTIVE = 0.05


def factorvae(points: Points, advance: Advance) -> tuple[float, np.ndarray]:
    """How often the dimension that varies least, among 64 rows which share a factor's value, tells which factor that is;
    and the dimensions that may be it, int [A].

    Variances are divided by those of all training points. A dimension stands for the factor that it voted for most in
    10,000 draws; the accuracy of that is over 5,000 others. 0 where no dimension is active.
    """
    variance = points.codes[points.train].var(0, ddof=1)
    active = np.flatnonzero(variance >= ACTIVE**2)
    draws = np.random.default_rng([points.seed, 1])
    n_factors = points.factors.shape[1]
    tables = []
    for n in (TRAIN, TEST):
        fixed = draws.integers(n_factors, size=n)
        table = np.zeros((n_factors, len(active)), np.int64)
        for factor in range(n_factors):
            first = draws.integers(len(points.codes), size=(int((fixed == factor).sum()), 1))
            for some in np.array_split(first, max(1, len(first) // 500)):
                rows = points.sharing(factor, np.repeat(some, BATCH, axis=1), draws)
                if len(active):
                    spread = points.codes[rows][..., active].var(1, ddof=1) / variance[active]
                    table[factor] += np.bincount(spread.argmin(1), minlength=len(active))
                advance(len(some))
        tables.append(table)
    learnt, judged = tables
    right = judged[learnt.argmax(0), np.arange(len(active))].sum()
    return float(right / TEST), active
