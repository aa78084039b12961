"""What objectives share: the contract, the players, and the schedule of a weight over training."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from vaekit.errors import VaekitError
from vaekit.model import VAE, initialise

Losses = Tensor | dict[str, Tensor]
Ramp = Literal["linear", "cosine", "cyclical"]


class Objective(nn.Module):
    """Abstract: wraps a model; `objective(x, c, t)` gives a loss, or one loss a player, and a flat dict of terms.

    x [B, ...] in model units, c [B, n] or None, t a 0-d tensor in [0, 1], the fraction of training done. The loss is
    a mean over the batch in nats; terms are detached 0-d tensors, means over the batch in nats.
    """

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model = model
        self.frozen: tuple[str, ...] = ()

    def freeze(self, *slots: str) -> None:
        """Let these parts of the model ("prior", "likelihood", ...) keep their weights and buffers: they get no gradient
        and stay in eval mode. Raises VaekitError for a prior that would change with the posterior all the same."""
        if "prior" in slots and "posterior" not in slots and hasattr(self.model.prior, "apart"):
            raise VaekitError(
                f"{type(self.model.prior).__name__} is made of the posterior, so it cannot be frozen while that is "
                "trained; freeze the posterior too, or take the prior apart from it (`apart`)"
            )
        self.frozen = slots
        for slot in slots:
            getattr(self.model, slot).requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Objective:
        """As of any module, but frozen parts stay in eval mode."""
        super().train(mode)
        for slot in self.frozen:
            getattr(self.model, slot).eval()
        return self

    def players(self) -> dict[str, list[nn.Parameter]]:
        """Who learns what: each trainable parameter belongs to one player, and each player has its own optimiser.

        An objective with several returns a dict of losses by player. The loop back-propagates their sum, so each
        loss must be constant in the other players' parameters (`nets.common.constant`, `detach`).
        """
        return {"model": [p for p in self.parameters() if p.requires_grad]}

    def enter(self, t: float) -> int:
        """Told before each step how far training is; the number of the stage that it is in, the same for all of the
        stage's steps, which is compiled by itself. Most objectives have one."""
        return 0

    def initialise(self, x: Tensor, c: Tensor | None, n_data: int) -> None:
        """Let every part start from a batch of training rows, once, before step 0."""
        initialise(self, x, c, n_data)

    def forward(self, x: Tensor, c: Tensor | None, t: Tensor) -> tuple[Losses, dict[str, Tensor]]:
        raise NotImplementedError


def check_settings(draws: int, warm_up: float, beta: float = 1.0, free_bits: float = 0.0) -> None:
    """Raise VaekitError for settings under which a bound means nothing."""
    if draws < 1:
        raise VaekitError(f"objective.draws is {draws}; give at least 1")
    if not 0 <= warm_up <= 1:
        raise VaekitError(f"objective.warm_up is {warm_up}, a fraction of training; give 0 to 1")
    if not beta >= 0 or not free_bits >= 0:
        raise VaekitError(f"objective.beta is {beta} and free_bits {free_bits}; neither may be negative")


def ramp(t: Tensor, warm_up: float, schedule: Ramp, cycles: int) -> Tensor:
    """A weight that rises from 0 to 1, a 0-d tensor.

    "linear" and "cosine" rise over the first `warm_up` of training. "cyclical" divides training into `cycles` and
    rises linearly over the first `warm_up` of each (Fu et al. 2019, https://arxiv.org/abs/1903.10145, eq. 6); t = 1
    counts as the end of the last cycle.
    """
    t = torch.as_tensor(t)
    if warm_up <= 0:
        return torch.ones_like(t)
    if schedule == "cyclical":
        phase = torch.where(t >= 1, torch.ones_like(t), torch.frac(t * cycles))
        return (phase / warm_up).clamp(max=1.0)
    done = (t / warm_up).clamp(max=1.0)
    return 0.5 * (1 - torch.cos(math.pi * done)) if schedule == "cosine" else done
