"""Opening an archive of small JPEGs for the first time, against a Pillow loop on one core: a ratio of times.

    python benchmarks/ingest.py [--data ../shared/data/cifar10-jpg.zip] [--rounds 5] [--json FILE]

The loop is what one would write: open the zip, decode each member, one array [N, C, H, W] in memory at the end. vaekit's
part is `open_data` with an empty cache: it reads the directory, guesses that all images are alike and holds them to it,
decodes with a process on every core, writes the cache to the disk (fsync included), splits, surveys and hashes the rows.
Neither includes importing the libraries. In turn, `--rounds` times; medians, ranges, the median of the ratios, and CPU
time, which beside other work on the machine says more. The rows are compared before anything is printed.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from vaekit.data import open_data
from vaekit.data.images import file_names
from vaekit.devices import cores


def pillow(path: Path) -> dict[str, np.ndarray]:
    """Name -> image [C, H, W], one after the other."""
    found = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.lower().endswith((".jpg", ".jpeg")):
                with Image.open(io.BytesIO(archive.read(name))) as image:
                    found[name] = np.asarray(image).transpose(2, 0, 1)
    return found


def stacked(path: Path) -> np.ndarray:
    return np.stack(list(pillow(path).values()))


def opened(path: Path) -> tuple[float, float]:
    """Wall and CPU seconds of a first opening, removing the cache not counted."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ["VAEKIT_CACHE"] = cache
        began = _clock()
        open_data(path)
        return _since(began)


def _clock() -> tuple[float, float]:
    return time.perf_counter(), sum(os.times()[:4])


def _since(began: tuple[float, float]) -> tuple[float, float]:
    now = _clock()
    return now[0] - began[0], now[1] - began[1]


def agree(path: Path) -> None:
    """Exit unless both read the same pixels."""
    known, names = pillow(path), file_names(path)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["VAEKIT_CACHE"] = cache
        for split in open_data(path).splits.values():
            expected = np.stack([known[names[place]] for place in split.places])
            if not np.array_equal(split.rows(slice(None)), expected):
                sys.exit(f"the {split.name} rows are not those that Pillow reads")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data/cifar10-jpg.zip"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    agree(asked.data)
    loops, ours = [], []
    for _ in range(asked.rounds):
        began = _clock()
        stacked(asked.data)
        loops.append(_since(began))
        ours.append(opened(asked.data))
    for name, times in (("Pillow loop", loops), ("vaekit", ours)):
        walls, cpus = zip(*times, strict=True)
        print(
            f"{name:12} {statistics.median(walls):5.2f} s ({min(walls):.2f} to {max(walls):.2f}), "
            f"CPU {statistics.median(cpus):.2f} s"
        )
    ratios = [loop[0] / our[0] for loop, our in zip(loops, ours, strict=True)]
    print(
        f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}), {len(ratios)} rounds; "
        f"{platform.machine()}, {cores()} cores"
    )
    if asked.json:
        asked.json.write_text(json.dumps({"pillow": loops, "vaekit": ours, "ratios": ratios}, indent=1))


if __name__ == "__main__":
    main()
