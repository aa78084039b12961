from __future__ import annotations

import torch
from torch import Tensor

from vaekit.distributions import DiagonalGaussian
from vaekit.errors import VaekitError
from vaekit.flows import Affine, Composed, Pushforward
from vaekit.priors.flow import FlowPrior


class WhitenedFlowPrior(FlowPrior):
    """p(z given c): N(0, I) through affine couplings, as in `FlowPrior`, and then through one constant affine map.

    The map is not learned but set (`whiten`) to the mean and covariance of codes, so that the couplings meet codes of
    any scale as white noise and need learn only what is not Gaussian about them. What `vaekit fit-prior --kind flow`
    fits. The map is the identity until it is set. RealNVP (Dinh et al. 2017, https://arxiv.org/abs/1605.08803).
    Needs D >= 2, else VaekitError.
    """

    centre: Tensor
    whitening: Tensor

    def __init__(
        self, latent: int, layers: int = 6, hidden: tuple[int, ...] = (128,), condition: int = 0
    ) -> None:
        super().__init__(latent, layers, hidden, condition)
        self.register_buffer("centre", torch.zeros(latent))
        self.register_buffer("whitening", torch.eye(latent))

    @torch.no_grad()
    def whiten(self, mean: Tensor, covariance: Tensor) -> None:
        """Set the constant map by the mean [D] and covariance [D, D] of codes. VaekitError for one that is singular."""
        factor, failed = torch.linalg.cholesky_ex(covariance.double())
        if failed:
            raise VaekitError("the covariance of the codes is singular; there is nothing to whiten them by")
        identity = torch.eye(self.latent, dtype=factor.dtype, device=factor.device)
        self.centre.copy_(mean)
        self.whitening.copy_(torch.linalg.solve_triangular(factor, identity, upper=False))

    def forward(self, c: Tensor | None = None) -> Pushforward:
        base = DiagonalGaussian(self.zeros, self.zeros)
        maps = Composed(self.flow, Affine(self.centre, self.whitening))
        return Pushforward(base, maps, c if self.condition else None)
