"""The aggregate posterior against the prior: one number over all dimensions, and one for each alone."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from vaekit.metrics.discrepancy import inverse_multiquadratic, permuted

MOST = 2_000  # points of a set in the kernel's table


def against_prior(codes: Tensor, prior: Tensor, seed: int) -> dict[str, Any]:
    """Codes [N, D], a draw of q(z given x) for each row, against as many draws of the prior [N, D].

    - `mmd` (`discrepancy.permuted`): MMD^2 of at most 2,000 of each under the inverse multiquadratic kernel, whose
      widths follow from the prior's variance; `floor` is what two sets of one law read.
    - `kolmogorov_smirnov` [D]: the greatest gap of the two distribution functions of a dimension, in [0, 1]; two sets of
      one law exceed `kolmogorov_smirnov_floor` once in twenty times (Smirnov 1948, for large N).
    - `wasserstein` [D]: the mean move, in the prior's standard deviations, that turns one into the other.
    """
    z, p = codes.double(), prior.double()
    n = len(z)
    values = torch.cat((z, p)).T.contiguous()
    sides = [x.T.contiguous().sort().values for x in (z, p)]
    below = [torch.searchsorted(side, values, right=True).double() / n for side in sides]  # [D, 2 N]
    variance = p.var(0, correction=0)
    few = min(n, MOST)
    kernel = inverse_multiquadratic(max(float(variance.sum()), 1e-12))
    moved = (sides[0] - sides[1]).abs().mean(1) / variance.sqrt().clamp_min(1e-12)
    return {
        "n": n,
        "mmd": {"n": few, "kernel": "inverse multiquadratic"} | permuted(z[:few], p[:few], kernel, seed),
        "kolmogorov_smirnov": (below[0] - below[1]).abs().amax(1).tolist(),
        "kolmogorov_smirnov_floor": 1.358 * math.sqrt(2 / n),
        "wasserstein": moved.tolist(),
    }
