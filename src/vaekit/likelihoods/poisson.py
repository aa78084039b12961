from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaekit.distributions import OnGrid, Poisson
from vaekit.likelihoods.common import Likelihood


class PoissonLikelihood(Likelihood):
    """Counts 0, 1, 2, ...; `net` gives log-rates, softly bounded far above the data so that no step can overflow.

    x = count / `divisor` in model units.
    """

    kinds = ("counts", "levels", "8-bit", "colour")

    def __init__(self, net: nn.Module, divisor: float, initialise_bias: bool = True) -> None:
        super().__init__(net, initialise_bias)
        self.divisor, self.top = divisor, max(13.8, math.log(divisor) + 7)

    def initialise(self, x: Tensor, c: Tensor | None, n_data: int) -> None:
        self.start_bias_at(torch.log(x.mean(0) * self.divisor + 0.01))

    def forward(self, z: Tensor, c: Tensor | None = None) -> OnGrid:
        log_rate = self.top - F.softplus(self.top - self.parameters_of(z, c))
        return OnGrid(Poisson(log_rate, event_dims=log_rate.dim() - z.dim() + 1), self.divisor)
