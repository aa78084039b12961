"""How much of what is made could be real, and how much of what is real is made: by balls around nearest neighbours."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vaekit.metrics.neighbours import parts, radii

K = 5  # the neighbour that sets a ball's radius; of both papers' measures, so that they compare


def coverages(made: Tensor, real: Tensor, k: int = K) -> dict[str, Any]:
    """Of features of made [M, d] and real items [N, d], N, M > k; a ball reaches to its centre's k-th nearest of its own.

    - `precision`: the share of made items in some real item's ball; `recall`: of real ones in some made item's ball
      (Kynkäänniemi et al. 2019, https://arxiv.org/abs/1904.06991, eq. 2, who take k = 3).
    - `density`: how many real balls a made item is in, over k, on average, which is 1 for two sets of one law and may
      exceed it; `coverage`: the share of real items with a made one in their ball, 1 - 2^-k for two sets of one law
      (Naeem et al. 2020, https://arxiv.org/abs/2002.09797, eq. 3 and 4). An outlier's wide ball does not raise these.

    They fall or rise with N and M: compare at one size, beside two sets of real items.
    """
    made, real = made.double(), real.double()
    of_made, of_real = radii(made, k), radii(real, k)
    inside, density = 0, 0.0
    reached = torch.zeros(len(real), dtype=torch.bool)
    covered = torch.zeros(len(real), dtype=torch.bool)
    start = 0
    for part in parts(made, real):
        gaps = torch.cdist(part, real)  # [B, N]
        balls = gaps <= of_real
        inside += int(balls.any(1).sum())
        density += float(balls.sum())
        covered |= balls.any(0)
        reached |= (gaps <= of_made[start : start + len(part), None]).any(0)
        start += len(part)
    return {
        "precision": inside / len(made),
        "recall": float(reached.double().mean()),
        "density": density / (k * len(made)),
        "coverage": float(covered.double().mean()),
        "k": k,
    }
