"""Where the rate goes: what codes say of their rows, what they say twice, and how far they are from the prior."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vaekit.distributions import Distribution
from vaekit.measures import double, together


def surgery(
    laws: Sequence[Distribution], z: Tensor, log_p: Tensor, elements: Tensor | None
) -> dict[str, Any]:
    """The rate of N rows, taken apart; nats, means over rows. `laws`: q(z given x) of the rows, some rows each; `z`
    [N, D]: a draw of each. `log_p` [N]: log p(z); `elements` [N, D]: that of each dimension, where the prior factorises.

    With q(z) the mean of these N laws, draw by draw and so without remainder,

    - `rate` = `mutual_information` I(n; z) + `marginal_kl` KL(q(z), p(z)) (Hoffman and Johnson 2016, "ELBO surgery",
      http://approximateinference.org/accepted/HoffmanJohnson2016.pdf), and where both laws factorise
    - `marginal_kl` = `total_correlation` KL(q(z), product of q(z_d)) + the sum of `marginal_kl_per_dimension`
      KL(q(z_d), p(z_d)) (Chen et al. 2018, https://arxiv.org/abs/1802.04942, eq. 2);
    - `mutual_information_per_dimension` I(n; z_d) [D] needs no factorised prior.

    No information about N rows exceeds `at_most`, log N: a reading near it says that codes part all of them, and then
    the marginal KL is that of N lumps and too large for the data's law. What a law has no density for is None.
    Costs N^2 D densities.
    """
    n = len(z)
    own, alone = _own(laws, z)
    joint, single = _among(laws, z, alone is not None)
    found: dict[str, Any] = {"n": n, "at_most": math.log(n)}
    shared = double(own) - joint  # [N]
    found["rate"] = float((double(own) - double(log_p)).mean())
    found["mutual_information"] = float(shared.mean())
    found["marginal_kl"] = float((joint - double(log_p)).mean())
    if alone is None or single is None:
        return found | dict.fromkeys(PER_DIMENSION)
    told = (double(alone) - single).mean(0)
    apart = None if elements is None else (single - double(elements)).mean(0).tolist()
    return found | {
        "total_correlation": float((joint - single.sum(-1)).mean()),
        "mutual_information_per_dimension": told.tolist(),
        "marginal_kl_per_dimension": apart,
    }


PER_DIMENSION = "total_correlation", "mutual_information_per_dimension", "marginal_kl_per_dimension"


def _own(laws: Sequence[Distribution], z: Tensor) -> tuple[Tensor, Tensor | None]:
    """log q(z_n given x_n) [N], and of each dimension [N, D] where it factorises."""
    parts = z.split([law.batch_shape[0] for law in laws])
    try:
        each = torch.cat([law.log_prob_elements(part) for law, part in zip(laws, parts, strict=True)])
        return each.sum(-1), each
    except NotImplementedError:
        return torch.cat([law.log_prob(part) for law, part in zip(laws, parts, strict=True)]), None


def _among(laws: Sequence[Distribution], z: Tensor, factorised: bool) -> tuple[Tensor, Tensor | None]:
    """log q(z_n) [N] and log q(z_nd) [N, D], q the mean of all laws."""
    n, d = z.shape
    joint, single = [], []
    for part in z.split(together(laws[0], n, d)):
        rows = part.unsqueeze(1)
        if factorised:
            each = torch.cat([double(law.log_prob_elements(rows)) for law in laws], 1)  # [M, N, D]
            joint.append(each.sum(-1).logsumexp(1))
            single.append(each.logsumexp(1))
        else:
            joint.append(torch.cat([double(law.log_prob(rows)) for law in laws], 1).logsumexp(1))
    return torch.cat(joint) - math.log(n), torch.cat(single) - math.log(n) if factorised else None
