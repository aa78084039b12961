from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from vaekit.distributions import Laplace, PerUnit
from vaekit.errors import VaekitError
from vaekit.likelihoods.common import Likelihood
from vaekit.likelihoods.scale import Scale, Unit


class LaplaceLikelihood(Likelihood):
    """Laplace(net(z), scale), one scale for all elements, in model units; the density is per data unit.

    Its mode is the absolute error of many image models. `scale`: a number (fixed) or "learned".
    Raises VaekitError for a scale that is not positive.
    """

    kinds = ("real", "counts", "levels", "8-bit", "colour", "binary")
    continuous = True

    def __init__(
        self,
        net: nn.Module,
        scale: float | Literal["learned"] = "learned",
        divisor: tuple[float, ...] = (1.0,),
        initialise_bias: bool = True,
    ) -> None:
        super().__init__(net, initialise_bias)
        if not isinstance(scale, str) and not scale > 0:
            raise VaekitError(f"likelihood.scale is {scale}; give a positive number or 'learned'")
        self.scale = Scale(None if isinstance(scale, str) else scale)
        self.unit = Unit(divisor)

    def initialise(self, x: Tensor, c: Tensor | None, n_data: int) -> None:
        self.start_bias_at(x.mean(0))
        self.scale.start_at((x - x.mean(0)).abs().mean())

    def forward(self, z: Tensor, c: Tensor | None = None) -> PerUnit:
        mean = self.parameters_of(z, c)
        return PerUnit(Laplace(mean, self.scale(mean), mean.dim() - z.dim() + 1), self.unit())
