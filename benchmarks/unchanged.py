"""What precision and compiling change in the end: validation loss over seeds, fp32 and eager beside bf16 and compiled.

    python benchmarks/unchanged.py [RECIPE DATA] [--epochs 10] [--seeds 3] [--json FILE]

By default torch-mlp on MNIST (../shared/data/mnist), ten epochs, three seeds, one thread. Seeds and noise are the same
for all. The last column is the difference of the means in standard deviations over the seeds of both.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import rounds

import vaekit

WAYS = {
    "fp32, in parts": ["train.precision=fp32", "train.compile=false"],
    "bf16, in parts": ["train.precision=bf16", "train.compile=false"],
    "fp32, compiled": ["train.precision=fp32", "train.compile=true"],
    "bf16, compiled": ["train.precision=bf16", "train.compile=true"],
}


def last_loss(recipe: str, data: str, overrides: list[str]) -> float:
    """The validation loss after the last epoch, nats an image."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        vaekit.fit(
            data, recipe=recipe, output=run, set=["train.pictures=false", "train.threads=1", *overrides]
        )
        return vaekit.load(run).metrics()[-1]["valid_loss"]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", nargs="?", default="torch-mlp")
    parser.add_argument("data", nargs="?", default="../shared/data/mnist")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found: dict[str, list[float]] = {}
    for name, overrides in WAYS.items():
        found[name] = []
        for seed in range(given.seeds):
            here = [*overrides, f"train.epochs={given.epochs}", f"train.seed={seed}"]
            found[name].append(last_loss(given.recipe, given.data, here))
            print(f"{name}, seed {seed}: {found[name][-1]:.3f}", file=sys.stderr)
    first = next(iter(found.values()))
    rows = []
    for name, losses in found.items():
        spread = ((statistics.variance(first) + statistics.variance(losses)) / 2) ** 0.5
        apart = (statistics.mean(losses) - statistics.mean(first)) / spread
        rows.append(
            [
                name,
                f"{statistics.mean(losses):.3f}",
                f"{statistics.stdev(losses):.3f}",
                "" if losses is first else f"{apart:+.1f}",
            ]
        )
    print(
        rounds.table(
            [f"{given.recipe}, {given.epochs} epochs", "mean loss", "deviation over seeds", "apart"], rows
        )
    )
    rounds.keep(given.json, {"machine": rounds.machine(), "losses": found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
