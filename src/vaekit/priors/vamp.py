from __future__ import annotations

import torch
from torch import Tensor, nn

from vaekit.distributions import DiagonalGaussian, Mixture
from vaekit.errors import VaekitError
from vaekit.priors.mixture import MixturePrior


class VampPrior(nn.Module):
    """p(z) = 1/M sum_m q(z given u_m), M = `components` learned pseudo-inputs u_m of the data's `shape`.

    Tomczak and Welling 2018, https://arxiv.org/abs/1705.07120, eq. 9. It is *given* the posterior and shares its
    weights, which belong to the posterior. In a conditional model each pseudo-input has its own learned
    condition, so p(z) itself does not depend on c. Pseudo-inputs are not held to the range of the data.
    Raises VaekitError for a posterior without a density.
    """

    def __init__(
        self,
        posterior: nn.Module,
        latent: int,
        shape: tuple[int, ...],
        components: int = 100,
        condition: int = 0,
    ) -> None:
        super().__init__()
        if not getattr(posterior, "has_density", True):
            raise VaekitError(
                f"VampPrior needs a posterior with a density; {type(posterior).__name__} has none"
            )
        if components < 1:
            raise VaekitError(f"prior.components is {components}; a mixture needs at least 1")
        self.latent = latent
        self._posterior = (
            posterior,
        )  # in a tuple: not a submodule, so its weights are saved once, under "posterior"
        self.pseudo_inputs = nn.Parameter(torch.rand(components, *shape))
        self.pseudo_conditions = nn.Parameter(torch.zeros(components, condition)) if condition else None

    def initialise(self, x: Tensor, c: Tensor | None, n_data: int) -> None:
        """Start the pseudo-inputs at training rows, x [B, *shape] in model units, each met about equally often."""
        rows = torch.arange(len(self.pseudo_inputs), device=x.device) % len(x)
        with torch.no_grad():
            self.pseudo_inputs.copy_(x[rows])
            if c is not None and self.pseudo_conditions is not None:
                self.pseudo_conditions.copy_(4.0 * c[rows])

    @torch.no_grad()
    def apart(self) -> MixturePrior:
        """The same law by itself: what the posterior makes of the pseudo-inputs now, as a mixture that later changes of
        the posterior leave alone."""
        components = self().components
        prior = MixturePrior(self.latent, len(self.pseudo_inputs)).to(components.mean.device)
        prior.means.copy_(components.mean)
        prior.log_variances.copy_(components.log_variance)
        return prior

    def forward(self, c: Tensor | None = None) -> Mixture:
        conditions = None if self.pseudo_conditions is None else self.pseudo_conditions.softmax(-1)
        components = self._posterior[0](self.pseudo_inputs, conditions)
        if not isinstance(components, DiagonalGaussian):
            raise VaekitError(f"VampPrior needs a Gaussian posterior, not {type(components).__name__}")
        return Mixture(
            torch.zeros(len(self.pseudo_inputs), dtype=components.mean.dtype, device=components.mean.device),
            components,
        )
