from __future__ import annotations

import math
from typing import Literal

from torch import Tensor, nn

from vaekit.distributions import DiscretisedLogistic, OnGrid
from vaekit.errors import VaekitError
from vaekit.likelihoods.common import Likelihood
from vaekit.likelihoods.scale import Scale


class DiscretisedLogisticLikelihood(Likelihood):
    """Integers 0..n, n = `levels`, as a rounded logistic law: the bound is a bound on bits (Kingma et al. 2016).

    `net` gives the location in model units, x = integer / n; `scale` is one number in the same units, or "learned".
    Raises VaekitError for a scale that is not positive.
    """

    kinds = ("levels", "8-bit", "colour")

    def __init__(
        self,
        net: nn.Module,
        levels: int,
        scale: float | Literal["learned"] = "learned",
        initialise_bias: bool = True,
    ) -> None:
        super().__init__(net, initialise_bias)
        if not isinstance(scale, str) and not scale > 0:
            raise VaekitError(f"likelihood.scale is {scale}; give a positive number or 'learned'")
        self.levels = levels
        self.scale = Scale(None if isinstance(scale, str) else scale)

    def initialise(self, x: Tensor, c: Tensor | None, n_data: int) -> None:
        self.start_bias_at(x.mean(0))
        # a logistic law of scale s has standard deviation pi s / sqrt(3)
        self.scale.start_at((x - x.mean(0)).square().mean().sqrt() * math.sqrt(3) / math.pi)

    def forward(self, z: Tensor, c: Tensor | None = None) -> OnGrid:
        mean = self.parameters_of(z, c)
        log_scale = self.scale(mean) + math.log(self.levels)
        event_dims = mean.dim() - z.dim() + 1
        return OnGrid(
            DiscretisedLogistic(mean * self.levels, log_scale, self.levels, event_dims), self.levels
        )
