"""Training on rows that memory does not hold, against the same net on rows that it does: images a second, as a ratio.

    python benchmarks/memory_mapped.py [--gigabytes 4] [--segment 20] [--segments 0] [--folder DIR] [--json FILE]

A file of colour images 64x64, uint8, is made (noise; `--gigabytes` of training rows and a tenth as many each to
validate and to test, drawn from the one file as for any user) and put out of the page cache. Two processes train the
same small convolutional net with vaekit's own steps. One opens the file and may use a gigabyte in all, Python and torch
and page cache included, by a memory cgroup of its own; it goes through one epoch. The other holds 16,384 of the rows
in memory, without a limit. They take turns, `--segment` seconds each, until the epoch is through (or `--segments` turns
each are done), so that what else the machine does meets both. The ratio is the median over pairs of turns.

Where no memory cgroup can be made (it takes Linux and the right to), the file is put out of the page cache before every
turn instead, and the memory in use is only measured; the output says which it was.

How it shuffles: blocks of 21 neighbours (256 KiB) in random order, rows among each other in windows of 5,461 rows
(64 MiB), read a window ahead by a thread; see vaekit/data/windows.py.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SIDE, HELD, LIMIT = 64, 16_384, 1 << 30
ROW = 3 * SIDE * SIDE
NET = [
    "model.latent=32",
    "posterior.net.kind=ConvEncoder",
    "posterior.net.channels=[8,16,32]",
    "likelihood.net.kind=ConvDecoder",
    "likelihood.net.channels=[32,16,8]",
    "likelihood.kind=GaussianLikelihood",
    "train.batch_size=64",
    "train.epochs=1",
    "train.compile=false",  # else chosen by the length of the run, which the two do not share
]


def trainer(file: str, held: bool) -> None:
    """A child: opens the data, says so, and for each line on stdin trains as many seconds and answers."""
    import resource

    import numpy as np

    from vaekit import recipe as room
    from vaekit.data import Batches, Preparation, open_data
    from vaekit.train.automatic import resolve
    from vaekit.train.machine import start, working
    from vaekit.train.plan import Plan
    from vaekit.train.steps import Steps

    data = open_data(np.load(file, mmap_mode="r")[:HELD].copy() if held else file)
    chosen = room.resolve(room.load("images", NET), data.contract)
    objective = room.build(chosen, data.contract)
    weights = sum(p.numel() for p in objective.parameters())
    settings = resolve(chosen.train, n_train=len(data.train), multiply_adds=weights)
    fabric = start(settings)
    plan = Plan.of(settings, len(data.train))
    batches = Batches(data.train, data.contract, fabric.device, condition=False)
    with working(settings, fabric.device):
        steps = Steps(objective, Preparation(data.contract), batches, plan, settings, fabric)
        step, epoch, position = 0, 0, 0

        def take() -> int:
            nonlocal step, epoch, position
            rows = steps.take(epoch, position, step % plan.steps)
            step, position = step + 1, position + 1
            if position == plan.steps_per_epoch:
                epoch, position = epoch + 1, 0
            return rows

        take()
        _say(
            rows=len(data.train),
            weights=weights,
            threads=settings.threads,
            precision=settings.precision,
            batch=plan.batch,
        )
        for line in sys.stdin:
            began, worked, images, first = time.perf_counter(), time.process_time(), 0, epoch
            while time.perf_counter() - began < float(line) and (held or epoch == 0):
                images += take()
            seconds, cpu = time.perf_counter() - began, time.process_time() - worked
            status = Path("/proc/self/status").read_text() if Path("/proc/self/status").exists() else ""
            sizes = {key: _kib(status, key) for key in ("RssAnon", "RssFile")}
            _say(
                images=images, seconds=seconds, cpu=cpu, done=not held and epoch > first,
                peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10, **sizes, read=_read_bytes(),
            )  # fmt: skip
        batches.close()


def _say(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


def _kib(status: str, key: str) -> int:
    return int(status.split(f"{key}:")[1].split()[0]) << 10 if f"{key}:" in status else 0


def _read_bytes() -> int:
    """Bytes this process has had fetched from storage."""
    with contextlib.suppress(OSError, IndexError):
        return int(Path("/proc/self/io").read_text().split("read_bytes:")[1].split()[0])
    return 0


@contextlib.contextmanager
def memory_cgroup(limit: int) -> Iterator[Path | None]:
    """A cgroup under our own that holds its processes and their page cache to `limit` bytes; None where none can be."""
    group = None
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, own = line.split(":", 2)
            base = Path("/sys/fs/cgroup/memory" if controllers else "/sys/fs/cgroup")
            file = "memory.limit_in_bytes" if controllers else "memory.max"
            if controllers not in ("", "memory"):
                continue
            made = base / own.lstrip("/") / f"vaekit-{os.getpid()}"
            with contextlib.suppress(OSError):
                made.mkdir()
                try:
                    (made / file).write_text(str(limit))
                    group = made
                    break
                except OSError:
                    made.rmdir()
    try:
        yield group
    finally:
        if group is not None:
            group.rmdir()


def forget(file: Path) -> None:
    """Put a file out of the page cache."""
    with file.open("rb") as open_:
        os.fsync(open_.fileno())
        os.posix_fadvise(open_.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def make(file: Path, rows: int) -> None:
    """The .npy of images, noise."""
    import numpy as np

    draws = np.random.default_rng(0)
    with file.open("wb") as out:
        header = {"descr": "|u1", "fortran_order": False, "shape": (rows, 3, SIDE, SIDE)}
        np.lib.format.write_array_header_1_0(out, header)
        for first in range(0, rows, 4096):
            out.write(draws.bytes(min(4096, rows - first) * ROW))
    forget(file)


class Child:
    """A trainer in a process of its own, in a cgroup if there is one."""

    def __init__(self, file: Path, kind: str, group: Path | None) -> None:
        enter = f"echo $$ > {group}/cgroup.procs && " if group else ""
        command = f'{enter}exec "$0" "$@"'
        arguments = [sys.executable, __file__, "--child", kind, str(file)]
        self.process = subprocess.Popen(
            ["sh", "-c", command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.facts = self.answer()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"a trainer ended with code {self.process.wait()}; its message is above")
        return json.loads(line)

    def turn(self, seconds: float) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        return self.answer()

    def end(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gigabytes", type=float, default=4.0, help="of training rows")
    parser.add_argument("--segment", type=float, default=20.0, help="seconds a turn")
    parser.add_argument("--segments", type=int, default=0, help="turns each at most; 0 for a whole epoch")
    parser.add_argument(
        "--folder", type=Path, help="where the file is made, on a disk; a temporary folder by default"
    )
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that file and cgroup go
    rows = round(asked.gigabytes * 1e9 / ROW / 0.8)
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder, memory_cgroup(LIMIT) as group:
        file = Path(folder) / "images.npy"
        make(file, rows)
        mapped = Child(file, "mapped", group)
        resident = Child(file, "held", None)
        forget(file)
        turns: list[tuple[dict[str, Any], dict[str, Any]]] = []
        try:
            while not turns or not (turns[-1][0]["done"] or len(turns) == asked.segments):
                if group is None:
                    forget(file)
                turns.append((mapped.turn(asked.segment), resident.turn(asked.segment)))
                rates = [one["images"] / one["seconds"] for one in turns[-1]]
                print(
                    f"turn {len(turns)}: {rates[0]:,.0f} and {rates[1]:,.0f} images/s",
                    file=sys.stderr,
                    flush=True,
                )
        finally:
            mapped.end()
            resident.end()
    ratios = [a["images"] / a["seconds"] / (b["images"] / b["seconds"]) for a, b in turns]
    rates = [[one["images"] / one["seconds"] for one in side] for side in zip(*turns, strict=True)]
    work = [
        sum(one["cpu"] for one in side) / sum(one["images"] for one in side)
        for side in zip(*turns, strict=True)
    ]
    images, last = sum(a["images"] for a, _ in turns), turns[-1][0]
    result = {
        "set_bytes": rows * ROW, "training_rows": mapped.facts["rows"], "images": images, "epoch": last["done"],
        "limit": LIMIT if group else None, "peak_resident": last["peak"], "anonymous": last["RssAnon"],
        "read_from_disk": last["read"], "mapped": rates[0], "held": rates[1], "ratios": ratios, "cpu_an_image": work,
        **mapped.facts,
        "machine": platform.platform(), "cores": os.cpu_count(),
    }  # fmt: skip
    how = (
        f"a cgroup of {LIMIT >> 20} MiB"
        if group
        else "no limit (none can be set here), page cache dropped each turn"
    )
    part = "a whole epoch" if last["done"] else f"{images:,} images"
    facts = mapped.facts
    print(f"{rows * ROW / 1e9:.1f} GB set, {facts['rows']:,} training rows, {part}; {how}")
    print(f"mapped {_spread(rates[0])} images/s, in memory {_spread(rates[1])} images/s")
    print(
        f"batch {facts['batch']}, {facts['weights']:,} weights, {facts['threads']} threads, {facts['precision']}"
    )
    print(
        f"ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}), {len(ratios)} pairs of turns; "
        f"by CPU time an image {work[1] / work[0]:.3f}"
    )
    print(
        f"peak resident set {last['peak'] >> 20} MiB, at the end {last['RssAnon'] >> 20} of it anonymous; "
        f"read from the disk {last['read'] / 1e9:.1f} GB, opening included"
    )
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1))


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"


if __name__ == "__main__":
    if "--child" in sys.argv:
        trainer(sys.argv[3], sys.argv[2] == "held")
    else:
        main()
