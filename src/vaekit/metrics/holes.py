"""Holes between prior and codes, told by nearest neighbours: where samples are drawn that no row ever stood for."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from vaekit.metrics.manifolds import K, coverages


def holes(codes: Tensor, prior: Tensor, others: Tensor, gaussian: Tensor) -> dict[str, Any]:
    """The share of draws where no code lives, and of codes where no draw falls; all four [n, D].

    `prior`: draws of the prior. `gaussian`: draws of the Gaussian with the cloud's own mean and covariance, since a
    cloud without a rate has any scale it likes: this is the shape alone. `alike`: draws of the prior against `others`
    of the same law, what two equal clouds read: 2^-K of holes, whatever their dimensions.

    The balls are the draws', out to the K-th nearest of their own: a few codes strewn over a wide space, each with a huge
    ball, would cover everything. So `holes` is 1 - coverage (Naeem et al. 2020, https://arxiv.org/abs/2002.09797, eq. 4)
    and `missed` 1 - precision (Kynkäänniemi et al. 2019, https://arxiv.org/abs/1904.06991, eq. 1-2), with the draws for
    what is real and the codes for what is made.
    """
    pairs = {"prior": (codes, prior), "gaussian": (codes, gaussian), "alike": (others, prior)}
    found = {name: coverages(points, drawn) for name, (points, drawn) in pairs.items()}
    shares = {
        name: {"holes": 1 - each["coverage"], "missed": 1 - each["precision"]} for name, each in found.items()
    }
    return {"n": len(codes), "k": K, **shares}
