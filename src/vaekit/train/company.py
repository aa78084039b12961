"""How many threads a step may use just now: the cores of this process less what others are using of them.

Threads that wait for each other by spinning make small steps faster on free cores (784-400-20: 1.5 times with two) and
six times slower where another process has one of them, for the one that spins keeps the other from running. So what
others use is read from the kernel's counters every so often. Kernels divide rows among threads and sum within them: with
AVX-512 the number of threads changed no bit of the weights (dense nets, fp32 and bf16); elsewhere it may change the last.
`train.deterministic` leaves the number as it was chosen.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch

from vaekit.devices import spins

WINDOW = 0.25  # seconds; the kernel counts in hundredths
QUIET = 4  # windows in a row that must be free before a thread is taken back
ROUNDING = 0.3  # of a core that others may use of one that counts as free


class Company:
    """`look` now and then; it sets torch's number of threads, between 1 and `most`."""

    def __init__(self, most: int, stat: Path = Path("/proc/stat")) -> None:
        self.most, self.stat = most, stat
        self.cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
        self.quiet = 0
        self.before = self._read() if spins() and most > 1 else None

    def look(self) -> None:
        """A few microseconds, and every quarter of a second a small file is read."""
        if self.before is None or time.monotonic() - self.before[0] < WINDOW:
            return
        now = self._read()
        if now is None:
            return
        wall, busy, own = (b - a for a, b in zip(self.before, now, strict=True))
        self.before = now
        free = len(self.cores) - max(0.0, busy - own) / wall
        threads, using = max(1, min(self.most, int(free + ROUNDING))), torch.get_num_threads()
        self.quiet = self.quiet + 1 if threads > using else 0
        if threads < using or self.quiet >= QUIET:
            torch.set_num_threads(threads)
            self.quiet = 0

    def _read(self) -> tuple[float, float, float] | None:
        """Seconds by the clock, seconds that our cores were busy, seconds of this process; None where it is not told."""
        try:
            lines = self.stat.read_text().splitlines()
        except OSError:
            return None
        ticks = 0
        for name, *counts in (
            line.split() for line in lines if line.startswith("cpu") and line[3:4].isdigit()
        ):
            if int(name[3:]) in self.cores:
                user, nice, system, _idle, _wait, *rest = map(int, counts[:8])
                ticks += user + nice + system + sum(rest)  # interrupts, and what the host takes away
        return time.monotonic(), ticks / os.sysconf("SC_CLK_TCK"), time.process_time()
