"""Hamiltonian Monte Carlo along a path of laws: one transition, and the sizes of its steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

# the best for HMC in many dimensions (Neal 2011, https://arxiv.org/abs/1206.1901, sec. 4.4.3)
ACCEPTANCE = 0.65
RATE = 0.1  # of a step size's logarithm, for each unit that the acceptance is off
JITTER = 0.2  # of the step size, to each side: a fixed one may bring a chain back to where it began
SETTLING = 20  # transitions before the first, at the path's start
FIRST, SMALLEST, LARGEST = 0.5, 1e-4, 4.0  # step sizes, in standard deviations of the start


class Path(Protocol):
    """Unnormalised log-densities of z [C, B, D] at the two ends of a path [C, B], for C chains of B rows."""

    def start(self, z: Tensor) -> Tensor: ...

    def end(self, z: Tensor) -> Tensor: ...


@dataclass
class Position:
    """z [C, B, D] with both log-densities [C, B] and their gradients, so that no place is looked at twice."""

    z: Tensor
    start: Tensor
    end: Tensor
    start_slope: Tensor
    end_slope: Tensor

    @classmethod
    def at(cls, path: Path, z: Tensor) -> Position:
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            start, end = path.start(z), path.end(z)
            (start_slope,) = torch.autograd.grad(start.sum(), z)
            (end_slope,) = torch.autograd.grad(end.sum(), z)
        return cls(z.detach(), start.detach(), end.detach(), start_slope, end_slope)

    def height(self, beta: float) -> Tensor:
        """log f_beta = (1 - beta) log start + beta log end [C, B]."""
        return torch.lerp(self.start, self.end, beta)

    def slope(self, beta: float) -> Tensor:
        return torch.lerp(self.start_slope, self.end_slope, beta)

    def moved(self, accepted: Tensor, to: Position) -> Position:
        """`to` where `accepted`, bool [C, B]."""
        where, wide = accepted, accepted.unsqueeze(-1)
        return Position(
            torch.where(wide, to.z, self.z), torch.where(where, to.start, self.start),
            torch.where(where, to.end, self.end), torch.where(wide, to.start_slope, self.start_slope),
            torch.where(wide, to.end_slope, self.end_slope),
        )  # fmt: skip


def transition(
    path: Path,
    here: Position,
    beta: float,
    step: Tensor,
    scale: Tensor,
    leapfrog: int,
    generator: torch.Generator,
) -> tuple[Position, Tensor]:
    """One step of HMC that leaves f_beta invariant, and is its own reverse: the new position and the probability of its
    acceptance [C, B].

    Neal 2011, https://arxiv.org/abs/1206.1901, sec. 3.2, in the units of `scale` [B, D]; `step` [B], and `leapfrog`
    steps of that size, each a gradient. A trajectory that leaves the numbers is refused.
    """
    z, chains = here.z, here.start

    def like(values: Tensor) -> dict[str, object]:
        return {"generator": generator, "dtype": values.dtype, "device": values.device}

    momentum = torch.randn(z.shape, **like(z))  # type: ignore[call-overload]
    shake, luck = torch.rand((2, *chains.shape), **like(chains))  # type: ignore[call-overload]
    size = (step * (1 + JITTER * (2 * shake - 1))).unsqueeze(-1) * scale  # [C, B, D]
    before = here.height(beta) - 0.5 * momentum.square().sum(-1)
    there = here
    momentum = momentum + 0.5 * size * here.slope(beta)
    for number in range(leapfrog):
        there = Position.at(path, there.z + size * momentum)
        half = 0.5 if number == leapfrog - 1 else 1.0
        momentum = momentum + half * size * there.slope(beta)
    after = there.height(beta) - 0.5 * momentum.square().sum(-1)
    accept = (after - before).clamp(max=0).exp().nan_to_num(0.0)
    return here.moved(luck < accept, there), accept


def step_sizes(
    path: Path, z: Tensor, betas: list[float], scale: Tensor, leapfrog: int, generator: torch.Generator,
    tick: Callable[[], None],
) -> Tensor:  # fmt: skip
    """A step size for each beta of the path and each row [T, B], from a pilot whose chains z [C, B, D] are thrown away.

    Chains that adapted to their own past would not leave f_beta invariant, and their weights be no bound.
    """
    here, size, sizes = Position.at(path, z), torch.full_like(scale[:, 0], FIRST), []
    for number, beta in enumerate([betas[0]] * SETTLING + betas):
        here, accept = transition(path, here, beta, size, scale, leapfrog, generator)
        if number >= SETTLING:
            sizes.append(size)
        size = (size * torch.exp(RATE * (accept.mean(0) - ACCEPTANCE))).clamp(SMALLEST, LARGEST)
        tick()
    return torch.stack(sizes)
