"""What a person waits for: `vaekit --help`, and `vaekit train digits` from the command to the finished run folder.

    python benchmarks/startup.py [--rounds 5] [--json FILE]

Each is a process of its own, timed from its start to its end, as often as `--rounds` says, in turn; the first call of
each is left out, since it may have to write Python's compiled files. Wall time, and beside it the CPU time of the
process, which tells work from waiting for others.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BARS = {"vaekit --help": 0.3, "vaekit train digits": 20.0}


def timed(arguments: list[str]) -> tuple[float, float]:
    """Wall and CPU seconds of one command."""
    before, began = os.times(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "vaekit", *arguments], capture_output=True, text=True, check=False
    )
    wall, after = time.perf_counter() - began, os.times()
    if done.returncode:
        sys.exit(done.stderr.strip())
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, cpu


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    helps, trains = [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(asked.rounds + 1):
            helps.append(timed(["--help"]))
            trains.append(timed(["train", "digits", "-o", str(Path(folder) / str(number))]))
    found = {"vaekit --help": helps[1:], "vaekit train digits": trains[1:]}
    for name, times in found.items():
        walls, cpus = [one[0] for one in times], [one[1] for one in times]
        print(
            f"{name:20} {statistics.median(walls):6.2f} s ({min(walls):.2f} to {max(walls):.2f}), "
            f"CPU {statistics.median(cpus):.2f} s; bar {BARS[name]} s"
        )
    print(f"{asked.rounds} rounds; {platform.machine()}, {os.cpu_count()} cores")
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
