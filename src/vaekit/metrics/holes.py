"""Holes between prior and codes, told by nearest neighbours: where samples are drawn that no row ever stood for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

K = 3  # the neighbour that sets a ball's radius, as in the paper
BLOCK = 1 << 22  # distances at a time


def holes(codes: Tensor, prior: Tensor, others: Tensor, gaussian: Tensor) -> dict[str, Any]:
    """Precision and recall of draws as samples of codes; all four [n, D].

    `prior`: draws of the prior. 1 - precision is the share of them where no code lives, the holes; 1 - recall the
    share of codes where none of them falls. `gaussian`: draws of the Gaussian with the cloud's own mean and covariance,
    since a cloud without a rate has any scale it likes: this is the shape alone. `alike`: draws of the prior against
    `others` of the same law, what two equal clouds read with so many points.
    """
    pairs = {"prior": (codes, prior), "gaussian": (codes, gaussian), "alike": (others, prior)}
    found = {}
    for name, (real, drawn) in pairs.items():
        precision, recall = precision_and_recall(real, drawn)
        found[name] = {"precision": precision, "recall": recall}
    return {"n": len(codes), "k": K, **found}


def precision_and_recall(real: Tensor, drawn: Tensor, k: int = K) -> tuple[float, float]:
    """The share of drawn points [N, D] inside the manifold of the real ones [N, D], and the other way round.

    A set's manifold is the union of balls around its points, each out to its k-th nearest neighbour in the set.
    Kynkäänniemi et al. 2019, https://arxiv.org/abs/1904.06991, eq. 1-2. Give both the same number of points, over k.
    """
    real, drawn = real.double(), drawn.double()
    return _inside(drawn, real, _radii(real, k)), _inside(real, drawn, _radii(drawn, k))


def _radii(points: Tensor, k: int) -> Tensor:
    """Distance of each point to its k-th nearest other [N]."""
    return torch.cat(
        [
            torch.cdist(part, points).topk(k + 1, largest=False).values[:, -1]
            for part in _parts(points, points)
        ]
    )


def _inside(points: Tensor, centres: Tensor, radii: Tensor) -> float:
    """The share of points inside one ball or more."""
    hit = torch.cat([(torch.cdist(part, centres) <= radii).any(1) for part in _parts(points, centres)])
    return float(hit.double().mean())


def _parts(points: Tensor, others: Tensor) -> tuple[Tensor, ...]:
    return points.split(max(1, BLOCK // len(others)))
