from __future__ import annotations

import torch
from torch import Tensor, nn

from vaekit.chains import Chain, conditionals, grouped
from vaekit.distributions import DiagonalGaussian, Distribution
from vaekit.flows import CouplingFlow, Pushforward


class HierarchicalPrior(nn.Module):
    """p(z given c) = p(z_1) p(z_2 given z_1) ...: groups of dimensions, the top one first, as in a hierarchical VAE.

    Soenderby et al. 2016, https://arxiv.org/abs/1602.02282, eq. 1-2. z is all groups side by side, so the likelihood
    sees every level. `groups`: their sizes, which add up to model.latent (default: two halves). The top group has a
    coupling flow of `layers` layers (widths `hidden`; 0 layers: N(0, I)), each further one a Gaussian whose mean and
    variance are a residual net (`width`, `depth`) of the groups above. Raises VaekitError for other sizes.
    """

    zeros: Tensor

    def __init__(
        self,
        latent: int,
        groups: tuple[int, ...] = (),
        layers: int = 4,
        hidden: tuple[int, ...] = (128,),
        width: int = 256,
        depth: int = 1,
        condition: int = 0,
    ) -> None:
        super().__init__()
        self.latent, self.condition = latent, condition
        self.sizes = grouped(latent, tuple(groups))
        top = self.sizes[0]
        self.flow = CouplingFlow(top, layers, tuple(hidden), condition) if layers and top > 1 else None
        self.rest = conditionals(self.sizes, condition, width, depth)
        self.register_buffer("zeros", torch.zeros(top), persistent=False)

    def forward(self, c: Tensor | None = None) -> Chain:
        c = c if self.condition else None
        first: Distribution = DiagonalGaussian(self.zeros, self.zeros)
        if self.flow is not None:
            first = Pushforward(first, self.flow, c)
        return Chain(first, list(self.rest), self.sizes, c)
