from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from vaekit.distributions import DiagonalGaussian, OptimalGaussian, PerUnit
from vaekit.errors import VaekitError
from vaekit.likelihoods.common import Likelihood
from vaekit.likelihoods.scale import Scale, Unit


class GaussianLikelihood(Likelihood):
    """N(net(z), variance), one variance for all elements, in model units; the density is per data unit.

    `variance`: a number (fixed), "learned" (one parameter) or "optimal" (the closed-form optimum of each batch,
    sigma-VAE, Rybkin et al. 2021, https://arxiv.org/abs/2006.13202). `divisor`: the units of the data, one for all
    or one a column. Raises VaekitError for a variance that is not positive.
    """

    kinds = ("real", "counts", "levels", "8-bit", "colour", "binary")
    continuous = True
    running_variance: Tensor

    def __init__(
        self,
        net: nn.Module,
        variance: float | Literal["learned", "optimal"] = "learned",
        divisor: tuple[float, ...] = (1.0,),
        initialise_bias: bool = True,
    ) -> None:
        super().__init__(net, initialise_bias)
        if not isinstance(variance, str) and not variance > 0:
            raise VaekitError(
                f"likelihood.variance is {variance}; give a positive number, 'learned' or 'optimal'"
            )
        self.optimal = variance == "optimal"
        if self.optimal:
            self.register_buffer("running_variance", torch.tensor(1.0))
        else:
            self.scale = Scale(None if isinstance(variance, str) else math.sqrt(variance))
        self.unit = Unit(divisor)

    def initialise(self, x: Tensor, c: Tensor | None, n_data: int) -> None:
        self.start_bias_at(x.mean(0))
        spread = (x - x.mean(0)).square().mean()
        if self.optimal:
            self.running_variance.copy_(spread)
        else:
            self.scale.start_at(spread.sqrt())

    def headroom(self) -> Tensor | None:
        """Nats from an optimal log-scale down to its floor, 0-d; None where it is not optimal."""
        return 0.5 * torch.log(self.running_variance / OptimalGaussian.FLOOR) if self.optimal else None

    def forward(self, z: Tensor, c: Tensor | None = None) -> PerUnit:
        mean = self.parameters_of(z, c)
        event_dims = mean.dim() - z.dim() + 1
        base: OptimalGaussian | DiagonalGaussian
        if self.optimal:
            base = OptimalGaussian(mean, self.running_variance, self.training, event_dims)
        else:
            base = DiagonalGaussian(mean, 2 * self.scale(mean), event_dims)
        return PerUnit(base, self.unit())


def variance_of_r_loss_factor(r_loss_factor: float, elements: int) -> float:
    """The Gaussian variance that `r_loss_factor` x mean squared error means, in nats, up to its constant.

    F / D * sum (x - mean)^2 = sum (x - mean)^2 / (2 variance), so variance = D / (2 F), D = `elements` of an item.
    """
    return elements / (2 * r_loss_factor)
