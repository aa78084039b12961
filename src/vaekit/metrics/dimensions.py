"""What each latent dimension does: what it costs, what it says of its row, and how far it moves."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vaekit.distributions import Distribution, kl
from vaekit.measures import Moments, active_units, double
from vaekit.metrics.codes import Advance, Reader
from vaekit.metrics.surgery import surgery
from vaekit.model import VAE

ROWS = 2_000  # whose laws are weighed against each other's draws: log 2000 is 7.6 nats


def dimensions(model: VAE, reader: Reader, means: Tensor, advance: Advance) -> dict[str, Any]:
    """Dimension by dimension [D], nats; `means` [N, D]: the mean codes of all rows, `reader`: few of them.

    - `activity`: the variance of the mean code over rows, and `active_units`: how many exceed 0.01 (Burda et al. 2016);
    - `kl`: KL(q(z given x), p(z)), a mean over rows, where posterior and prior factorise, else None;
    - `surgery` (`surgery.surgery`): the rate taken apart, None for a posterior without a density. Under a prior that
      reads the label its distances to the prior are None: there is not one prior to be distant from.
    """
    activity = double(means).var(0)
    found: dict[str, Any] = {
        "activity": activity.tolist(),
        "active_units": int(active_units(activity).sum()),
        "kl": None,
        "surgery": None,
    }
    if not getattr(model.posterior, "has_density", True):
        return found
    laws, draws, rates = [], [], Moments()
    log_p: list[Tensor] = []
    elements: list[Tensor | None] = []
    one_prior = True
    for x, c in reader.chunks():
        q, p = model.posterior(x, c), model.prior(c)
        z, _ = q.rsample_and_log_prob(())
        one_prior &= not p.batch_shape
        laws.append(q)
        draws.append(z)
        log_p.append(p.log_prob(z))
        elements.append(_elements(p, z))
        each = kl(q, p)
        if each is not None:
            rates.add(each)
        advance(len(x))
    known = [each for each in elements if each is not None]
    alone = torch.cat(known) if len(known) == len(elements) else None
    found["kl"] = rates.mean.tolist() if rates.count else None
    try:
        found["surgery"] = surgery(laws, torch.cat(draws), torch.cat(log_p), alone)
    except NotImplementedError:  # a law that weighs no draw but its own
        return found
    if not one_prior:
        found["surgery"] |= dict.fromkeys(("marginal_kl", "marginal_kl_per_dimension"))
    return found


def _elements(p: Distribution, z: Tensor) -> Tensor | None:
    try:
        return p.log_prob_elements(z)
    except NotImplementedError:
        return None
