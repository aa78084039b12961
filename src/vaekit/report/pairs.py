"""Two runs on the same rows: the mean of their differences row by row, and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vaekit.report.readings import Judged

SURE = 1.96  # standard errors to each side: 95 % of a Gaussian


@dataclass(frozen=True)
class Pair:
    """`mean` of a - b over n rows, `half` the half-width of its 95 % confidence interval, `below` the share of rows with
    a < b, those alike counted half."""

    mean: float
    half: float
    below: float
    n: int

    @property
    def sure(self) -> bool:
        """Whether the interval leaves out 0."""
        return abs(self.mean) > self.half


def paired(a: np.ndarray, b: np.ndarray) -> Pair:
    """Differences of two numbers of the same n rows [n], n at least 2; the interval is the Gaussian's, mean +- 1.96
    standard errors. Pairing takes out what makes a row hard for both."""
    off = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    half = SURE * float(off.std(ddof=1)) / math.sqrt(len(off))
    return Pair(float(off.mean()), half, float((off < 0).mean() + (off == 0).mean() / 2), len(off))


@dataclass(frozen=True)
class Standing:
    """Runs by one number of each row, lower being better: `best`, and by name what every other's is more than its."""

    best: Judged
    others: dict[str, Pair]


def standing(
    runs: Sequence[Judged], of: Callable[[Judged], np.ndarray | None], alike: Callable[[Judged], object]
) -> Standing | None:
    """Rank runs by the mean of `of`, among those that agree in `alike`: the largest such group. None if it is of one."""
    groups: dict[object, list[tuple[Judged, np.ndarray]]] = {}
    for run in runs:
        values = of(run)
        if values is not None and len(values) > 1 and np.isfinite(values).all():
            groups.setdefault(alike(run), []).append((run, values))
    group = max(groups.values(), key=len, default=[])
    if len(group) < 2:
        return None
    best, least = min(group, key=lambda pair: float(pair[1].mean()))
    return Standing(best, {run.name: paired(values, least) for run, values in group if run is not best})
