"""The maximum mean discrepancy: how far two sets of points are from each other, as a kernel sees them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

Kernel = Callable[[Tensor, Tensor], Tensor]  # [N, d], [M, d] -> [N, M]
SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # of the inverse multiquadratic's width, as in the paper
SUBSETS, SUBSET = 100, 1000  # as in the paper
PERMUTATIONS = 200


def polynomial(a: Tensor, b: Tensor) -> Tensor:
    """(a . b / d + 1)^3 (Bińkowski et al. 2018, https://arxiv.org/abs/1801.01401, sec. 4)."""
    return (a @ b.T / a.shape[1] + 1) ** 3


def inverse_multiquadratic(variance: float) -> Kernel:
    """The sum over seven s of C / (C + |a - b|^2), C = 2 s `variance`, the prior's variance summed over dimensions
    (Tolstikhin et al. 2018, https://arxiv.org/abs/1711.01558, sec. 4, at the scales of their code)."""

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        squared = torch.cdist(a, b).square()
        total = torch.zeros_like(squared)
        for scale in SCALES:
            width = 2 * scale * variance
            total += width / (width + squared)
        return total

    return kernel


def discrepancy(a: Tensor, b: Tensor, kernel: Kernel) -> float:
    """MMD^2 of rows [N, d] and [M, d], N, M > 1, in float64, without bias, and so below 0 at times.

    Gretton et al. 2012, https://jmlr.org/papers/v13/gretton12a.html, eq. 3.
    """
    a, b = a.double(), b.double()
    return float(_inner(kernel(a, a)) + _inner(kernel(b, b)) - 2 * kernel(a, b).mean())


def kernel_distance(a: Tensor, b: Tensor, seed: int) -> dict[str, Any]:
    """The mean of MMD^2 with the polynomial kernel over 100 pairs of subsets of features [N, d] and [M, d], and its
    `spread`, their standard deviation.

    A subset has 1,000 rows, or half of them where there are not two thousand, drawn without replacement. Unbiased, so
    that sets of unlike size compare. On features of the tool's own it is no KID, whose features are Inception's.
    """
    rng = np.random.default_rng(seed)
    size = max(2, min(SUBSET, len(a) // 2, len(b) // 2))
    found = np.empty(SUBSETS)
    for number in range(SUBSETS):
        some, others = (x[torch.from_numpy(rng.permutation(len(x))[:size])] for x in (a, b))
        found[number] = discrepancy(some, others, polynomial)
    return {
        "value": float(found.mean()),
        "spread": float(found.std(ddof=1)),
        "subsets": SUBSETS,
        "size": size,
    }


def permuted(a: Tensor, b: Tensor, kernel: Kernel, seed: int) -> dict[str, Any]:
    """MMD^2 of a [N, d] and b [N, d], beside what two sets of one law read.

    `floor`: the 95th percentile of MMD^2 over 200 ways of dealing the 2 N rows into two sets, which is what a test at
    5 % asks to exceed. `p`: the share of deals, the one at hand among them, that read as much (a permutation
    test). Holds [2 N, 2 N] float64 at once.
    """
    n = len(a)
    rows = torch.cat((a, b)).double()
    table = kernel(rows, rows).fill_diagonal_(0)
    deals = torch.ones(2 * n, PERMUTATIONS + 1, dtype=torch.float64)
    rng = np.random.default_rng(seed)
    for deal in range(PERMUTATIONS + 1):  # the first is the one at hand
        order = rng.permutation(2 * n) if deal else np.arange(2 * n)
        deals[torch.from_numpy(order[n:]), deal] = 0
    to_first = table @ deals  # [2 N, deals]: sum of k over the rows of the first set
    first = (deals * to_first).sum(0)
    across = ((1 - deals) * to_first).sum(0)
    second = table.sum() - first - 2 * across
    values = (first + second) / (n * (n - 1)) - 2 * across / (n * n)
    return {
        "value": float(values[0]),
        "floor": float(values[1:].quantile(0.95)),
        "p": float((values >= values[0]).double().mean()),
        "permutations": PERMUTATIONS,
    }


def _inner(table: Tensor) -> Tensor:
    """The mean of a square table off its diagonal."""
    n = len(table)
    return (table.sum() - table.trace()) / (n * (n - 1))
