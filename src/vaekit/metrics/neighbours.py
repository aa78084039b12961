"""Neighbours: of points among themselves, and the nearest of very many rows that are never held together."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 1 << 22  # distances at a time


class Nearest:
    """The `k` nearest rows to each of N points [N, F], Euclidean, of all that have been `add`ed, in float32.

    A squared distance is a difference of products here, so it is known to about 1e-6 of the points' own spread: ask
    `distance` for those that must be exact.
    """

    def __init__(self, points: Tensor, k: int) -> None:
        self._centre = points.mean(0)  # a shift costs nothing and saves digits
        self.points, self.k = points - self._centre, k
        self._norms = self.points.square().sum(1)
        self._squared = torch.full((len(points), 0), 0.0)
        self.index = torch.zeros((len(points), 0), dtype=torch.long)
        self.seen = 0

    def add(self, rows: Tensor) -> None:
        """Take in the next rows [B, F]."""
        rows = rows - self._centre
        squared = torch.addmm(rows.square().sum(1), self.points, rows.T, alpha=-2) + self._norms[:, None]
        number = torch.arange(self.seen, self.seen + len(rows)).expand(len(self.points), -1)
        self.seen += len(rows)
        both = torch.cat((self._squared, squared), 1)
        found = both.topk(min(self.k, both.shape[1]), largest=False)
        self._squared = found.values
        self.index = torch.cat((self.index, number), 1).gather(1, found.indices)

    @property
    def distances(self) -> Tensor:
        """Distances to the k nearest rows [N, k], ascending."""
        return self._squared.clamp_min(0).sqrt()

    def distance(self, rows: Tensor) -> Tensor:
        """The distance of each point to the row of its number in rows [N, F], float64 [N]; 0 for the point itself."""
        return (self.points - (rows - self._centre)).double().norm(dim=1)


def radii(points: Tensor, k: int) -> Tensor:
    """Distance of each point to its k-th nearest other [N]."""
    return torch.cat(
        [torch.cdist(part, points).topk(k + 1, largest=False).values[:, -1] for part in parts(points, points)]
    )


def parts(points: Tensor, others: Tensor) -> tuple[Tensor, ...]:
    return points.split(max(1, BLOCK // len(others)))
