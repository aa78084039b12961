"""What the steps did, written down on the device and read by the host every so often.

A step leaves one row: each player's gradient norm (NaN where it was skipped), then the terms. That is three
small operations a step, and one wait for the device every `ROWS` steps, at an epoch's end, or when a person
is shown it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

ROWS = 50


class Ledger:
    """Sums over the epoch and skips over the run: Python numbers, added in the order of the steps."""

    def __init__(self, players: tuple[str, ...], device: torch.device) -> None:
        self.players, self.device = players, device
        self.names: tuple[str, ...] = ()
        self._page = torch.zeros(0, 0, device=device)  # [ROWS, players + terms]
        self._counts: list[int] = []  # images of the rows on the page
        self.sums: dict[str, list[float]] = {}  # term -> [sum of image count x mean, image count]
        self.norms = {player: [0.0, 0.0] for player in players}  # [sum, steps]
        self.skipped_in_epoch = 0
        self.skipped = dict.fromkeys(players, 0)
        self.in_a_row = dict.fromkeys(players, 0)

    def add(self, norms: Tensor, names: tuple[str, ...], values: Tensor, count: int) -> None:
        """A step over `count` images: norms [players], NaN where skipped, and terms [names]."""
        if names != self.names or len(self._counts) == ROWS:
            self.read()
        if names != self.names:
            self.names = names
            dtype = torch.promote_types(norms.dtype, values.dtype)
            self._page = torch.empty(ROWS, len(norms) + len(names), device=self.device, dtype=dtype)
        torch.cat((norms, values), out=self._page[len(self._counts)])
        self._counts.append(count)

    def read(self) -> None:
        """Take the page over into the sums: a device sync."""
        if not self._counts:
            return
        rows, players = self._page[: len(self._counts)].tolist(), len(self.players)
        for row, count in zip(rows, self._counts, strict=True):
            for player, norm in zip(self.players, row, strict=False):
                if math.isnan(norm):
                    self.skipped_in_epoch += 1
                    self.skipped[player] += 1
                    self.in_a_row[player] += 1
                else:
                    self.in_a_row[player] = 0
                    self.norms[player][0] += norm
                    self.norms[player][1] += 1
            if any(math.isnan(norm) for norm in row[:players]):
                continue  # what a skipped step measured is not what the model does
            for name, value in zip(self.names, row[players:], strict=True):
                entry = self.sums.setdefault(name, [0.0, 0.0])
                entry[0] += count * value
                entry[1] += count
        self._counts = []

    def means(self, reduce: Callable[[Tensor], Tensor] | None = None) -> dict[str, float]:
        """Means of the terms in this epoch, over all images; `reduce` adds up processes. A device sync."""
        self.read()
        return means(self._totals(reduce))

    def updates(self) -> dict[str, float]:
        """Steps skipped in this epoch (summed over players) and mean gradient norms, by metric name."""
        self.read()
        norms = {
            player: total / steps if steps else math.nan for player, (total, steps) in self.norms.items()
        }
        if len(norms) == 1:
            return {"skipped": self.skipped_in_epoch, "gradient_norm": next(iter(norms.values()))}
        return {"skipped": self.skipped_in_epoch, **{f"gradient_norm_{p}": norm for p, norm in norms.items()}}

    def clear(self) -> None:
        """A new epoch."""
        self.read()
        self.sums, self.skipped_in_epoch = {}, 0
        self.norms = {player: [0.0, 0.0] for player in self.players}

    def _totals(self, reduce: Callable[[Tensor], Tensor] | None) -> dict[str, list[float]]:
        if reduce is None or not self.sums:
            return self.sums
        totals = torch.tensor(list(self.sums.values()), dtype=torch.float64, device=self.device)
        return dict(zip(self.sums, reduce(totals).tolist(), strict=True))

    def state_dict(self, reduce: Callable[[Tensor], Tensor] | None = None) -> dict[str, Any]:
        """Sums over all processes and skips, for a checkpoint."""
        self.read()
        return {
            "sums": self._totals(reduce), "norms": self.norms, "skipped_in_epoch": self.skipped_in_epoch,
            "skipped": self.skipped, "in_a_row": self.in_a_row,
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any], first: bool) -> None:
        """Take over what `state_dict` gave; of several processes the `first` alone takes the sums."""
        # Zeros elsewhere, so that all processes add up the same terms.
        self.sums = {n: list(entry) if first else [0.0, 0.0] for n, entry in state["sums"].items()}
        self.norms = {player: list(entry) for player, entry in state["norms"].items()}
        self.skipped_in_epoch = state["skipped_in_epoch"]
        self.skipped, self.in_a_row = dict(state["skipped"]), dict(state["in_a_row"])


def means(sums: dict[str, list[float]]) -> dict[str, float]:
    """The quotients; a term without a good step is left out."""
    return {name: total / count for name, (total, count) in sums.items() if count}
