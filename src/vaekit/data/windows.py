"""Larger than memory: rows shuffled in windows, and read a window ahead of training.

Single rows in random order would cost a seek each. So blocks of neighbours are put in random order, and rows are
shuffled within a window of some hundred blocks. All of it follows from the rows' size, the seed and the epoch, never
from how much memory is free: a run has one order, on every machine and after every resume.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaekit.data.stored import BLOCK_BYTES, Reader, is_mapped

WINDOW_BYTES = 64 << 20  # shuffled among each other; two windows are in memory
HELD_BYTES = 256 << 20  # a memory map of more than this is read in windows


@dataclass(frozen=True)
class Windows:
    """Numbers of rows: `block` neighbours stay in one window, `window` rows are shuffled among each other."""

    block: int
    window: int

    @classmethod
    def of(cls, x: Any) -> Windows | None:
        """Of rows x [N, ...]; None where all rows are shuffled among each other."""
        if not is_mapped(x) or x.nbytes <= HELD_BYTES:
            return None
        row_bytes = x.nbytes // len(x)
        return cls(max(1, BLOCK_BYTES // row_bytes), max(1, WINDOW_BYTES // row_bytes))

    def order(self, n: int, seed: int, epoch: int) -> np.ndarray:
        """The order of n rows in an epoch, int64 [n]."""
        draws = np.random.default_rng([seed, epoch])
        blocks = draws.permutation(-(-n // self.block))
        order = (blocks[:, None] * self.block + np.arange(self.block)).ravel()
        order = order[order < n]  # the last block may be short
        for first in range(0, n, self.window):
            draws.shuffle(order[first : first + self.window])
        return order

    def __str__(self) -> str:
        return (
            f"shuffled in windows of {self.window:,} rows, made of blocks of {self.block:,} in random order: "
            "larger than what is held in memory"
        )


class Ahead:
    """Rows in an order announced before, read by a thread one window ahead of their use."""

    def __init__(self, reader: Reader, rows: np.ndarray, window: int, *, pin: bool) -> None:
        self._reader, self._rows, self._window, self._pin = reader, rows, window, pin
        self._at = self._end = 0  # what has been handed out, and where the rows held end
        self._held = torch.empty(0)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="vaekit-reader")
        self._coming: Future[Tensor] = self._pool.submit(self._read, 0)

    def next(self, at: np.ndarray) -> Tensor | None:
        """Rows at int64 [B], on the CPU, where these are the next in the order; else None, and nothing is handed out.

        A failure to read is raised here.
        """
        wanted = self._at + len(at)
        if not len(at) or not np.array_equal(self._rows[self._at : wanted], at):
            return None
        pieces = []
        while self._at < wanted:
            if self._at == self._end:
                self._held = self._coming.result()
                self._end += len(self._held)
                self._coming = self._pool.submit(self._read, self._end)
            stop = min(wanted, self._end)
            first = self._at - self._end + len(self._held)
            pieces.append(self._held[first : first + stop - self._at])
            self._at = stop
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def _read(self, first: int) -> Tensor:
        return self._reader.rows(self._rows[first : first + self._window], pin=self._pin)

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(wait=True, cancel_futures=True)
