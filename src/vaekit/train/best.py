"""The best weights so far, and how long they have been the best."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

Weights = dict[str, Tensor]


class Best:
    """The weights that a run ships, the validation loss they had and its epoch.

    Those of the lowest loss, or with `keep` "last" those of the newest; `waited` counts the validations since
    the lowest.
    """

    def __init__(self, patience: int | None, keep: str = "best") -> None:
        self.patience, self.keep = patience, keep
        self.lowest = math.inf
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
        better = value < self.lowest
        if better:
            self.lowest = value
        self.waited = 0 if better or self.value is None else self.waited + 1
        if better or self.value is None or self.keep == "last":
            self.value, self.epoch, self.weights, self.unwritten = value, epoch, weights(), True

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint; the weights go along, so that an older `model.safetensors` can be put right."""
        return {
            "value": self.value, "lowest": self.lowest, "epoch": self.epoch, "weights": self.weights,
            "waited": self.waited,
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave; the file on disk may be newer, hence `unwritten`."""
        self.value, self.epoch, self.waited = state["value"], state["epoch"], state["waited"]
        before = math.inf if self.value is None else self.value
        self.lowest, weights = state.get("lowest", before), state["weights"]
        if self.keep == "best" and math.isfinite(before):
            self.lowest = before  # weights that did better while the newest were kept are gone
        self.weights = None if weights is None else {name: value.cpu() for name, value in weights.items()}
        self.unwritten = True
