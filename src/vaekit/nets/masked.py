"""A net whose output d sees the inputs before d alone: what an autoregressive law is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaekit.nets.common import Activation, activation_named, exactly


class MaskedLinear(nn.Linear):
    """A linear layer whose unit of degree m sees the units before it of degree up to m (`strict`: below m)."""

    mask: Tensor

    def __init__(
        self, before: Sequence[int], after: Sequence[int], strict: bool = False, bias: bool = True
    ) -> None:
        super().__init__(len(before), len(after), bias)
        degree, reach = torch.tensor(before), torch.tensor(after).unsqueeze(-1)
        # no part of the weights: it follows from the sizes
        self.register_buffer("mask", degree < reach if strict else degree <= reach, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.mask, self.bias)


class MaskedMLP(nn.Module):
    """F numbers to F numbers, the d-th a function of the inputs before d (MADE, Germain et al. 2015).

    https://arxiv.org/abs/1502.03509, eq. 8-9. Input and output d have degree d = 1..F. The degrees of a hidden layer
    of width H are even and fixed, unit h having 1 + floor(h (F - 1) / H): no seed, and none over F - 1. With no
    hidden layer it is one strictly lower triangular matrix. The last layer has no bias, which is the caller's.
    """

    def __init__(self, features: int, hidden: tuple[int, ...], activation: Activation) -> None:
        super().__init__()
        ends = range(1, features + 1)
        inside = [[1 + h * (features - 1) // width for h in range(width)] for width in hidden]
        self.degrees: list[Sequence[int]] = [ends, *inside]
        self.hidden = nn.ModuleList(MaskedLinear(a, b) for a, b in pairwise(self.degrees))
        self.last = MaskedLinear(self.degrees[-1], ends, strict=True, bias=False)
        self.activation = activation_named(activation)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., F] -> [..., F], at least fp32."""
        for layer in self.hidden:
            x = self.activation(layer(x))
        return exactly(self.last, x)

    def in_turn(self, n: int, choose: Callable[[int, Tensor], Tensor]) -> Tensor:
        """x [n, F], one input after another: x_d = choose(d, output d [n]), n rows at a time.

        Hidden units stand in the order of their degrees, so each is computed once, when its last input is there: all
        F turns together cost the arithmetic of one forward pass.
        """
        features = self.last.out_features
        place: dict[str, Any] = {"dtype": self.last.weight.dtype, "device": self.last.weight.device}
        # level 0 is x, the others the hidden layers; of each the first `known` units are final
        levels = [torch.zeros(n, len(degrees), **place) for degrees in self.degrees]
        known = [0] * len(levels)
        for d in range(features):
            for i, layer in enumerate(self.hidden, 1):
                first = known[i]
                while known[i] < len(self.degrees[i]) and self.degrees[i][known[i]] <= d:
                    known[i] += 1
                new, seen = slice(first, known[i]), slice(0, known[i - 1])
                if first < known[i]:
                    bias = layer.bias[new]  # type: ignore[index]
                    weight = layer.weight[new, seen] * layer.mask[new, seen]  # type: ignore[index]
                    levels[i][:, new] = self.activation(F.linear(levels[i - 1][:, seen], weight, bias))
            seen = slice(0, known[-1])
            levels[0][:, d] = choose(d, levels[-1][:, seen] @ self.last.weight[d, seen])
            known[0] = d + 1
        return levels[0]
