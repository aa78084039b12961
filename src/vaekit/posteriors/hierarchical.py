from __future__ import annotations

from torch import Tensor, nn

from vaekit.chains import Chain, conditionals, grouped
from vaekit.distributions import DiagonalGaussian, full
from vaekit.nets.common import softly


class HierarchicalPosterior(nn.Module):
    """q(z given x, c) = q(z_1 given x) q(z_2 given x, z_1) ...: groups of dimensions, drawn from the top down.

    Soenderby et al. 2016, https://arxiv.org/abs/1602.02282, sec. 2.2, without the sharing of the prior's nets. `net`
    gives [N, 8 D] numbers: mean and log-variance of the top group, and features that a residual net (`width`, `depth`)
    for each further group reads beside the groups above. Over one draw of z_1 the law is no Gaussian, so it is the
    richer posterior under any prior; its `mean` is the centre, each group's mean given the means above. `groups`: sizes
    that add up to model.latent (default: two halves), else VaekitError. Log-variances l are bounded in fp32 as
    b tanh(l / b), b = `log_variance_bound`; 0 leaves them as they are.
    """

    outputs_per_latent = 8
    has_density = True

    def __init__(
        self, net: nn.Module, latent: int, groups: tuple[int, ...] = (), width: int = 256, depth: int = 1,
        log_variance_bound: float = 20.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.net, self.bound = net, log_variance_bound
        self.sizes = grouped(latent, tuple(groups))
        features = self.outputs_per_latent * latent - 2 * self.sizes[0]
        self.rest = conditionals(self.sizes, features, width, depth, log_variance_bound)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Chain:
        out = full(self.net(x) if c is None else self.net(x, c))  # [B, 8 D]
        top = self.sizes[0]
        mean, log_variance, features = out.split((top, top, out.shape[-1] - 2 * top), -1)
        first = DiagonalGaussian(mean, softly(log_variance, self.bound))
        return Chain(first, list(self.rest), self.sizes, features)
