from __future__ import annotations

import torch
from torch import Tensor, nn

from vaekit.distributions import Mixture
from vaekit.errors import VaekitError
from vaekit.flows import FullGaussian


class FullMixturePrior(nn.Module):
    """A mixture of M = `components` Gaussians, each with a covariance of its own, in full.

    p(z given c) = sum_m w_m(c) N(z; mean_m, covariance_m): in a conditional model each label has its own weights over
    the same components. What `vaekit fit-prior` fits to the codes of a trained model (Ghosh et al. 2020,
    https://arxiv.org/abs/1903.12436, sec. 4); it can be learned with the model as well. A component is held as the
    inverse of its covariance's Cholesky factor, whose diagonal is exp(`log_diagonal`).
    """

    def __init__(self, latent: int, components: int = 10, condition: int = 0) -> None:
        super().__init__()
        if components < 1:
            raise VaekitError(f"prior.components is {components}; a mixture needs at least 1")
        self.latent, self.condition = latent, condition
        self.logits = nn.Parameter(
            torch.zeros(condition, components) if condition else torch.zeros(components)
        )
        # apart from the start, or all components stay alike: spread as draws of N(0, I) are
        self.means = nn.Parameter(torch.randn(components, latent))
        self.log_diagonal = nn.Parameter(torch.zeros(components, latent))
        # what stands below the diagonal; the other half is not looked at
        self.below = nn.Parameter(torch.zeros(components, latent, latent))

    @torch.no_grad()
    def become(self, weights: Tensor, means: Tensor, covariances: Tensor) -> None:
        """Take the form of a mixture: weights [M] (conditional: [labels, M]), means [M, D], covariances [M, D, D].

        Raises VaekitError for a covariance that is not positive definite.
        """
        factors, failed = torch.linalg.cholesky_ex(covariances.double())
        if failed.any():
            raise VaekitError("a covariance of the mixture is not positive definite; fit fewer components")
        identity = torch.eye(self.latent, dtype=factors.dtype, device=factors.device).expand_as(factors)
        whitening = torch.linalg.solve_triangular(factors, identity, upper=False)
        self.logits.copy_(weights.double().clamp_min(1e-30).log())
        self.means.copy_(means)
        self.log_diagonal.copy_(whitening.diagonal(dim1=-2, dim2=-1).log())
        self.below.copy_(whitening.tril(-1))

    def forward(self, c: Tensor | None = None) -> Mixture:
        diagonal = torch.diag_embed(self.log_diagonal.clamp(-15.0, 15.0).exp())
        components = FullGaussian(self.means, diagonal + self.below.tril(-1))
        if not self.condition:
            return Mixture(self.logits, components)
        assert c is not None
        logits = (c.unsqueeze(-1) * self.logits).sum(-2)  # [B, M]; as a product, autocast would round it
        return Mixture(logits, components)
