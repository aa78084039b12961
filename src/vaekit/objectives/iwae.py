from __future__ import annotations

import math

import torch
from torch import Tensor

from vaekit.errors import VaekitError
from vaekit.model import VAE, Trace
from vaekit.objectives.common import Objective, Ramp, check_settings, ramp


class IWAE(Objective):
    """-(importance-weighted bound) of K = `draws` (Burda et al. 2016, https://arxiv.org/abs/1509.00519, eq. 8).

    L_K = mean over B of [ logsumexp_k log w_k - log K ]. `warm_up` scales log p(z) - log q(z given x) as ELBO's does.
    Terms: loss, bound (L_K itself, nats), elbo, rate, distortion, beta. Needs a posterior with a density.
    """

    def __init__(self, model: VAE, draws: int = 8, warm_up: float = 0.0, schedule: Ramp = "linear") -> None:
        super().__init__(model)
        if not getattr(model.posterior, "has_density", True):
            name, posterior = type(self).__name__, type(model.posterior).__name__
            raise VaekitError(
                f"{name} needs a posterior with a density; {posterior} has none: use ELBO with beta 0"
            )
        check_settings(draws, warm_up)
        self.draws, self.warm_up, self.schedule = draws, warm_up, schedule

    def tempered(self, trace: Trace, beta: Tensor) -> Tensor:
        """log w with the prior and the posterior weighed by beta [K, B]."""
        assert trace.log_qz is not None
        return trace.log_px + beta * (trace.log_pz - trace.log_qz)

    def forward(self, x: Tensor, c: Tensor | None, t: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        trace = self.model(x, c, self.draws)
        beta = ramp(t, self.warm_up, self.schedule, 1)
        loss = -_log_mean_exp(self.tempered(trace, beta)).mean()
        return loss, _terms(trace, loss, beta)


def _log_mean_exp(log_w: Tensor) -> Tensor:
    """logsumexp over K minus log K: [K, B] -> [B]."""
    return torch.logsumexp(log_w, 0) - math.log(len(log_w))


@torch.no_grad()
def _terms(trace: Trace, loss: Tensor, beta: Tensor) -> dict[str, Tensor]:
    """The logged numbers: the bounds themselves, at beta = 1, never a gradient surrogate."""
    distortion, elbo = trace.distortion.mean(), trace.log_w.mean()
    return {
        "loss": loss.detach(), "bound": _log_mean_exp(trace.log_w).mean(), "elbo": elbo,
        "rate": -elbo - distortion, "distortion": distortion, "beta": beta.detach(),
    }  # fmt: skip


class DReG(IWAE):
    """The importance-weighted bound with the doubly reparameterised gradient for the posterior.

    Tucker et al. 2019, https://arxiv.org/abs/1810.04152, eq. 8: with w~ the normalised weights, prior and likelihood
    receive sum_k w~_k grad log w_k, the posterior sum_k w~_k^2 (d log w_k / dz_k) (dz_k / d phi), its own parameters
    constant inside log q. While a warm-up weighs log p(z) - log q by beta, the score that is reparameterised twice
    carries beta, and w~^2 becomes (1 - beta) w~ + beta w~^2. The bound of IWAE, gradients of lower variance.
    """

    def forward(self, x: Tensor, c: Tensor | None, t: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        q = self.model.posterior(x, c)
        z, log_qz = q.rsample_and_log_prob((self.draws,))
        beta = ramp(t, self.warm_up, self.schedule, 1)
        # The weights come from a first pass without gradient (a third more arithmetic): the second pass needs
        # them before the decoder, and a hook on z that would spare it cannot be traced by torch.compile.
        with torch.no_grad():
            trace = self.model.weigh(x, c, q, z, log_qz)
            log_w = self.tempered(trace, beta)
            weights = torch.softmax(log_w, 0)  # [K, B]
        share = (1 - beta) + beta * weights  # w~ itself once beta is 1
        scaled = z.detach() + share.unsqueeze(-1) * (z - z.detach())  # z, its gradient times this
        stopped = q.detach()
        again = self.model.weigh(x, c, stopped, scaled, stopped.log_prob(scaled))
        surrogate = -(weights * self.tempered(again, beta)).sum(0).mean()
        return surrogate, _terms(trace, -_log_mean_exp(log_w).mean(), beta)
