"""Fully connected nets for any shape: plain, residual and gated."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn

from vaekit.nets.common import Activation, activation_named, exactly, joined, one_hot


class _Flat(nn.Module):
    """Flatten in, shape out: what the three nets below share. Abstract: `body` and `last` are theirs."""

    body: nn.Module
    last: nn.Linear

    def __init__(
        self, in_shape: tuple[int, ...], out_shape: tuple[int, ...], condition: int, categories: int
    ) -> None:
        super().__init__()
        self.out_shape, self.categories = tuple(out_shape), categories
        self.inputs = math.prod(in_shape) * (categories or 1) + condition
        self.outputs = math.prod(out_shape)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """x [N, *in_shape], c [N, condition] -> [N, *out_shape]."""
        flat = x.flatten(1)
        if self.categories:
            flat = one_hot(flat, self.categories)
        return exactly(self.last, self.body(joined(flat, c))).unflatten(1, self.out_shape)


class MLP(_Flat):
    """Linear layers of the widths in `hidden`, each with an activation, then a linear layer.

    `categories` > 0: inputs are class numbers on the grid k / (categories - 1) and enter one-hot.
    """

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        hidden: tuple[int, ...] = (256, 256),
        activation: Activation = "silu",
        condition: int = 0,
        categories: int = 0,
    ) -> None:
        super().__init__(in_shape, out_shape, condition, categories)
        layers: list[nn.Module] = []
        before = self.inputs
        for width in hidden:
            layers += [nn.Linear(before, width), activation_named(activation)]
            before = width
        self.body = nn.Sequential(*layers)
        self.last = nn.Linear(before, self.outputs)


class GatedLinear(nn.Module):
    """(W x + b) * sigmoid(V x + d), the layer of the VampPrior paper (https://arxiv.org/abs/1705.07120, sec. 4.2)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.both = nn.Linear(before, 2 * after)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.glu(self.both(x), -1)


class GatedMLP(_Flat):
    """Gated linear layers of the widths in `hidden`, then a linear layer."""

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        hidden: tuple[int, ...] = (300, 300),
        condition: int = 0,
        categories: int = 0,
    ) -> None:
        super().__init__(in_shape, out_shape, condition, categories)
        sizes = [self.inputs, *hidden]
        self.body = nn.Sequential(*(GatedLinear(a, b) for a, b in pairwise(sizes)))
        self.last = nn.Linear(sizes[-1], self.outputs)


class ResidualBlock(nn.Module):
    """x + scale * W2 f(W1 f(x)); with n blocks the branches are scaled by 1 / sqrt(n), so the depth adds no variance."""

    def __init__(self, width: int, activation: Activation, scale: float) -> None:
        super().__init__()
        self.first, self.second, self.scale = nn.Linear(width, width), nn.Linear(width, width), scale
        self.activation = activation_named(activation)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.second(self.activation(self.first(self.activation(x))))


class ResidualMLP(_Flat):
    """A linear layer to `width`, `depth` residual blocks of two layers, an activation and a linear layer."""

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        width: int = 512,
        depth: int = 2,
        activation: Activation = "silu",
        condition: int = 0,
        categories: int = 0,
    ) -> None:
        super().__init__(in_shape, out_shape, condition, categories)
        blocks = [ResidualBlock(width, activation, 1 / math.sqrt(max(depth, 1))) for _ in range(depth)]
        self.body = nn.Sequential(nn.Linear(self.inputs, width), *blocks, activation_named(activation))
        self.last = nn.Linear(width, self.outputs)
