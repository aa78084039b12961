"""What the doctor sees of a model: a few numbers over a fixed part of the validation rows, in one short pass."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaekit.data import Contract
from vaekit.distributions import Distribution
from vaekit.model import VAE
from vaekit.train.machine import seed_noise
from vaekit.train.plan import mix

ROWS = 1000  # validation rows at most: a share is then known to 1.6 % (one standard error), an overlap to 5 %
MEAN_ROWS = 4096  # training rows of which the mean is taken: its own error adds 1/4096 of the variance
ELEMENTS = 1 << 23  # values of x at most: of larger images fewer rows
CARRIES = 0.01  # see `carrying`
NEAR = 0.95  # of the bound: where b tanh(l / b) passes a tenth of the gradient of l


@dataclass(frozen=True)
class Readings:
    """Of a model with D latent dimensions over n rows. None where the model has no such thing."""

    latent: int
    rows: int
    active: int | None = None  # latent dimensions that carry something
    explained: float | None = None  # 1 - error of the reconstructions / error of the training rows' mean
    overlap: float | None = None  # of codes and prior, 0 where they never meet, 1 where they are alike
    headroom: float | None = None  # nats from the likelihood's learned log-scale down to its floor
    at_bound: int | None = None  # latent dimensions whose log-variance is at the posterior's bound


class Examination:
    """The same rows, the same noise each time; the loop's noise is seeded a step, so nothing of it is disturbed."""

    def __init__(
        self, train: Any, valid: Any, preparation: Any, contract: Contract, batch: int, seed: int,
        device: torch.device,
    ) -> None:  # fmt: skip
        self.train, self.valid, self.preparation = train, valid, preparation
        self.batch, self.seed, self.device = batch, seed, device
        self.nominal = contract.kind == "categories"
        most = min(ROWS, max(64, ELEMENTS // math.prod(contract.shape)), len(valid))
        self.index = _spread(len(valid), most)
        self.usual: Tensor | None = None  # the training rows' mean [*shape], of categories their mode

    @torch.no_grad()
    def __call__(self, model: VAE) -> Readings:
        """Look at a model in eval mode. One wait for the device, at the end."""
        seed_noise(self.device, mix(self.seed, "doctor"))
        D = model.latent
        if not D:
            return Readings(0, len(self.index), headroom=_headroom(model))
        means, log_variances, drawn = [], [], []
        errors: list[Tensor] | None = []
        for first in range(0, len(self.index), self.batch):
            x, c = self._rows(self.valid, self.index[first : first + self.batch])
            q = model.encode(x, c)
            means.append(q.mean)
            if (log_variance := getattr(q, "log_variance", None)) is not None:
                log_variances.append(log_variance.expand_as(q.mean))
                drawn.append(_weighed(model, q, c, len(x)))
            if errors is not None:
                errors = self._error(errors, model.decode(q.mean, c), x)
        numbers: dict[str, Tensor] = {}
        if errors:
            wrong, wrong_at_usual = torch.stack(errors).sum(0)
            numbers["explained"] = 1 - wrong / wrong_at_usual
        if log_variances:
            mean, log_variance = torch.cat(means), torch.cat(log_variances)
            numbers["active"] = carrying(mean, log_variance).sum()
            numbers["overlap"] = overlap(*torch.cat(drawn, 1))
            bound = getattr(model.posterior, "bound", 0.0)
            if bound:
                numbers["at_bound"] = ((log_variance.abs() > NEAR * bound).float().mean(0) > 0.5).sum()
        values = torch.stack([n.float() for n in numbers.values()]).tolist() if numbers else []
        read: dict[str, Any] = dict(zip(numbers, values, strict=True))
        for name in ("active", "at_bound"):
            if name in read:
                read[name] = int(read[name])
        return Readings(D, len(self.index), headroom=_headroom(model), **read)

    def _rows(self, batches: Any, index: np.ndarray) -> tuple[Tensor, Tensor | None]:
        raw, c = batches.get(index)
        return self.preparation(raw), c

    def _error(self, errors: list[Tensor], p_x: Distribution, x: Tensor) -> list[Tensor] | None:
        """With the error of this batch and that of the training rows' mean in its place [2] added; None where
        the law has no mean (an autoregressive one)."""
        if self.usual is None:
            rows = self._rows(self.train, _spread(len(self.train), MEAN_ROWS))[0]
            self.usual = rows.mode(0).values if self.nominal else rows.mean(0)
        try:
            again = p_x.centre if self.nominal else p_x.mean
        except NotImplementedError:
            return None
        return [*errors, torch.stack([self._distance(x, again), self._distance(x, self.usual)])]

    def _distance(self, x: Tensor, y: Tensor) -> Tensor:
        """Squared error, or how many categories are others; summed, 0-d."""
        return ((x - y).abs() > 1e-3).float().sum() if self.nominal else (x - y).float().square().sum()


def _spread(n: int, most: int) -> np.ndarray:
    """At most `most` of n rows, evenly spread: rows often stand by class."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.int64))


def carrying(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Which latent dimensions carry something, bool [D], from mean, log_variance [N, D] of q(z given x_n).

    Those whose mean varies over rows by more than 0.01 of the posterior's own variance. For codes of unit
    variance that is the active unit of Burda et al. 2016 (https://arxiv.org/abs/1509.00519, sec. 5.2); as a ratio
    it also holds under a learned prior, whose scale is its own. Below it a Gaussian channel of that
    signal-to-noise carries under 0.005 nats.
    """
    return mean.var(0) > CARRIES * log_variance.exp().mean(0)


def overlap(first: Tensor, second: Tensor) -> Tensor:
    """How much two samples [N], [M] of numbers overlap: 1 - the Kolmogorov-Smirnov distance, 0-d."""
    step = torch.cat((torch.full_like(first, 1 / len(first)), torch.full_like(second, -1 / len(second))))
    return 1 - step[torch.cat((first, second)).argsort()].cumsum(0).abs().max()


def _weighed(model: VAE, q: Distribution, c: Tensor | None, n: int) -> Tensor:
    """log p(z) of n codes and of n draws from the prior [2, n]."""
    prior = model.prior(c)
    codes, draws = q.sample(), model.draw(n, c)
    return torch.stack((prior.log_prob(codes), prior.log_prob(draws)))


def _headroom(model: VAE) -> float | None:
    """The least of what the likelihood's scales tell, nats; None where none is learned."""
    told = [part.headroom() for part in model.likelihood.modules() if hasattr(part, "headroom")]  # type: ignore[operator]
    known = [float(value) for value in told if value is not None]
    return min(known) if known else None
