"""What this machine computes with: its devices, and the cores this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

from vaekit.errors import VaekitError


def here() -> list[str]:
    """The devices of this machine, the fastest first: of cuda, mps and cpu."""
    import torch

    has = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    return [name for name in has if has[name]]


def chosen(device: object, what: str = "device") -> str:
    """A device that is here: "auto" is the fastest, and "cuda:1" is held to their number.

    Raises VaekitError for any other, naming `what` was set to it.
    """
    import torch

    asked, present = str(device), here()
    if asked == "auto":
        return present[0]
    kind, colon, number = asked.partition(":")
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if kind not in present or (colon and not (number.isdecimal() and int(number) < count)):
        raise VaekitError(
            f"{what} is {asked!r}, but this machine has {', '.join(present)}; choose one of these"
        )
    return asked


def cpu_bf16() -> bool:
    """Whether the processor multiplies in bf16 (Linux says so); without it bf16 is only emulated."""
    try:
        flags = Path("/proc/cpuinfo").read_text().split("flags", 1)[1].split("\n", 1)[0].split()
    except (OSError, IndexError):
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def spins() -> bool:
    """Whether OpenMP's threads spin while they wait: unless told to sleep, or where told to spin a little first."""
    sleep = os.environ.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE"
    return not sleep or os.environ.get("GOMP_SPINCOUNT", "0") != "0"


def cores() -> int:
    """CPU cores this process may use: its affinity and its cgroup's quota, not the host's count."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_quota()
    return max(1, min(available, math.ceil(quota)) if quota else available)


def cgroup_quota(
    root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> float | None:
    """Cores the cgroup (version 1 or 2) and its parents grant, the least of them; None without a limit."""
    try:
        lines = [line.split(":", 2) for line in membership.read_text().splitlines()]
    except OSError:
        return None
    limits = []
    for _, controllers, group in (line for line in lines if len(line) == 3):
        if controllers and "cpu" not in controllers.split(","):
            continue
        version_1 = bool(controllers)
        base = root / "cpu" if version_1 else root
        files = ["cpu.cfs_quota_us", "cpu.cfs_period_us"] if version_1 else ["cpu.max"]
        own = base / group.lstrip("/")
        for folder in (own, *own.parents):
            if not folder.is_relative_to(base):
                break
            try:
                words = " ".join((folder / name).read_text() for name in files).split()
                if words[0] not in ("max", "-1"):
                    limits.append(int(words[0]) / int(words[1]))
            except (OSError, ValueError, IndexError, ZeroDivisionError):
                continue
    return min(limits, default=None)
