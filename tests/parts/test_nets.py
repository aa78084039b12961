"""Nets fit any shape, take a condition, and run draws as one batch."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vaekit import (
    MLP,
    BernoulliLikelihood,
    Constant,
    ConvDecoder,
    ConvEncoder,
    GatedMLP,
    PatchDecoder,
    PatchEncoder,
    ResidualMLP,
    ResNetDecoder,
    ResNetEncoder,
)
from vaekit.nets import KerasDecoder, KerasEncoder
from vaekit.nets.common import over_draws
from vaekit.nets.convolutions import ConvTranspose2d, LastConv2d
from vaekit.nets.keras import SameConv, SameConvTranspose, turned

SHAPES = [(1, 8, 8), (3, 32, 32), (1, 28, 20), (1, 9, 13), (2, 5, 1), (4, 1, 1)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("condition", [0, 3])
@pytest.mark.parametrize(
    ("encoder", "decoder"),
    [(MLP, MLP), (ResidualMLP, ResidualMLP), (GatedMLP, GatedMLP), (ConvEncoder, ConvDecoder),
     (ResNetEncoder, ResNetDecoder), (PatchEncoder, PatchDecoder), (KerasEncoder, KerasDecoder)],
)  # fmt: skip
def test_any_image_there_and_back(shape, condition, encoder, decoder):
    c = torch.randn(5, condition) if condition else None
    down = encoder(shape, (6,), condition=condition)
    up = decoder((6,), shape, condition=condition)
    h = down(torch.rand(5, *shape), c)
    assert h.shape == (5, 6)
    assert up(h, c).shape == (5, *shape)


@pytest.mark.parametrize("net", [MLP, ResidualMLP, GatedMLP])
def test_vectors(net):
    assert net((17,), (4,))(torch.rand(5, 17)).shape == (5, 4)


def test_a_condition_changes_the_output():
    net = ConvDecoder((2,), (1, 7, 7), condition=3)
    z = torch.zeros(3, 2)
    out = net(z, torch.eye(3))
    assert not torch.allclose(out[0], out[1])


@pytest.mark.parametrize("shape", [(1, 4, 3), (7,), (0,)])
def test_a_constant_ignores_what_comes_in_and_starts_at_the_mean_of_the_data(shape):
    net = Constant((5,), shape)
    if shape != (0,):
        x = torch.rand(40, *shape) * 0.8 + 0.1
        BernoulliLikelihood(net).initialise(x, None, 40)
        torch.testing.assert_close(net(torch.randn(1, 5)).sigmoid()[0], x.mean(0))
    out = net(torch.randn(3, 5), torch.randn(3, 2))
    assert out.shape == (3, *shape) and torch.equal(out[0], out[2])
    with torch.no_grad():
        assert not net(torch.randn(3, 5)).requires_grad


def test_draws_are_folded_into_the_batch():
    net = MLP((2,), (1, 3, 3), condition=3).double()
    z, c = torch.randn(4, 5, 2, dtype=torch.float64), torch.eye(5, 3, dtype=torch.float64)
    out = over_draws(net, z, c)
    assert out.shape == (4, 5, 1, 3, 3)
    torch.testing.assert_close(out[2], net(z[2], c))


def test_classes_enter_one_hot():
    net = MLP((4,), (2,), categories=3, hidden=())
    x = torch.tensor([[0.0, 0.5, 1.0, 0.5]])
    one_hot = torch.tensor([[1.0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 1, 0]])
    torch.testing.assert_close(net(x), net.last(one_hot))


def _same_function(mine, torchs, x, *, weights=None):
    """Equal results and equal gradients, for x and for the weights of both, in float64."""
    weights = weights or (tuple(mine.parameters()), tuple(torchs.parameters()))
    xs = [x.clone().requires_grad_() for _ in range(2)]
    ys = [mine(xs[0]), torchs(xs[1])]
    torch.testing.assert_close(ys[0], ys[1], atol=1e-12, rtol=1e-12)
    upstream = torch.randn_like(ys[0])
    grads = [torch.autograd.grad(y, [x, *w], upstream) for y, x, w in zip(ys, xs, weights, strict=True)]
    torch.testing.assert_close(grads[0], grads[1], atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("size", [(1, 1), (4, 7), (5, 2)])
@pytest.mark.parametrize("channels", [(1, 1), (5, 1), (1, 3), (4, 6)])
@pytest.mark.parametrize(
    "settings",
    [(3, 1, 1, 0), (3, 1, 0, 0), (3, 2, 1, 1), (3, 2, 1, 0), (3, 2, 0, 0), (4, 2, 1, 0), (5, 1, 2, 0)],
)
def test_transposed_convolutions_are_those_of_torch(size, channels, settings):
    mine = ConvTranspose2d(*channels, *settings).double()
    torchs = nn.ConvTranspose2d(*channels, *settings).double()
    torchs.load_state_dict(mine.state_dict())
    _same_function(mine, torchs, torch.randn(3, channels[0], *size, dtype=torch.float64))


@pytest.mark.parametrize("channels", [(1, 1), (5, 1), (4, 3)])
@pytest.mark.parametrize("size", [(1, 1), (4, 7)])
def test_a_last_convolution_is_that_of_torch(channels, size):
    mine, torchs = (kind(*channels, 3, padding=1).double() for kind in (LastConv2d, nn.Conv2d))
    torchs.load_state_dict(mine.state_dict())
    _same_function(mine, torchs, torch.randn(3, channels[0], *size, dtype=torch.float64))


@pytest.mark.parametrize("size", [(1, 1), (4, 6), (5, 9), (4, 7)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [(1, 4), (3, 1), (2, 5)])
def test_turned_maps_through_keras_layers_are_maps_with_the_odd_zeros_at_the_far_end(size, stride, channels):
    small = tuple(math.ceil(n / stride) for n in size)
    zeros = [max((m - 1) * stride + 3 - n, 0) for n, m in zip(size, small, strict=True)]
    pads = [n for total in reversed(zeros) for n in (total // 2, total - total // 2)]
    down = SameConv(*channels, stride).double()
    x = torch.randn(3, channels[0], *size, dtype=torch.float64)
    _same_function(
        lambda x: turned(down(turned(x))),
        lambda x: F.conv2d(F.pad(x, pads), down.conv.weight, down.conv.bias, stride),
        x,
        weights=(tuple(down.parameters()),) * 2,
    )
    up = SameConvTranspose(*channels, stride, size).double()
    first = 1 if stride == 1 else 0  # of n + 2 the middle, of 2 n + 1 the first
    _same_function(
        lambda h: turned(up(turned(h))),
        lambda h: F.conv_transpose2d(h, up.conv.weight, up.conv.bias, stride)[
            ..., first : first + size[0], first : first + size[1]
        ],
        torch.randn(3, channels[0], *small, dtype=torch.float64),
        weights=(tuple(up.parameters()),) * 2,
    )


@pytest.mark.parametrize(("encoder", "decoder"), [(KerasEncoder, KerasDecoder), (ConvEncoder, ConvDecoder)])
def test_convolutions_in_bf16_stay_near_those_in_fp32(encoder, decoder):
    torch.manual_seed(0)
    down, up = encoder((1, 12, 12), (6,)), decoder((6,), (1, 12, 12))
    x = torch.rand(5, 1, 12, 12)
    weights = [*down.parameters(), *up.parameters()]

    def pass_through():
        y = up(down(x))
        return y, torch.autograd.grad(y.square().sum(), weights)

    y, grads = pass_through()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough, rough_grads = pass_through()
    assert rough.dtype == torch.float32 and all(g.dtype == torch.float32 for g in rough_grads)
    assert (rough - y).norm() < 0.03 * y.norm()
    for g, r in zip(grads, rough_grads, strict=True):
        assert (r - g).norm() < 0.1 * g.norm()
