from __future__ import annotations

from torch import Tensor

from vaekit.errors import VaekitError
from vaekit.model import VAE
from vaekit.objectives.common import Ramp, ramp
from vaekit.objectives.iwae import IWAE, log_mean_exp, terms_of


class CIWAE(IWAE):
    """-(w ELBO + (1 - w) importance-weighted bound), nats, w = `elbo_weight`, both of the same K = `draws` draws.

    Rainforth et al. 2018, https://arxiv.org/abs/1802.04537, eq. 16. w = 0 is IWAE, w = 1 the ELBO over K draws.
    The other settings are those of IWAE.
    """

    def __init__(
        self, model: VAE, draws: int = 64, elbo_weight: float = 0.05, warm_up: float = 0.0,
        schedule: Ramp = "linear", after: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(model, draws, warm_up, schedule, after)
        if not 0 <= elbo_weight <= 1:
            raise VaekitError(f"objective.elbo_weight is {elbo_weight}; give 0 to 1")
        self.elbo_weight = elbo_weight

    def forward(self, x: Tensor, c: Tensor | None, t: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        if self.early:
            return self.one(x, c, t)
        trace = self.model(x, c, self.draws)
        beta = ramp(t, self.warm_up, self.schedule, 1)
        log_w = self.tempered(trace, beta)
        loss = -self._combined(log_w)
        return loss, terms_of(trace, loss, self._combined(trace.log_w), beta)

    def _combined(self, log_w: Tensor) -> Tensor:
        """log w [K, B] -> 0-d."""
        w = self.elbo_weight
        return w * log_w.mean() + (1 - w) * log_mean_exp(log_w).mean()
