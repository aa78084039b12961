from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Constant(nn.Module):
    """Learned numbers, the same for every row: a decoder that ignores z, or the posterior's net where D = 0."""

    def __init__(self, in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> None:
        super().__init__()
        # no numbers at all where D = 0: nothing there for an optimiser to hold
        self.bias = nn.Parameter(torch.zeros(out_shape), requires_grad=math.prod(out_shape) > 0)

    @property
    def last(self) -> Constant:
        """The layer whose bias a likelihood may start at the data's mean: the net itself."""
        return self

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """x [N, *in_shape] and c [N, n], which are counted and not read -> [N, *out_shape]."""
        return self.bias.expand(len(x), *self.bias.shape)
