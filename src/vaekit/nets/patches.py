"""Residual convolutions on a coarse grid of patches, for any (C, H, W).

Most of a convolutional net's gain at a fraction of its cost on a CPU, where large maps of few channels are slow.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaekit.nets.common import Activation, activation_named, channels_last, exactly, joined, with_maps
from vaekit.nets.convolutions import one_channel_last
from vaekit.nets.resnet import ConvBlock


def _grid(height: int, width: int, patch: int) -> tuple[int, int]:
    """Patches down and across; the last ones may reach over the edge."""
    return math.ceil(height / patch), math.ceil(width / patch)


class PatchEncoder(nn.Module):
    """Patches of `patch` x `patch` pixels, seen with half a patch around them, as `channels` numbers each; `blocks`
    residual blocks of 3x3 convolutions between patches, a hidden layer and a linear layer."""

    def __init__(
        self,
        in_shape: tuple[int, int, int],
        out_shape: tuple[int, ...],
        patch: int = 4,
        channels: int = 64,
        blocks: int = 2,
        hidden: int = 256,
        activation: Activation = "silu",
        condition: int = 0,
    ) -> None:
        super().__init__()
        self.out_shape = tuple(out_shape)
        inputs, height, width = in_shape
        down, across = _grid(height, width, patch)
        margin = patch // 2
        # left, right, top, bottom
        self.pad = (margin, across * patch - width + margin, margin, down * patch - height + margin)
        scale = 1 / math.sqrt(max(blocks, 1))
        self.body = nn.Sequential(
            nn.Conv2d(inputs + condition, channels, patch + 2 * margin, stride=patch),
            *(ConvBlock(channels, activation, scale) for _ in range(blocks)),
            activation_named(activation), nn.Flatten(),
            nn.Linear(channels * down * across, hidden), activation_named(activation),
        )  # fmt: skip
        self.last = nn.Linear(hidden, math.prod(out_shape))
        channels_last(self)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """x [N, C, H, W], c [N, condition] -> [N, *out_shape]."""
        h = self.body(F.pad(one_channel_last(with_maps(x, c)), self.pad))
        return exactly(self.last, h).unflatten(1, self.out_shape)


class ToPixels(nn.Module):
    """A 3x3 convolution between patches, h [N, channels, down, across], that gives each one's pixels; a bias a pixel."""

    def __init__(self, channels: int, out_shape: tuple[int, int, int], patch: int) -> None:
        super().__init__()
        self.out_shape, self.patch = out_shape, patch
        self.conv = nn.Conv2d(channels, out_shape[0] * patch**2, 3, padding=1, bias=False)
        self.bias = nn.Parameter(torch.zeros(math.prod(out_shape)))

    def forward(self, h: Tensor) -> Tensor:
        _, height, width = self.out_shape
        x = F.pixel_shuffle(self.conv(h), self.patch)[..., :height, :width]
        return x + self.bias.view(self.out_shape).to(x.dtype)


class PatchDecoder(nn.Module):
    """A hidden layer and a linear one to `channels` numbers a patch, `blocks` residual blocks of 3x3 convolutions between
    patches, and one that gives each patch's pixels."""

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, int, int],
        patch: int = 4,
        channels: int = 64,
        blocks: int = 2,
        hidden: int = 256,
        activation: Activation = "silu",
        condition: int = 0,
    ) -> None:
        super().__init__()
        down, across = _grid(*out_shape[1:], patch)
        scale = 1 / math.sqrt(max(blocks, 1))
        self.enter = nn.Sequential(
            nn.Linear(math.prod(in_shape) + condition, hidden), activation_named(activation),
            nn.Linear(hidden, channels * down * across), nn.Unflatten(1, (channels, down, across)),
        )  # fmt: skip
        self.body = nn.Sequential(
            *(ConvBlock(channels, activation, scale) for _ in range(blocks)), activation_named(activation)
        )
        self.last = ToPixels(channels, out_shape, patch)
        channels_last(self)

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """z [N, D], c [N, condition] -> [N, C, H, W]."""
        return exactly(self.last, self.body(self.enter(joined(z.flatten(1), c))))
