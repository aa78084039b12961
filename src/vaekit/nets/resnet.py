"""Residual convolutional nets for any (C, H, W), odd sizes included."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F

from vaekit.nets.common import (
    Activation,
    activation_named,
    channels_last,
    exactly,
    halvings,
    joined,
    with_maps,
)
from vaekit.nets.convolutions import LastConv2d, one_channel_last


class ConvBlock(nn.Module):
    """x + scale * conv(f(conv(f(x)))), 3x3, as many channels out as in."""

    def __init__(self, channels: int, activation: Activation, scale: float) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.activation, self.scale = activation_named(activation), scale

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.second(self.activation(self.first(self.activation(x))))


class ResNetEncoder(nn.Module):
    """For each number in `channels` a strided 3x3 convolution and `blocks` residual blocks, then linear layers."""

    def __init__(
        self,
        in_shape: tuple[int, int, int],
        out_shape: tuple[int, ...],
        channels: tuple[int, ...] = (32, 64, 128),
        blocks: int = 1,
        hidden: int = 256,
        activation: Activation = "silu",
        condition: int = 0,
    ) -> None:
        super().__init__()
        self.out_shape = tuple(out_shape)
        before, height, width = in_shape
        scale = 1 / math.sqrt(max(len(channels) * blocks, 1))
        layers: list[nn.Module] = []
        before += condition
        for after in channels:
            # 3x3 with stride 2 and padding 1 gives ceil(size / 2) for even and odd sizes alike
            layers.append(nn.Conv2d(before, after, 3, stride=2, padding=1))
            layers += [ConvBlock(after, activation, scale) for _ in range(blocks)]
            before = after
        height, width = halvings(height, width, len(channels))[-1]
        self.body = nn.Sequential(
            *layers, activation_named(activation), nn.Flatten(),
            nn.Linear(before * height * width, hidden), activation_named(activation),
        )  # fmt: skip
        self.last = nn.Linear(hidden, math.prod(out_shape))
        channels_last(self)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """x [N, C, H, W], c [N, condition] -> [N, *out_shape]."""
        return exactly(self.last, self.body(one_channel_last(with_maps(x, c)))).unflatten(1, self.out_shape)


class ResNetDecoder(nn.Module):
    """A linear layer to the smallest map; at each size residual blocks, then nearest upsampling to the next size
    (exact for odd sizes) and a 3x3 convolution; a last 3x3 convolution gives the output's channels.

    `channels` runs from the smallest map to the largest.
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, int, int],
        channels: tuple[int, ...] = (128, 64, 32),
        blocks: int = 1,
        hidden: int = 256,
        activation: Activation = "silu",
        condition: int = 0,
    ) -> None:
        super().__init__()
        out_channels, height, width = out_shape
        self.sizes = halvings(height, width, len(channels))[::-1]
        small_height, small_width = self.sizes[0]
        scale = 1 / math.sqrt(max(len(channels) * blocks, 1))
        self.enter = nn.Sequential(
            nn.Linear(math.prod(in_shape) + condition, hidden), activation_named(activation),
            nn.Linear(hidden, channels[0] * small_height * small_width),
            nn.Unflatten(1, (channels[0], small_height, small_width)),
        )  # fmt: skip
        after_each = [*channels[1:], channels[-1]]
        self.blocks = nn.ModuleList(
            nn.Sequential(
                *(ConvBlock(a, activation, scale) for _ in range(blocks)), activation_named(activation)
            )
            for a in channels
        )
        self.ups = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1) for a, b in zip(channels, after_each, strict=True)
        )
        self.activation = activation_named(activation)
        self.last = LastConv2d(channels[-1], out_channels, 3, padding=1)
        channels_last(self)

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """z [N, D], c [N, condition] -> [N, C, H, W]."""
        h = self.enter(joined(z.flatten(1), c))
        for block, up, size in zip(self.blocks, self.ups, self.sizes[1:], strict=True):
            h = up(F.interpolate(block(h), size=size, mode="nearest"))
        return exactly(self.last, self.activation(h))
