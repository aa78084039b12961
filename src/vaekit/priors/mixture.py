from __future__ import annotations

import torch
from torch import Tensor, nn

from vaekit.distributions import DiagonalGaussian, Mixture
from vaekit.errors import VaekitError


class MixturePrior(nn.Module):
    """A mixture of M = `components` diagonal Gaussians with learned weights, means and variances.

    p(z) = sum_m w_m N(z; mean_m, diag(variance_m)) (Dilokthanakul et al. 2016, https://arxiv.org/abs/1611.02648,
    with the components learned and no further hierarchy).
    """

    def __init__(self, latent: int, components: int = 10) -> None:
        super().__init__()
        if components < 1:
            raise VaekitError(f"prior.components is {components}; a mixture needs at least 1")
        self.latent = latent
        self.logits = nn.Parameter(torch.zeros(components))
        # apart from the start, or all components stay alike: spread as draws of N(0, I) are
        self.means = nn.Parameter(torch.randn(components, latent))
        self.log_variances = nn.Parameter(torch.zeros(components, latent))

    def forward(self, c: Tensor | None = None) -> Mixture:
        return Mixture(self.logits, DiagonalGaussian(self.means, self.log_variances.clamp(-20.0, 20.0)))
