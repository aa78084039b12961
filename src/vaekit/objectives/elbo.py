from __future__ import annotations

import warnings

from torch import Tensor

from vaekit.errors import VaekitError
from vaekit.model import VAE
from vaekit.objectives.common import Objective, Ramp, check_settings, ramp


class ELBO(Objective):
    """-(evidence lower bound), nats: w x distortion + beta(t) x rate (Kingma and Welling 2013, eq. 3).

    https://arxiv.org/abs/1312.6114

    beta: the weight of the rate (beta-VAE, Higgins et al. 2017, eq. 4); 0 makes a plain autoencoder.
    warm_up, schedule, cycles: the fraction of training over which beta rises from 0 (Bowman et al. 2016,
        https://arxiv.org/abs/1511.06349), "linear", "cosine" or "cyclical".
    free_bits: nats a latent dimension below which its rate, as a mean over the batch, costs nothing extra
        (Kingma et al. 2016, https://arxiv.org/abs/1606.04934, eq. 15). Where the KL does not factorise it acts on
        the total, free_bits x D, and a warning says so.
    capacity: replaces the rate by |rate - C(t)|, C rising from 0 to `capacity` nats over training, beta its weight
        (Burgess et al. 2018, https://arxiv.org/abs/1804.03599, eq. 8).
    distortion_weight: w.

    A posterior without a density has no rate; the term is left out. Terms: loss, distortion, and where there is a
    density rate, elbo (unweighted) and beta.
    """

    def __init__(
        self,
        model: VAE,
        beta: float = 1.0,
        warm_up: float = 0.0,
        schedule: Ramp = "linear",
        cycles: int = 4,
        free_bits: float = 0.0,
        capacity: float | None = None,
        distortion_weight: float = 1.0,
        draws: int = 1,
    ) -> None:
        super().__init__(model)
        check_settings(draws, warm_up, beta, free_bits)
        if free_bits and capacity is not None:
            raise VaekitError(
                "objective.free_bits and objective.capacity both bend the rate; choose one of them"
            )
        self.beta, self.warm_up, self.schedule, self.cycles = beta, warm_up, schedule, cycles
        self.free_bits, self.capacity = free_bits, capacity
        self.distortion_weight, self.draws = distortion_weight, draws

    def initialise(self, x: Tensor, c: Tensor | None, n_data: int) -> None:
        super().initialise(x, c, n_data)
        if self.free_bits and self.model(x[:2], None if c is None else c[:2]).kl is None:
            warnings.warn(
                f"the KL to {type(self.model.prior).__name__} does not factorise: free_bits act on the total, "
                f"{self.free_bits} x {self.model.latent} nats",
                stacklevel=2,
            )

    def bent_rate(self, rate: Tensor, kl: Tensor | None, t: Tensor) -> Tensor:
        """The rate as the loss sees it, 0-d: free bits or capacity applied to rate [B], kl [B, D]."""
        if self.capacity is not None:
            gap = rate - self.capacity * t
            # of a rate known only by its draw, |.| an image would punish the noise of the draw as well
            return gap.abs().mean() if kl is not None else gap.mean().abs()
        if not self.free_bits:
            return rate.mean()
        if kl is None:
            return rate.mean().clamp_min(self.free_bits * self.model.latent)
        return kl.mean(0).clamp_min(self.free_bits).sum()

    def forward(self, x: Tensor, c: Tensor | None, t: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        trace = self.model(x, c, self.draws)
        distortion, rate = trace.distortion.mean(), trace.rate
        loss = self.distortion_weight * distortion + trace.penalty.mean()
        terms = {"distortion": distortion.detach()}
        if rate is not None:
            beta = self.beta * ramp(t, self.warm_up, self.schedule, self.cycles)
            loss = loss + beta * self.bent_rate(rate, trace.kl, t)
            mean_rate = rate.detach().mean()
            terms |= {"rate": mean_rate, "elbo": -(mean_rate + terms["distortion"]), "beta": beta.detach()}
        return loss, {"loss": loss.detach(), **terms}
