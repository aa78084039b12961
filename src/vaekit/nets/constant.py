from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Constant(nn.Module):
    """Learned numbers, the same for every row: a decoder that ignores z, or the posterior's net where D = 0."""

    def __init__(self, in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.out_shape, outputs = tuple(out_shape), math.prod(out_shape)
        self.bias = nn.Parameter(
            torch.zeros(outputs), requires_grad=outputs > 0
        )  # with none there is nothing to learn

    @property
    def last(self) -> Constant:
        """The layer whose bias a likelihood may start at the data's mean: the net itself."""
        return self

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """x [N, *in_shape] and c [N, n], which are counted and not read -> [N, *out_shape]."""
        # copies: a view of a parameter asks for gradients even where nobody records them
        return self.bias.repeat(len(x), 1).unflatten(1, self.out_shape)
