"""What moves beside the gradient: the averaged weights, and buffers that a forward pass writes."""

from __future__ import annotations

import copy

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vaekit.train.alike import same_buffers
from vaekit.train.sharded import own

LOOK = 50  # steps


class Buffers:
    """Buffers that forward passes write (batch statistics, codebooks), so that a skipped step leaves no
    trace.

    Which ones move is looked up before step 0 is settled and every `LOOK` steps (batch norm does not raise
    version counters, so values are compared: a device sync); in between, constants cost nothing.
    """

    def __init__(self, module: nn.Module) -> None:
        self.all = dict(module.named_buffers())
        self.moving: set[str] = set()
        self._kept: dict[str, Tensor] = {}

    def keep(self, step: int) -> None:
        """Remember the values before a step."""
        watched = self.all if step % LOOK == 0 else self.moving
        self._kept = {name: self.all[name].clone() for name in watched}

    def settle(self, step: int, bad: Tensor) -> None:
        """After a step: put the old values back if any player skipped it; `bad` is bool [players]."""
        if step % LOOK == 0:
            self.moving |= {
                name for name, value in self._kept.items() if not torch.equal(value, self.all[name])
            }
        if self.moving:
            any_bad = bad.any()
            for name in self.moving:
                self.all[name].copy_(torch.where(any_bad, self._kept[name], self.all[name]))

    def agree(self, step: int) -> None:
        """After a step of several processes: what the first one holds, in all of them."""
        if step % LOOK == 0 and self.all:
            found = [sorted(self.moving)]
            dist.broadcast_object_list(found, 0)
            self.moving = set(found[0])
        if self.moving:
            same_buffers([self.all[name] for name in sorted(self.moving)])

    def restore(self) -> None:
        """After a crash: put the old values back."""
        for name, value in self._kept.items():
            self.all[name].copy_(value)


class Average:
    """An exponential moving average of the weights, kept as a second objective that can be evaluated as it
    is.

    Its decay warms up as min(decay, (1 + t) / (10 + t)) in steps t, so that a short run ships trained
    weights.
    """

    def __init__(self, objective: nn.Module, decay: float) -> None:
        self.decay = decay
        self.objective = copy.deepcopy(objective).requires_grad_(False).eval()
        self.bind(objective)

    def bind(self, objective: nn.Module) -> None:
        """Follow the weights of this objective; where they are shared out, the parts of this process."""
        names = [name for name, p in objective.named_parameters() if p.is_floating_point()]
        here, there = dict(self.objective.named_parameters()), dict(objective.named_parameters())
        self._mine = [own(here[name]) for name in names]
        self._theirs = [own(there[name]) for name in names]
        self._my_buffers = dict(self.objective.named_buffers())

    @property
    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        """Each averaged weight beside the one it follows."""
        return list(zip(self._mine, self._theirs, strict=True))

    def toward(self, step: int) -> float:
        """How far the average moves towards the weights after step number `step` (0 for the first)."""
        return 1 - min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the weights."""
        torch._foreach_lerp_(self._mine, self._theirs, self.toward(step))

    @torch.no_grad()
    def follow(self, buffers: Buffers) -> None:
        """Copy the buffers that move."""
        for name in buffers.moving:
            self._my_buffers[name].copy_(buffers.all[name])
