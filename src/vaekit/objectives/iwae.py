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
    `after`: the fraction of training before which one draw is taken, which makes it the ELBO: K draws cost K times the
    decoder's arithmetic, and gain most at the end. Validation always takes all K; a loop of one's
    own calls `enter(t)` before each step.
    Terms: loss, bound (L_K itself, nats), elbo, rate, distortion, beta. Needs a posterior with a density.
    """

    def __init__(
        self, model: VAE, draws: int = 8, warm_up: float = 0.0, schedule: Ramp = "linear", after: float = 0.0
    ) -> None:
        super().__init__(model)
        if not getattr(model.posterior, "has_density", True):
            name, posterior = type(self).__name__, type(model.posterior).__name__
            raise VaekitError(
                f"{name} needs a posterior with a density; {posterior} has none: use ELBO with beta 0"
            )
        check_settings(draws, warm_up)
        if not 0 <= after < 1:
            raise VaekitError(f"objective.after is {after}, a fraction of training; give 0 or more, below 1")
        self.draws, self.warm_up, self.schedule = draws, warm_up, schedule
        self.after, self.entered = after, after == 0

    def enter(self, t: float) -> int:
        self.entered = t >= self.after
        return int(self.entered)

    @property
    def early(self) -> bool:
        """Whether it is not yet time for more than one draw."""
        return self.training and not self.entered

    def one(self, x: Tensor, c: Tensor | None, t: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The bound of one draw, the ELBO."""
        return self._of(self.model(x, c, 1), t)

    def tempered(self, trace: Trace, beta: Tensor) -> Tensor:
        """log w with the prior and the posterior weighed by beta [K, B]."""
        assert trace.log_qz is not None
        return trace.log_px + beta * (trace.log_pz - trace.log_qz)

    def forward(self, x: Tensor, c: Tensor | None, t: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.one(x, c, t) if self.early else self._of(self.model(x, c, self.draws), t)

    def _of(self, trace: Trace, t: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        beta = ramp(t, self.warm_up, self.schedule, 1)
        loss = -log_mean_exp(self.tempered(trace, beta)).mean()
        return loss, terms_of(trace, loss, log_mean_exp(trace.log_w), beta)


def log_mean_exp(log_w: Tensor, axis: int = 0) -> Tensor:
    """logsumexp over the draws minus the log of their number: [K, B] -> [B]."""
    return torch.logsumexp(log_w, axis) - math.log(log_w.shape[axis])


@torch.no_grad()
def terms_of(trace: Trace, loss: Tensor, bound: Tensor, beta: Tensor) -> dict[str, Tensor]:
    """The logged numbers: the bounds themselves, at beta = 1, never a gradient surrogate. `bound`: any shape."""
    distortion, elbo = trace.distortion.mean(), trace.log_w.mean()
    return {
        "loss": loss.detach(), "bound": bound.detach().mean(), "elbo": elbo,
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
        if self.early:
            return self.one(x, c, t)
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
        return surrogate, terms_of(trace, -log_mean_exp(log_w).mean(), log_mean_exp(trace.log_w), beta)
