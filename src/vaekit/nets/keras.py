"""Convolutional nets as Keras lays them out, layer by layer: what the Keras tutorials train, and nothing besides."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from vaekit.errors import VaekitError
from vaekit.nets.common import channels_last, exactly, joined, with_maps
from vaekit.nets.convolutions import conv_transpose2d, one_channel_last

KerasActivation = Literal["relu", "leaky_relu", "sigmoid", "linear"]


def keras_activation(name: KerasActivation) -> nn.Module:
    """The activation of that name with Keras' defaults: LeakyReLU falls with slope 0.3 (torch's with 0.01)."""
    kinds = {"relu": nn.ReLU(), "leaky_relu": nn.LeakyReLU(0.3), "sigmoid": nn.Sigmoid()}
    return kinds.get(name, nn.Identity())


class SameConv(nn.Module):
    """A 3x3 convolution with Keras' "same" padding, on maps turned by 180 degrees: ceil(n / stride) outputs.

    Keras puts the odd row of zeros at the far end, torch's padding of 1 at the near end, and to pad by hand copies the
    maps. So these nets turn the picture and, as they go, the kernels; what they compute is the same.
    """

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, 3, stride, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """x [N, before, H, W] -> [N, after, ceil(H / stride), ceil(W / stride)]."""
        conv = self.conv
        return nn.functional.conv2d(x, turned(conv.weight), conv.bias, conv.stride, conv.padding)


def turned(maps: Tensor) -> Tensor:
    """[..., H, W] turned by 180 degrees."""
    return maps.flip(-2, -1)


class TurnedConvTranspose(nn.ConvTranspose2d):
    """A transposed convolution on turned maps: its kernels, too, are turned as they are used."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """x [N, before, H, W] -> [N, after, H', W'], as `convolutions.conv_transpose2d` says."""
        assert self.bias is not None
        return conv_transpose2d(
            x, turned(self.weight), self.bias, self.stride, self.padding, self.output_padding
        )


class SameConvTranspose(nn.Module):
    """A 3x3 transposed convolution with Keras' "same" padding, on turned maps: the gradient of `SameConv`.

    H x stride outputs; `size` [H, W] crops further, where the convolution that this undoes had rounded up.
    """

    def __init__(self, before: int, after: int, stride: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.conv = TurnedConvTranspose(before, after, 3, stride, padding=1, output_padding=stride - 1)
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """x [N, before, H, W] -> [N, after, *size]."""
        y = self.conv(x)
        return y if y.shape[2:] == self.size else y[..., -self.size[0] :, -self.size[1] :]


class TurnBack(nn.Flatten):
    """Turned maps [N, C, H, W] -> rows [N, C * H * W] of the maps as they were."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(turned(x))


def start_as_keras(net: nn.Module, heads: int = 1) -> None:
    """Keras' start: Glorot-uniform kernels, biases of 0 (Glorot and Bengio 2010, eq. 16; PMLR 9:249-256).

    `heads`: the net's `last` layer stands for so many layers side by side, each with a fan-out of its own.
    """
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
                parts = heads if module is getattr(net, "last", None) else 1
                for weight in module.weight.chunk(parts):
                    nn.init.xavier_uniform_(weight)


def _check(channels: tuple[int, ...], strides: tuple[int, ...]) -> None:
    if len(channels) != len(strides) or not channels or not set(strides) <= {1, 2}:
        raise VaekitError(
            f"channels {list(channels)} and strides {list(strides)}: give one stride, 1 or 2, for each convolution"
        )


class KerasEncoder(nn.Module):
    """3x3 "same" convolutions with an activation each, flatten, dense layers of `hidden`, and a linear layer.

    `heads` 2 where the output is a mean and a log-variance, which Keras keeps as two layers: it changes the start only.
    """

    def __init__(
        self,
        in_shape: tuple[int, int, int],
        out_shape: tuple[int, ...],
        channels: tuple[int, ...] = (32, 64),
        strides: tuple[int, ...] = (2, 2),
        hidden: tuple[int, ...] = (16,),
        activation: KerasActivation = "relu",
        heads: int = 2,
        condition: int = 0,
    ) -> None:
        super().__init__()
        _check(channels, strides)
        outputs = math.prod(out_shape)
        if heads < 1 or outputs % heads:
            raise VaekitError(f"posterior.net.heads is {heads}, which does not divide {outputs} outputs")
        self.out_shape = tuple(out_shape)
        before, height, width = in_shape
        before += condition
        layers: list[nn.Module] = []
        for after, stride in zip(channels, strides, strict=True):
            layers += [SameConv(before, after, stride), keras_activation(activation)]
            before, height, width = after, math.ceil(height / stride), math.ceil(width / stride)
        layers.append(TurnBack())
        before *= height * width
        for units in hidden:
            layers += [nn.Linear(before, units), keras_activation(activation)]
            before = units
        self.body = nn.Sequential(*layers)
        self.last = nn.Linear(before, outputs)
        start_as_keras(self, heads)
        channels_last(self)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """x [N, C, H, W], c [N, condition] -> [N, *out_shape]."""
        return exactly(self.last, self.body(one_channel_last(turned(with_maps(x, c))))).unflatten(
            1, self.out_shape
        )


class KerasDecoder(nn.Module):
    """A dense layer to `maps` small maps, 3x3 "same" transposed convolutions, and one more to the output's channels.

    `dense` is the activation behind the dense layer, `output` the one behind the last: "linear" where the likelihood
    takes logits, "sigmoid" where it takes a mean in [0, 1].
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, int, int],
        maps: int = 64,
        channels: tuple[int, ...] = (64, 32),
        strides: tuple[int, ...] = (2, 2),
        activation: KerasActivation = "relu",
        dense: KerasActivation = "relu",
        output: KerasActivation = "linear",
        condition: int = 0,
    ) -> None:
        super().__init__()
        _check(channels, strides)
        out_channels, height, width = out_shape
        sizes = [(height, width)]  # from the largest map to the smallest
        for stride in reversed(strides):
            height, width = math.ceil(height / stride), math.ceil(width / stride)
            sizes.append((height, width))
        self.enter = nn.Sequential(
            nn.Linear(math.prod(in_shape) + condition, maps * height * width),
            keras_activation(dense),
            nn.Unflatten(1, (maps, height, width)),
        )
        layers: list[nn.Module] = []
        before = maps
        for after, stride, size in zip(channels, strides, sizes[-2::-1], strict=True):
            layers += [SameConvTranspose(before, after, stride, size), keras_activation(activation)]
            before = after
        self.body = nn.Sequential(*layers)
        self.last = TurnedConvTranspose(before, out_channels, 3, padding=1)
        self.output = keras_activation(output)
        start_as_keras(self)
        channels_last(self)

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """z [N, D], c [N, condition] -> [N, C, H, W]."""
        maps = self.body(turned(self.enter(joined(z.flatten(1), c))))
        return self.output(turned(exactly(self.last, maps)))
