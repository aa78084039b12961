"""Plain convolutional nets for any (C, H, W), odd sizes included."""

from __future__ import annotations

import math

from torch import Tensor, nn

from vaekit.nets.common import (
    Activation,
    activation_named,
    channels_last,
    exactly,
    halvings,
    joined,
    with_maps,
)
from vaekit.nets.convolutions import ConvTranspose2d, LastConv2d, one_channel_last


class ConvEncoder(nn.Module):
    """3x3 convolutions of stride 2, one for each number in `channels`, then a hidden layer and a linear layer."""

    def __init__(
        self,
        in_shape: tuple[int, int, int],
        out_shape: tuple[int, ...],
        channels: tuple[int, ...] = (32, 64),
        hidden: int = 256,
        activation: Activation = "silu",
        condition: int = 0,
    ) -> None:
        super().__init__()
        self.out_shape = tuple(out_shape)
        before, height, width = in_shape
        layers: list[nn.Module] = []
        before += condition
        for after in channels:
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), activation_named(activation)]
            before = after
        height, width = halvings(height, width, len(channels))[-1]
        self.body = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(before * height * width, hidden), activation_named(activation)
        )
        self.last = nn.Linear(hidden, math.prod(out_shape))
        channels_last(self)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """x [N, C, H, W], c [N, condition] -> [N, *out_shape]."""
        return exactly(self.last, self.body(one_channel_last(with_maps(x, c)))).unflatten(1, self.out_shape)


class ConvDecoder(nn.Module):
    """A hidden layer, then 4x4 transposed convolutions of stride 2, cropped to the sizes that the encoder passed.

    `channels` runs from the smallest map to the largest; the last convolution, 3x3, gives the output's channels.
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, int, int],
        channels: tuple[int, ...] = (64, 32),
        hidden: int = 256,
        activation: Activation = "silu",
        condition: int = 0,
    ) -> None:
        super().__init__()
        out_channels, height, width = out_shape
        self.sizes = halvings(height, width, len(channels))[::-1]
        small_height, small_width = self.sizes[0]
        self.enter = nn.Sequential(
            nn.Linear(math.prod(in_shape) + condition, hidden), activation_named(activation),
            nn.Linear(hidden, channels[0] * small_height * small_width), activation_named(activation),
            nn.Unflatten(1, (channels[0], small_height, small_width)),
        )  # fmt: skip
        steps = zip(channels, [*channels[1:], channels[-1]], strict=True)
        self.ups = nn.ModuleList(
            nn.Sequential(ConvTranspose2d(a, b, 4, stride=2, padding=1), activation_named(activation))
            for a, b in steps
        )
        self.last = LastConv2d(channels[-1], out_channels, 3, padding=1)
        channels_last(self)

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """z [N, D], c [N, condition] -> [N, C, H, W]."""
        h = self.enter(joined(z.flatten(1), c))
        for up, (height, width) in zip(self.ups, self.sizes[1:], strict=True):
            h = up(h)[..., :height, :width]
        return exactly(self.last, h)
