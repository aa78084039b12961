"""A scale for a likelihood over real values: fixed, or one learned number, softly bounded."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vaekit.likelihoods.common import FLOOR, inverse_soft_floor, soft_floor


class Scale(nn.Module):
    """log of one positive scale in model units. `fixed` None: learned, bounded below at exp(-6)."""

    def __init__(self, fixed: float | None) -> None:
        super().__init__()
        # a fixed one is a number, not a buffer: it is exact in whatever precision the model is
        self.fixed_log = 0.0 if fixed is None else math.log(fixed)
        self.raw = (
            None if fixed is not None else nn.Parameter(inverse_soft_floor(torch.tensor(math.log(0.2))))
        )

    def start_at(self, scale: Tensor) -> None:
        """Start a learned scale at this value; a fixed one stays."""
        if self.raw is not None:
            with torch.no_grad():
                self.raw.copy_(inverse_soft_floor(torch.log(scale.clamp_min(1e-3))))

    def headroom(self) -> Tensor | None:
        """Nats from a learned log-scale down to its floor, 0-d; None where it is fixed."""
        return None if self.raw is None else soft_floor(self.raw) - FLOOR

    def forward(self, like: Tensor) -> Tensor:
        """The log-scale, 0-d, in the precision of `like`."""
        if self.raw is not None:
            return soft_floor(self.raw)
        return torch.full((), self.fixed_log, dtype=like.dtype, device=like.device)


class Unit(nn.Module):
    """log of the size of the data's units: one number for all elements, or one a column [F]."""

    each: Tensor | None

    def __init__(self, divisor: tuple[float, ...]) -> None:
        super().__init__()
        logs = [math.log(d) for d in divisor]
        self.one = logs[0] if len(logs) == 1 else None
        self.register_buffer("each", torch.tensor(logs) if len(logs) > 1 else None, persistent=False)

    def forward(self) -> Tensor | float:
        return self.each if self.each is not None else self.one or 0.0
