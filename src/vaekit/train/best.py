"""The best weights so far, and how long they have been the best."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

Weights = dict[str, Tensor]


class Best:
    """Lowest validation loss, its epoch and weights; `waited` counts the validations since."""

    def __init__(self, patience: int | None) -> None:
        self.patience = patience
        self.value: float | None = None
        self.epoch: int | None = None
        self.weights: Weights | None = None
        self.waited = 0
        self.unwritten = False

    @property
    def out_of_patience(self) -> bool:
        """Whether training should stop."""
        return self.patience is not None and self.waited >= self.patience

    def judge(self, epoch: int, value: float, weights: Callable[[], Weights]) -> None:
        """Take these weights if the value, in nats, is lower; one that is not finite is never better."""
        if self.value is None or value < self.value or (math.isnan(self.value) and not math.isnan(value)):
            self.value, self.epoch, self.weights = value, epoch, weights()
            self.waited, self.unwritten = 0, True
        else:
            self.waited += 1

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint; the weights go along, so that an older `model.safetensors` can be put right."""
        return {"value": self.value, "epoch": self.epoch, "weights": self.weights, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave; the file on disk may be newer, hence `unwritten`."""
        self.value, self.epoch, self.waited = state["value"], state["epoch"], state["waited"]
        weights = state["weights"]
        self.weights = None if weights is None else {name: value.cpu() for name, value in weights.items()}
        self.unwritten = True
