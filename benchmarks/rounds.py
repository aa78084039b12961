"""What the comparisons share: ways that take turns, each in a process of its own, and a table of medians and ranges.

A way's process prints one line of JSON last. One thread: no waiting to speak of. Several: a peer waits as OpenMP does by
default, spinning, which on an idle machine is the faster way; vaekit runs as its command line chooses.
`--passive` makes all wait passively, which is what one wants on a machine that is not idle.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

Result = dict[str, Any]
SPIN = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "GOMP_CPU_AFFINITY")


class ChildError(Exception):
    """A way failed; its last line says why."""


def child(
    command: Sequence[str | os.PathLike[str]], threads: int | None = None, passive: bool = False
) -> Result:
    """The JSON that a process of `threads` OpenMP threads (None: its own choice) prints last. Raises ChildError."""
    env = {name: value for name, value in os.environ.items() if name not in (*SPIN, "OMP_NUM_THREADS")}
    if threads is not None:
        env |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    if passive:
        env["OMP_WAIT_POLICY"] = "PASSIVE"
    env |= {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [str(word) for word in command], env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        said = done.stderr.strip().splitlines() or done.stdout.strip().splitlines() or ["nothing was said"]
        raise ChildError(f"{Path(str(command[1])).name} {' '.join(map(str, command[2:]))[:100]}: {said[-1]}")
    return json.loads(lines[-1])


def train_by_command(data: str, recipe: str, run: str, settings: Sequence[str]) -> None:
    """`vaekit train`, in this process, from the door on: its choice of how threads wait included."""
    from vaekit.__main__ import main as door

    words = [word for setting in settings for word in ("--set", setting)]
    sys.argv = ["vaekit", "train", data, "--recipe", recipe, *words, "-o", run]
    with contextlib.redirect_stdout(sys.stderr):
        try:
            door()
        except SystemExit as end:
            if end.code:
                raise


def interleaved(ways: Mapping[str, Callable[[], Result]], rounds: int) -> dict[str, list[Result]]:
    """Each way once a round, in turn, so that what else the machine does meets all alike."""
    results: dict[str, list[Result]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, way in ways.items():
            print(f"round {number + 1} of {rounds}: {name}", file=sys.stderr, flush=True)
            results[name].append(way())
    return results


def values(results: Sequence[Result], key: str) -> list[float]:
    return [result[key] for result in results]


def spread(numbers: Sequence[float], digits: int = 0) -> str:
    """median (least to most)."""
    return (
        f"{statistics.median(numbers):,.{digits}f} ({min(numbers):,.{digits}f} to {max(numbers):,.{digits}f})"
    )


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Round by round."""
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def machine() -> dict[str, Any]:
    """What a figure needs beside it; nothing that names a machine."""
    model = platform.machine()
    if Path("/proc/cpuinfo").exists():
        known = (
            line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")
        )
        model = next(known, model).split(":")[-1].strip()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    return {"date": str(date.today()), "cpu": model, "cores": cores, "load_before": load}


def options(doc: str | None, rounds: int) -> argparse.ArgumentParser:
    """--rounds, --passive, --json, alike in all comparisons."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds, help=f"turns of each way (default {rounds})")
    parser.add_argument(
        "--passive", action="store_true", help="all wait passively; for a machine that is not idle"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every reading here")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--file", help=argparse.SUPPRESS)
    return parser


def keep(path: Path | None, found: Mapping[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
