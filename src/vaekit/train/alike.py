"""What processes must have in common besides the gradient."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def some_sit_out(objective: nn.Module, x: Tensor, c: Tensor | None) -> bool:
    """Whether any parameter is without a gradient at the start, in the middle or at the end of training.

    x [B, ...], c [B, n] or None: a first batch. Parts may wait for a schedule, as a discriminator does.
    """
    trial = copy.deepcopy(objective)  # a forward pass may write buffers
    parameters = [p for p in trial.parameters() if p.requires_grad]
    for done in (0.0, 0.5, 1.0):
        loss, _ = trial(x, c, torch.full((), done, device=x.device))
        total: Any = sum(loss.values()) if isinstance(loss, dict) else loss
        if any(grad is None for grad in torch.autograd.grad(total, parameters, allow_unused=True)):
            return True
    return False


@torch.no_grad()
def same_start(objective: nn.Module) -> None:
    """The first process's weights and buffers in every process: a net of one's own may be drawn without a seed."""
    for tensor in (*objective.parameters(), *objective.buffers()):
        value = tensor.contiguous()
        dist.broadcast(value, 0)
        tensor.copy_(value)


@torch.no_grad()
def same_buffers(buffers: list[Tensor]) -> None:
    """The first process's values, in one exchange; float64 holds counts exactly."""
    together = torch.cat([b.reshape(-1).double() for b in buffers])
    dist.broadcast(together, 0)
    for buffer, values in zip(buffers, together.split([b.numel() for b in buffers]), strict=True):
        buffer.copy_(values.view(buffer.shape))
