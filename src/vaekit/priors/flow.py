from __future__ import annotations

import torch
from torch import Tensor, nn

from vaekit.distributions import DiagonalGaussian
from vaekit.flows import CouplingFlow, Pushforward


class FlowPrior(nn.Module):
    """p(z given c): N(0, I) pushed through `layers` affine couplings whose nets have the widths in `hidden`.

    RealNVP (Dinh et al. 2017, https://arxiv.org/abs/1605.08803) as a learned prior
    (Chen et al. 2017, https://arxiv.org/abs/1611.02731, sec. 3.2). Needs D >= 2, else VaekitError.
    """

    zeros: Tensor

    def __init__(
        self, latent: int, layers: int = 6, hidden: tuple[int, ...] = (128,), condition: int = 0
    ) -> None:
        super().__init__()
        self.latent, self.condition = latent, condition
        self.flow = CouplingFlow(latent, layers, tuple(hidden), condition)
        self.register_buffer("zeros", torch.zeros(latent), persistent=False)

    def forward(self, c: Tensor | None = None) -> Pushforward:
        base = DiagonalGaussian(self.zeros, self.zeros)
        return Pushforward(base, self.flow, c if self.condition else None)
