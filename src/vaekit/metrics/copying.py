"""Whether samples repeat training rows: the laws of two sets of distances, and one sentence about them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

ALPHA = 0.01  # of held-out rows: how many stand by a training row as closely as what is called close
SURE = 3.0  # standard errors that a share must exceed what is expected by, to be spoken of
LEAST = 20  # points of each kind that a cell needs to be counted


def nearness(distances: np.ndarray) -> np.ndarray:
    """The distance to the nearest row over the mean distance to the next ones, in [0, 1]: distances [N, k], k > 1,
    ascending -> [N].

    It asks whether a point stands by one row or among many, so that an item does not seem a copy because it is smooth
    and therefore near to everything (Carlini et al. 2023, https://arxiv.org/abs/2301.13188, scale by the
    mean of near rows likewise). Beside nothing but repeats of one row it is 0.
    """
    around = distances[:, 1:].mean(1)
    return np.divide(distances[:, 0], around, out=np.zeros(len(distances)), where=around > 0)


def rank_test(made: np.ndarray, held_out: np.ndarray) -> tuple[float, float]:
    """The share of pairs in which the value of `made` [M] is less than that of `held_out` [N], ties for a half, and how
    many standard errors it lies above the half that two sets of one law read.

    Mann and Whitney 1947, https://doi.org/10.1214/aoms/1177730491; their U over M N. Ties make the error too large.
    """
    m, n = len(made), len(held_out)
    ordered = np.sort(held_out)
    above = n - np.searchsorted(ordered, made, side="right")
    equal = n - np.searchsorted(ordered, made, side="left") - above
    share = float((above + equal / 2).sum() / (m * n))
    return share, (share - 0.5) / math.sqrt((m + n + 1) / (12 * m * n))


def three_sample(
    made: np.ndarray, held_out: np.ndarray, made_cell: np.ndarray, cell: np.ndarray
) -> float | None:
    """C_T of Meehan et al. 2020 (https://arxiv.org/abs/2004.05675): in each cell of the space the standardised U
    of samples' distances [M] over held-out ones' [N], and the mean of these by the held-out rows in a cell.

    Below -3: samples lie nearer to training rows than they should; above 3: farther, underfitted. Each cell's U has a
    standard deviation of 1 and the mean over cells a smaller one, so the paper's threshold of 3 is far more than three of
    the mean's. A distance is to the nearest of all training rows here, in the paper of those in the cell. Cells with
    fewer than twenty of either are left out; None where none is left.
    """
    scores, weights = [], []
    for number in np.unique(cell):
        a, b = made[made_cell == number], held_out[cell == number]
        if min(len(a), len(b)) >= LEAST:
            scores.append(-rank_test(a, b)[1])
            weights.append(len(b))
    return float(np.average(scores, weights=weights)) if scores else None


def compared(made: np.ndarray, held_out: np.ndarray) -> dict[str, Any]:
    """Distances to training rows of samples [M, k] against those of held-out rows [N, k], nearest first.

    - `distance` and `ratio` (`nearness`): `samples` and `held_out` with their `median` and first percentile `p01`;
      `auc`, the share of pairs in which the sample's is the smaller, 0.5 for two sets of one law; its `z`.
    - `close`: the share of samples whose ratio is below the first percentile of the held-out rows': 0.01 for two sets of
      one law. `close_z`: standard errors above that.
    """
    found: dict[str, Any] = {}
    for name, a, b in (
        ("distance", made[:, 0], held_out[:, 0]),
        ("ratio", nearness(made), nearness(held_out)),
    ):
        auc, z = rank_test(a, b)
        found[name] = {"samples": _quantiles(a), "held_out": _quantiles(b), "auc": auc, "z": z}
    close = float((nearness(made) < np.quantile(nearness(held_out), ALPHA)).mean())
    error = math.sqrt(ALPHA * (1 - ALPHA) * (1 / len(made) + 1 / len(held_out)))
    return found | {"close": close, "close_z": (close - ALPHA) / error}


def exceeds(made: int, m: int, held_out: int, n: int) -> bool:
    """Whether `made` of m are surely a greater share than `held_out` of n."""
    pooled = (made + held_out) / (m + n)
    error = math.sqrt(pooled * (1 - pooled) * (1 / m + 1 / n))
    return error > 0 and (made / m - held_out / n) / error > SURE


def verdict(result: dict[str, Any]) -> str:
    """One sentence on an audit (`copies.copies`)."""
    n, exact = result["samples"], result["exact"]
    if exceeds(exact["samples"], n, exact["held_out"], result["rows"]):
        return (
            f"{exact['samples']:,} of {n:,} samples are training rows, number for number "
            f"(held-out rows that are: {exact['held_out']:,} of {result['rows']:,})"
        )
    spaces = result["spaces"]
    name = max(spaces, key=lambda space: spaces[space]["close_z"])
    if spaces[name]["close_z"] > SURE:
        return (
            f"{spaces[name]['close']:.1%} of samples stand by a single training row as closely as {ALPHA:.0%} of "
            f"held-out rows do, by {name}: some repeat training rows; look at the closest pairs"
        )
    name = max(spaces, key=lambda space: spaces[space]["distance"]["z"])
    nearer = spaces[name]["distance"]
    if nearer["z"] > SURE:
        return (
            f"no sign of copies: samples lie nearer to training rows than held-out rows do (in {nearer['auc']:.0%} of "
            f"pairs, by {name}), but by no single one, as smooth or concentrated samples do"
        )
    return "no sign of copies: samples lie no nearer to training rows than held-out rows do"


def _quantiles(values: np.ndarray) -> dict[str, float]:
    return {"median": float(np.median(values)), "p01": float(np.quantile(values, ALPHA))}
