"""Readings of a model over a data set, streamed: what the latent dimensions do, and how tight a bound is.

All numbers are nats. Sums over data or draws are kept in float64, whatever the model computes in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from vaekit.distributions import Distribution
from vaekit.errors import VaekitError

ELEMENTS = 1 << 22  # numbers held at a time where codes are weighed under many laws
WIDE = 512  # of them for a pair of code and law that a net reads


def double(tensor: Tensor) -> Tensor:
    """float64; on the CPU where the device (MPS) has none."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


class Moments:
    """Mean and variance of rows that arrive in batches [B, ...] (Chan et al. 1983, eq. 2.1)."""

    def __init__(self) -> None:
        self.count = 0
        self._mean: Tensor | None = None
        self._squares: Tensor | None = None

    def add(self, rows: Tensor) -> None:
        """Take in a batch [B, ...]; a short one weighs as many rows as it has."""
        rows = double(rows)
        n, mean = len(rows), rows.mean(0)
        squares = (rows - mean).square().sum(0)
        if self._mean is None or self._squares is None:
            self.count, self._mean, self._squares = n, mean, squares
            return
        total = self.count + n
        step = mean - self._mean
        self._squares = self._squares + squares + step.square() * (self.count * n / total)
        self._mean = self._mean + step * (n / total)
        self.count = total

    @property
    def mean(self) -> Tensor:
        """Mean over the rows so far [...]; VaekitError before the first."""
        if self._mean is None:
            raise VaekitError("no rows were measured; give at least one")
        return self._mean

    @property
    def variance(self) -> Tensor:
        """Unbiased variance over the rows so far [...]; 0 for a single row."""
        if self._squares is None:
            raise VaekitError("no rows were measured; give at least one")
        return self._squares / max(self.count - 1, 1)


def active_units(variance: Tensor, threshold: float = 0.01) -> Tensor:
    """Which latent dimensions [D] carry something: Var_x of E[z given x] over `threshold`.

    `variance` [D]: the variance over data of the posterior's mean (`Moments` of `q.mean`). Burda et al. 2016,
    https://arxiv.org/abs/1509.00519, sec. 5.2.
    """
    return variance > threshold


class ImportanceWeights:
    """Importance-weighted bounds of B images at several k, from one stream of log-weights [K, B].

    L_k = logsumexp of the first k log-weights - log k (Burda et al. 2016, eq. 8).
    https://arxiv.org/abs/1509.00519
    Running maximum, sum w and sum w^2 in float64; nothing of size K is kept.
    """

    def __init__(self, k: Sequence[int]) -> None:
        if not k or any(int(n) != n or n < 1 for n in k):
            raise VaekitError(f"k is {list(k)}; give one or more whole numbers of draws, each at least 1")
        self.k = sorted({int(n) for n in k})
        self.count = 0
        self._top = torch.tensor(-math.inf, dtype=torch.float64)  # 0-d meets any device
        self._sum = self._squares = torch.zeros((), dtype=torch.float64)
        self._bounds: list[Tensor] = []
        self._sizes: list[Tensor] = []

    def add(self, log_w: Tensor) -> None:
        """Take in further draws [S, B]. Draws beyond the largest k are left unread."""
        start = 0
        while start < len(log_w) and len(self._bounds) < len(self.k):
            target = self.k[len(self._bounds)]
            stop = min(len(log_w), start + target - self.count)
            self._take(double(log_w[start:stop]))
            self.count += stop - start
            start = stop
            if self.count == target:
                self._bounds.append(self._top + self._sum.log() - math.log(target))
                self._sizes.append((self._sum.square() / self._squares).nan_to_num(0.0))

    def _take(self, log_w: Tensor) -> None:
        top = torch.maximum(log_w.max(0).values, self._top.to(log_w.device))
        safe = torch.where(top == -math.inf, 0.0, top)  # all weights zero so far: the bound is -inf, not nan
        w, shrink = torch.exp(log_w - safe), torch.exp(self._top - safe)
        self._sum = self._sum * shrink + w.sum(0)
        self._squares = self._squares * shrink.square() + w.square().sum(0)
        self._top = top

    @property
    def bounds(self) -> Tensor:
        """L_k [len(k), B], float64, for the k reached so far."""
        return torch.stack(self._bounds)

    @property
    def effective_sample_sizes(self) -> Tensor:
        """(sum w)^2 / sum w^2 over the first k draws [len(k), B], between 1 and k (Kong 1992)."""
        return torch.stack(self._sizes)


def together(law: Distribution, n: int, d: int) -> int:
    """How many codes of d dimensions are weighed at a time under the laws of n rows.

    Where dimensions are independent a pair of code and row is d densities; elsewhere a net may read it, hundreds of
    numbers wide.
    """
    apart = type(law).log_prob_elements is not Distribution.log_prob_elements
    return max(1, ELEMENTS // max(1, n * (d if apart else max(d, WIDE))))


def mutual_information(q: Distribution, z: Tensor, log_qz: Tensor) -> Tensor:
    """I(n; z) in nats between the number of a row and its code, for N rows with codes z [N, D] drawn from q.

    mean over n of [ log q(z_n given x_n) - log (1/N sum_j q(z_n given x_j)) ], the rate less KL(q(z), p(z))
    (Hoffman and Johnson 2016, "ELBO surgery"),
    http://approximateinference.org/accepted/HoffmanJohnson2016.pdf.
    An unbiased estimate for these N rows; it cannot exceed log N, so a model that tells all rows apart reads
    log N however much it knows. `log_qz` [N] is log q(z_n given x_n). Costs N^2 D, some codes at a time (`together`).
    """
    n = len(z)
    aggregate = torch.cat(
        [
            torch.logsumexp(double(q.log_prob(part.unsqueeze(1))), -1)
            for part in z.split(together(q, *z.shape))
        ]  # [M, N] -> [M]
    ) - math.log(n)
    return (double(log_qz) - aggregate).mean()
