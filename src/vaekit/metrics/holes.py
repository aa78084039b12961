"""Holes between prior and codes, told by nearest neighbours: where samples are drawn that no row ever stood for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

K = 5  # the neighbour that sets a ball's radius, as in the paper
BLOCK = 1 << 22  # distances at a time


def holes(codes: Tensor, prior: Tensor, others: Tensor, gaussian: Tensor) -> dict[str, Any]:
    """The share of draws where no code lives, and of codes where no draw falls; all four [n, D].

    `prior`: draws of the prior. `gaussian`: draws of the Gaussian with the cloud's own mean and covariance, since a
    cloud without a rate has any scale it likes: this is the shape alone. `alike`: draws of the prior against `others`
    of the same law, what two equal clouds read: 2^-K of holes, whatever their dimensions.
    """
    pairs = {"prior": (codes, prior), "gaussian": (codes, gaussian), "alike": (others, prior)}
    found = {
        name: {"holes": uncovered(drawn, points), "missed": unreached(points, drawn)}
        for name, (points, drawn) in pairs.items()
    }
    return {"n": len(codes), "k": K, **found}


def uncovered(drawn: Tensor, codes: Tensor, k: int = K) -> float:
    """The share of drawn points [N, D] that have no code [M, D] nearer than their own k-th neighbour among the drawn.

    1 - coverage (Naeem et al. 2020, https://arxiv.org/abs/2002.09797, eq. 4), the draws in the place of the real. The
    balls are the draws': a few codes strewn over a wide space, each with a huge ball, would cover everything.
    """
    drawn, codes = drawn.double(), codes.double()
    nearest = torch.cat([torch.cdist(part, codes).min(1).values for part in parts(drawn, codes)])
    return float((nearest > radii(drawn, k)).double().mean())


def unreached(codes: Tensor, drawn: Tensor, k: int = K) -> float:
    """The share of codes [N, D] in no ball around a drawn point [M, D], out to its k-th neighbour among the drawn.

    1 - precision (Kynkäänniemi et al. 2019, https://arxiv.org/abs/1904.06991, eq. 1-2), the draws as the manifold.
    """
    codes, drawn = codes.double(), drawn.double()
    reach = radii(drawn, k)
    hit = torch.cat([(torch.cdist(part, drawn) <= reach).any(1) for part in parts(codes, drawn)])
    return 1 - float(hit.double().mean())


def radii(points: Tensor, k: int) -> Tensor:
    """Distance of each point to its k-th nearest other [N]."""
    return torch.cat(
        [torch.cdist(part, points).topk(k + 1, largest=False).values[:, -1] for part in parts(points, points)]
    )


def parts(points: Tensor, others: Tensor) -> tuple[Tensor, ...]:
    return points.split(max(1, BLOCK // len(others)))
