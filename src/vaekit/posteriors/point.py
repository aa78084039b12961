from __future__ import annotations

from torch import Tensor, nn

from vaekit.distributions import Point


class PointPosterior(nn.Module):
    """All mass on the code z = net(x, c), `net` giving [N, D]: a plain autoencoder, with no density and so no rate."""

    outputs_per_latent = 1
    has_density = False

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, c: Tensor | None = None) -> Point:
        return Point(self.net(x) if c is None else self.net(x, c))
