"""A run as numbers: which rows a step sees, how far training is, what the learning rate and the noise are."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np

from vaekit.recipe.settings import TrainSettings
from vaekit.train.automatic import steps_per_epoch


@dataclass(frozen=True)
class Plan:
    """The shape of a run over `n` rows. All is a function of the step, so a resume needs no history."""

    n: int
    epochs: int
    batch: int  # rows per process and micro-step
    accumulation: int
    processes: int
    steps_per_epoch: int
    warm_up: float
    schedule: str
    learning_rate: float
    floor: float

    @classmethod
    def of(cls, settings: TrainSettings, n: int) -> Plan:
        """The plan of resolved settings."""
        assert settings.epochs is not None and settings.batch_size != "auto"
        return cls(
            n=n, epochs=settings.epochs, batch=settings.batch_size,
            accumulation=settings.gradient_accumulation_steps, processes=settings.devices * settings.nodes,
            steps_per_epoch=steps_per_epoch(settings, n), warm_up=settings.warm_up,
            schedule=settings.schedule, learning_rate=settings.learning_rate,
            floor=settings.learning_rate_floor,
        )  # fmt: skip

    @property
    def steps(self) -> int:
        """Optimiser steps in the whole run."""
        return self.epochs * self.steps_per_epoch

    @property
    def per_step(self) -> int:
        """Rows of one full step, over all processes and micro-steps."""
        return self.batch * self.accumulation * self.processes

    def rows(self, order: np.ndarray, position: int) -> np.ndarray:
        """The rows of step `position` of an epoch whose permutation is `order`, over all processes."""
        return order[position * self.per_step : (position + 1) * self.per_step]

    def mine(self, order: np.ndarray, position: int, rank: int) -> np.ndarray:
        """What one process will see of an epoch from step `position` on, in order: its shares of all those steps."""
        return order[position * self.per_step :][rank :: self.processes]

    def shares(self, rows: np.ndarray, rank: int) -> list[np.ndarray]:
        """The micro-batches of one process, an interleaved share: two processes see what one would."""
        mine = rows[rank :: self.processes]
        return [mine[i : i + self.batch] for i in range(0, len(mine), self.batch)]

    def micro_steps(self, rows: np.ndarray) -> int:
        """Micro-batches of the process that has most of them."""
        return len(self.shares(rows, 0))

    def done(self, step: int) -> float:
        """t in [0, 1], the fraction of training done before `step`."""
        return step / self.steps

    def rate(self, step: int) -> float:
        """Learning rate of `step`: linear warm-up, then constant or half a cosine down to the floor."""
        warm = round(self.warm_up * self.steps)
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        if self.schedule == "constant":
            return self.learning_rate
        progress = (step - warm) / max(1, self.steps - warm)
        return self.learning_rate * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * progress)))


def mix(seed: int, purpose: str, *numbers: int) -> int:
    """A seed for one purpose: noise is a function of these numbers, never of what was drawn before."""
    text = ":".join([str(seed), purpose, *map(str, numbers)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1
