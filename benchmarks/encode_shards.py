"""Rows a second of `vaekit encode RUN DATA --engine local` against `--engine ray` with an actor a core.

    python benchmarks/encode_shards.py [--shards 12] [--rows 10000] [--scores 4] [--rounds 3] [--json FILE]

The collection: parquet shards of 28x28 bytes from a seed (a column of lists), encoded, and scored from some draws (none
with --scores 0), by a small untuned run of the recipe `vectors` (dense nets, latent 16). Three ways in turn, round
after round: this process with one thread, this process with a thread a core, and a Ray cluster that the call starts
and ends, an actor a core with one thread each. Each takes the whole collection and a third of it: the difference is
what the rows cost, the rest is the start (Ray's servers, and torch in each actor). Medians and ranges over rounds;
ratios are within a round. It ends with an error unless ray and one thread write the same bytes, and two threads the
same codes to 1e-4.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import torch

import vaekit
from vaekit import shards
from vaekit.devices import cores


def collection(folder: Path, count: int, rows: int) -> tuple[Path, Path]:
    """A folder of shards, and one of a third of them."""
    whole, third = folder / "whole", folder / "third"
    for place in (whole, third):
        place.mkdir()
    draws = np.random.default_rng(0)
    for number in range(count):
        pixels = draws.integers(0, 256, rows * 784, dtype=np.uint8)
        columns = {"id": np.arange(rows), "pixels": arrow.FixedSizeListArray.from_arrays(pixels, 784)}
        parquet.write_table(arrow.table(columns), whole / f"part-{number:03d}.parquet")
        if number < count // 3:
            os.link(whole / f"part-{number:03d}.parquet", third / f"part-{number:03d}.parquet")
    return whole, third


def trained(folder: Path) -> Path:
    x = np.random.default_rng(1).integers(0, 256, (600, 1, 28, 28), dtype=np.uint8)
    vaekit.fit(x, recipe="vectors", latent=16, output=folder, seed=0, set=["train.epochs=1"], progress=False)
    return folder


def seconds(
    run: Path, data: Path, out: Path, engine: str, threads: int, draws: int | None
) -> tuple[float, int]:
    torch.set_num_threads(threads)
    shutil.rmtree(out, ignore_errors=True)
    done = shards.encode(run, data, out, engine=engine, draws=draws)  # type: ignore[arg-type]
    return done.seconds, done.rows


def equal(one: Path, other: Path, bytes_too: bool) -> None:
    for file in sorted(one.glob("*.parquet")):
        if bytes_too and file.read_bytes() != (other / file.name).read_bytes():
            sys.exit(f"{file.name}: ray and one thread wrote different bytes")
        a, b = (
            parquet.read_table(place / file.name, columns=["mean_0"])["mean_0"].to_numpy()
            for place in (one, other)
        )
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4)


def told(values: list[float]) -> str:
    return f"{statistics.median(values):,.2f} ({min(values):,.2f} to {max(values):,.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value in (("shards", 12), ("rows", 10_000), ("scores", 4), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    ways = {
        "local, 1 thread": ("local", 1),
        f"local, {cores()} threads": ("local", cores()),
        f"ray, {cores()} actors": ("ray", 1),
    }
    rates: dict[str, list[float]] = {way: [] for way in ways}
    starts: dict[str, list[float]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run, (whole, third) = trained(folder / "run"), collection(folder, asked.shards, asked.rows)
        for _ in range(asked.rounds):
            for number, (way, (engine, threads)) in enumerate(ways.items()):
                part, few = seconds(run, third, folder / "part", engine, threads, asked.scores or None)
                all_, many = seconds(
                    run, whole, folder / f"out-{number}", engine, threads, asked.scores or None
                )
                rates[way].append((many - few) / max(all_ - part, 1e-9))
                starts[way].append(all_ - many / rates[way][-1])
            equal(folder / "out-0", folder / "out-1", bytes_too=False)
            equal(folder / "out-0", folder / "out-2", bytes_too=True)
    print(
        f"{asked.shards} shards of {asked.rows:,} rows, scores {asked.scores}, torch {torch.__version__}, {cores()} cores"
    )
    base, *_ = rates
    for way in ways:
        ratios = [a / b for a, b in zip(rates[way], rates[base], strict=True)]
        print(f"{way:18} rows/s {told(rates[way])}   of {base}: {told(ratios)}   start {told(starts[way])} s")
    if asked.json:
        asked.json.write_text(json.dumps({"rows_a_second": rates, "start_seconds": starts}, indent=2) + "\n")


if __name__ == "__main__":
    main()
