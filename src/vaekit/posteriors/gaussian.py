from __future__ import annotations

from torch import Tensor, nn

from vaekit.distributions import DiagonalGaussian, full
from vaekit.nets.common import softly


class GaussianPosterior(nn.Module):
    """q(z given x, c) = N(mean, diag(variance)); `net` gives [N, 2 D], the means and then the log-variances.

    Kingma and Welling 2013, https://arxiv.org/abs/1312.6114, eq. 9. Log-variances l are bounded in fp32 as
    b tanh(l / b), b = `log_variance_bound`, so that no step can overflow; 0 leaves them as they are.
    """

    outputs_per_latent = 2
    has_density = True

    def __init__(self, net: nn.Module, log_variance_bound: float = 20.0) -> None:
        super().__init__()
        self.net, self.bound = net, log_variance_bound

    def forward(self, x: Tensor, c: Tensor | None = None) -> DiagonalGaussian:
        mean, log_variance = full(self.net(x) if c is None else self.net(x, c)).chunk(2, -1)  # [B, D] each
        return DiagonalGaussian(mean, softly(log_variance, self.bound))
