from __future__ import annotations

import torch
from torch import Tensor

from vaekit.errors import VaekitError
from vaekit.model import VAE
from vaekit.objectives.common import Ramp, ramp
from vaekit.objectives.iwae import IWAE, log_mean_exp, terms_of


class MIWAE(IWAE):
    """-(mean over M = `estimates` of the importance-weighted bound with K = `draws`), nats: M K draws in all.

    Rainforth et al. 2018, https://arxiv.org/abs/1802.04537, eq. 15. The bound logged is this one, L_K, with less noise.
    The other settings are those of IWAE; before `after` one draw is taken in all.
    """

    def __init__(
        self, model: VAE, draws: int = 8, estimates: int = 8, warm_up: float = 0.0, schedule: Ramp = "linear",
        after: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(model, draws, warm_up, schedule, after)
        if estimates < 1:
            raise VaekitError(f"objective.estimates is {estimates}; give at least 1")
        self.estimates = estimates

    def forward(self, x: Tensor, c: Tensor | None, t: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        if self.early:
            return self.one(x, c, t)
        trace = self.model(x, c, self.estimates * self.draws)
        beta = ramp(t, self.warm_up, self.schedule, 1)
        loss = -log_mean_exp(self._apart(self.tempered(trace, beta)), 1).mean()
        return loss, terms_of(trace, loss, log_mean_exp(self._apart(trace.log_w), 1), beta)

    def _apart(self, log_w: Tensor) -> Tensor:
        """[M K, B] -> [M, K, B]."""
        return log_w.unflatten(0, (self.estimates, self.draws))


class PIWAE(MIWAE):
    """Prior and likelihood climb the bound with all M K draws, the posterior the mean of M bounds with K draws.

    Rainforth et al. 2018, https://arxiv.org/abs/1802.04537, sec. 6: more draws tighten the bound, and drown the signal of
    the posterior's gradient in noise. Logged is the bound with all M K draws. With one estimate it is IWAE.
    """

    FLOOR = 1e-20  # of an estimate's share in all the weight

    def forward(self, x: Tensor, c: Tensor | None, t: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        if self.early:
            return self.one(x, c, t)
        q = self.model.posterior(x, c)
        z, log_qz = q.rsample_and_log_prob((self.estimates * self.draws,))
        beta = ramp(t, self.warm_up, self.schedule, 1)
        with torch.no_grad():  # the second pass needs the weights before the decoder, as in DReG
            trace = self.model.weigh(x, c, q, z, log_qz)
            log_w = self.tempered(trace, beta)
            share = torch.softmax(torch.logsumexp(self._apart(log_w), 1), 0).clamp_min(self.FLOOR)  # [M, B]
            whole = torch.softmax(self._apart(log_w), 1) * share.unsqueeze(1)  # of all M K draws [M, K, B]
            ratio = 1 / (self.estimates * share)  # what a draw weighs for the posterior, over `whole`
            ratio = ratio.unsqueeze(1).expand_as(whole).flatten(0, 1).unsqueeze(-1)  # [M K, B, 1]
            whole = whole.flatten(0, 1)
        scaled = z.detach() + ratio * (z - z.detach())  # z, its gradient times the ratio
        again = self.model.weigh(x, c, q, scaled, log_qz)
        assert again.log_qz is not None
        own = ratio.squeeze(-1) * again.log_qz
        climbed = whole * (again.log_px + beta * (again.log_pz - own))
        return -climbed.sum(0).mean(), terms_of(
            trace, -log_mean_exp(log_w).mean(), log_mean_exp(trace.log_w), beta
        )
