"""Nets fit any shape, take a condition, and run draws as one batch."""

import pytest
import torch

from vaekit import (
    MLP,
    BernoulliLikelihood,
    Constant,
    ConvDecoder,
    ConvEncoder,
    GatedMLP,
    ResidualMLP,
    ResNetDecoder,
    ResNetEncoder,
)
from vaekit.nets import KerasDecoder, KerasEncoder
from vaekit.nets.common import over_draws

SHAPES = [(1, 8, 8), (3, 32, 32), (1, 28, 20), (1, 9, 13), (2, 5, 1), (4, 1, 1)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("condition", [0, 3])
@pytest.mark.parametrize(
    ("encoder", "decoder"),
    [(MLP, MLP), (ResidualMLP, ResidualMLP), (GatedMLP, GatedMLP), (ConvEncoder, ConvDecoder),
     (ResNetEncoder, ResNetDecoder), (KerasEncoder, KerasDecoder)],
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
