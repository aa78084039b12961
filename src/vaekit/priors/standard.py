from __future__ import annotations

import torch
from torch import Tensor, nn

from vaekit.distributions import DiagonalGaussian


class StandardPrior(nn.Module):
    """p(z) = N(0, I) over D = `latent` dimensions (Kingma and Welling 2013, https://arxiv.org/abs/1312.6114)."""

    zeros: Tensor

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.latent = latent
        self.register_buffer("zeros", torch.zeros(latent), persistent=False)

    def forward(self, c: Tensor | None = None) -> DiagonalGaussian:
        return DiagonalGaussian(self.zeros, self.zeros)
