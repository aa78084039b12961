"""What the doctor sees of a model: a few numbers over a fixed part of the validation rows, in one short pass."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vaekit.data import Batches, Contract
from vaekit.distributions import Distribution
from vaekit.model import VAE
from vaekit.train.machine import seed_noise
from vaekit.train.plan import mix

ROWS = 1000  # validation rows at most: an overlap is then known to about 4 %
FEW = 64  # as many where there are that many
SHARE = 20  # else at most a twentieth of the training rows: the look then costs 2 % of an epoch's steps
MEAN_ROWS = 4096  # training rows of which the mean is taken: its own error adds 1/4096 of the variance
ELEMENTS = 1 << 23  # values of x at most: of larger images fewer rows
ENOUGH = (
    10  # rows: of fewer nothing is said about codes; ten and ten alike miss each other once in 90,000 times
)
CARRIES = 0.01  # see `carrying`
NEAR = 0.95  # of the bound: where b tanh(l / b) passes a tenth of the gradient of l


@dataclass(frozen=True)
class Readings:
    """Of a model with D = `latent` dimensions. None where it has no such thing, or too few rows tell of it."""

    latent: int
    active: int | None = None  # latent dimensions that carry something
    explained: float | None = None  # 1 - error of the reconstructions / error of the training rows' mean
    overlap: float | None = (
        None  # of codes and prior in log p(z): 0 where they never meet, 1 where they are alike
    )
    outside: float | None = None  # nats a dimension that the prior gives its own draws over codes
    headroom: float | None = None  # nats from the likelihood's learned log-scale down to its floor
    at_bound: int | None = None  # latent dimensions whose log-variance is at the posterior's bound


class Examination:
    """The same rows, the same noise each time; the loop's noise is seeded a step, so nothing of it is disturbed."""

    def __init__(
        self, train: Batches, valid: Batches, preparation: nn.Module, contract: Contract, batch: int, seed: int
    ) -> None:  # fmt: skip
        self.train, self.valid, self.preparation = train, valid, preparation
        self.batch, self.seed = batch, seed
        self.nominal = contract.kind == "categories"
        most = min(ROWS, len(train) // SHARE, ELEMENTS // math.prod(contract.shape))
        self.index = _spread(len(valid), max(FEW, most))
        self.usual: Tensor | None = None

    @torch.no_grad()
    def __call__(self, model: VAE) -> Readings:
        """Look at a model in eval mode. One wait for the device, at the end."""
        if self.usual is None:
            self.usual = self._usual()
        seed_noise(self.valid.device, mix(self.seed, "doctor"))
        means, log_variances, drawn = [], [], []
        errors: list[Tensor] | None = []
        # a model of no dimensions has no codes, and what it reconstructs is nothing of x
        for first in range(0, len(self.index) if model.latent else 0, self.batch):
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
            wrong, wrong_at_usual = torch.cat(errors).mean(0)
            # of rows that are all alike there is nothing to explain
            numbers["explained"] = torch.where(wrong_at_usual > 1e-9, 1 - wrong / wrong_at_usual, math.nan)
        if log_variances and len(self.index) >= ENOUGH:
            mean, log_variance = torch.cat(means), torch.cat(log_variances)
            numbers["active"] = carrying(mean, log_variance).sum()
            codes, draws = torch.cat(drawn, 1)
            numbers["overlap"] = overlap(codes, draws)
            numbers["outside"] = (draws.mean() - codes.mean()) / model.latent
            bound = getattr(model.posterior, "bound", 0.0)
            if bound:
                numbers["at_bound"] = ((log_variance.abs() > NEAR * bound).float().mean(0) > 0.5).sum()
        if (headroom := _headroom(model)) is not None:
            numbers["headroom"] = headroom
        values = torch.stack([n.float() for n in numbers.values()]).tolist() if numbers else []
        whole = ("active", "at_bound")
        read: dict[str, Any] = {
            name: int(value) if name in whole else value for name, value in zip(numbers, values, strict=True)
        }
        return Readings(model.latent, **read)

    def _rows(self, batches: Batches, index: np.ndarray) -> tuple[Tensor, Tensor | None]:
        raw, c = batches.get(index)
        return self.preparation(raw), c

    def _usual(self) -> Tensor:
        """The training rows' mean [*shape]; of categories, which have no order, their mode."""
        seed_noise(self.train.device, mix(self.seed, "doctor", 0))
        rows = self._rows(self.train, _spread(len(self.train), MEAN_ROWS))[0]
        return rows.mode(0).values if self.nominal else rows.mean(0)

    def _error(self, errors: list[Tensor], p_x: Distribution, x: Tensor) -> list[Tensor] | None:
        """`errors` and, of each row of this batch, that of the law's mean and that of the training rows' [B, 2]; None
        where the law has no mean (an autoregressive one)."""
        assert self.usual is not None
        try:
            again = p_x.centre if self.nominal else p_x.mean
        except NotImplementedError:
            return None
        return [*errors, torch.stack([self._distance(x, again), self._distance(x, self.usual)], -1)]

    def _distance(self, x: Tensor, y: Tensor) -> Tensor:
        """Mean squared error of each row [B], or the share of categories that are others."""
        wrong = ((x - y).abs() > 1e-3).float() if self.nominal else (x - y).float().square()
        return wrong.flatten(1).mean(1)


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
    draws = prior.sample(() if prior.batch_shape else (n,))
    return torch.stack((prior.log_prob(q.sample()), prior.log_prob(draws)))


def _headroom(model: VAE) -> Tensor | None:
    """Nats from the lowest of the likelihood's learned log-scales to its floor, 0-d; None where none is learned."""
    told = [part.headroom() for part in model.likelihood.modules() if hasattr(part, "headroom")]  # type: ignore[operator]
    known = [value.float() for value in told if value is not None]
    return torch.stack(known).min() if known else None
