"""Convolutions by the fast roads of a CPU: torch's functions of torch's weights, in other layouts and calls."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaekit.distributions import full

Size = tuple[int, ...]


def conv_transpose2d(
    x: Tensor, weight: Tensor, bias: Tensor, stride: Size, padding: Any, output_padding: Size
) -> Tensor:
    """`torch.nn.functional.conv_transpose2d`, up to the order of sums.

    x [N, before, H, W], weight [before, after, k, k], bias [after] ->
    [N, after, (H - 1) stride - 2 padding + k + output_padding, likewise W].
    """
    if x.device.type != "cpu":
        return F.conv_transpose2d(x, weight, bias, stride, padding, output_padding)
    x, weight, bias = (_autocast(a) for a in (x, weight, bias))
    return _Adjoint.apply(x, weight, bias, stride, padding, output_padding)


class ConvTranspose2d(nn.ConvTranspose2d):
    """`nn.ConvTranspose2d`, with `conv_transpose2d` above for the one in torch."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """x [N, before, H, W] -> [N, after, H', W'], as `conv_transpose2d` says."""
        assert self.bias is not None
        return conv_transpose2d(x, self.weight, self.bias, self.stride, self.padding, self.output_padding)


class LastConv2d(nn.Conv2d):
    """`nn.Conv2d` of stride 1 and odd kernel, which to one channel runs as the transposed one of the turned kernel."""

    def forward(self, x: Tensor) -> Tensor:
        """x [N, before, H, W] -> [N, after, H, W]."""
        if x.device.type != "cpu" or self.out_channels > 1:
            return super().forward(x)
        assert self.bias is not None
        turned = self.weight.transpose(0, 1).flip(2, 3)
        return conv_transpose2d(x, turned, self.bias, self.stride, self.padding, (0, 0))


def one_channel_last(x: Tensor) -> Tensor:
    """Maps [N, C, H, W] on their way into a convolution: those of one channel with strides that say channels-last.

    They name the same memory, but from others torch concludes that the many channels of the result are to come first,
    and every layer behind pays for turning them round.
    """
    if x.shape[1] != 1 or x.device.type != "cpu":
        return x
    height, width = x.shape[2:]
    # cast before, for a compiled cast would choose its strides afresh
    return _autocast(x).contiguous().as_strided(x.shape, (height * width, 1, width, 1))


def _autocast(x: Tensor) -> Tensor:
    """What autocast makes of the input of a convolution."""
    wanted = torch.is_autocast_enabled("cpu") and x.dtype != torch.float64
    return x.to(torch.get_autocast_dtype("cpu")) if wanted else x


class _Adjoint(torch.autograd.Function):
    """y = A' x + b, where A is the convolution of that weight: a transposed convolution is a convolution's gradient.

    oneDNN's "deconvolution" is the slower one of the two, above all in bf16 with a bias: forward and backward of
    64 -> 32 channels, 14 -> 28 pixels, batch 128, take 21.6 ms so and 12.8 as the gradient. Against a deconvolution
    with the bias added behind it a step takes 0.97 of the time (keras-conv-leaky, compiled, bf16), 0.87 (keras-conv-2d,
    likewise) or 0.80 (keras-conv-leaky, eager, fp32): medians of seven rounds in turn, CPU time, one core of a loaded
    AMD EPYC (Zen 5), torch 2.13.0, 2026-11-21.
    """

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor, stride: Size, padding: Size, beyond: Size) -> Tensor:
        if weight.shape[1] == 1 and _keeps_size(weight, stride, padding):
            return _by_taps(x, weight) + bias[:, None, None]
        height, width = (
            (n - 1) * s - 2 * p + k + b
            for n, s, p, k, b in zip(x.shape[2:], stride, padding, weight.shape[2:], beyond, strict=True)
        )
        # asked for its shape and layout, never read or written
        y = x.new_empty(x.shape[0], height, width, weight.shape[1]).permute(0, 3, 1, 2)
        return _gradients(y, x, weight, stride, padding, (True, False))[0] + bias[:, None, None]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, _, ctx.stride, ctx.padding, _ = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad_x = grad_weight = grad_bias = None
        with torch.autocast("cpu", enabled=False):  # whatever surrounds the call: all is of one dtype already
            grad = one_channel_last(grad)
            if ctx.needs_input_grad[0]:
                grad_x = F.conv2d(grad, weight, None, ctx.stride, ctx.padding)
            if ctx.needs_input_grad[1]:
                grad_weight = _gradients(grad, x, weight, ctx.stride, ctx.padding, (False, True))[1]
            if ctx.needs_input_grad[2]:  # last: compiled, the first to read `grad` chooses its layout
                grad_bias = grad.sum((0, 2, 3))
        return grad_x, grad_weight, grad_bias, None, None, None


def _gradients(
    before: Tensor, grad: Tensor, weight: Tensor, stride: Size, padding: Size, wanted: tuple[bool, bool]
) -> tuple[Tensor, Tensor]:
    """The gradients for `before` and for `weight` of conv2d(before, weight), given `grad`, that for its result."""
    return torch.ops.aten.convolution_backward(
        grad, before, weight, None, stride, padding, (1, 1), False, (0, 0), 1, (*wanted, False)
    )[:2]


def _keeps_size(weight: Tensor, stride: Size, padding: Size) -> bool:
    return set(stride) == {1} and weight.shape[2:] == tuple(2 * p + 1 for p in padding)


def _by_taps(x: Tensor, weight: Tensor) -> Tensor:
    """To one channel: each tap of the kernel as a channel of a 1x1 convolution, then the sum of the shifted maps.

    A kernel of one output leaves all but one place of a vector register empty. Measured on the same machine, forward,
    from 32 channels at 28x28, batch 32: 1.45 ms as deconvolution and 0.64 so in fp32, 0.56 and 0.35 in bf16. From two
    channels on it does not pay.

    x [N, before, H, W], weight [before, 1, odd, odd] -> [N, 1, H, W].
    """
    before, _, rows, columns = weight.shape
    height, width = x.shape[2:]
    taps = F.conv2d(x, weight.permute(2, 3, 1, 0).reshape(-1, before, 1, 1))  # [N, rows * columns, H, W]
    taps = F.pad(taps, (columns // 2, columns // 2, rows // 2, rows // 2)).unflatten(1, (rows, columns))
    y = full(x.new_zeros(x.shape[0], height, width))
    for i in range(rows):
        for j in range(columns):
            top, left = rows - 1 - i, columns - 1 - j
            y += taps[:, i, j, top : top + height, left : left + width]
    return y.unsqueeze(1).to(x.dtype)
