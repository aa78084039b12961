"""How long a training step takes as batch, latent, draws k and image size grow: a table, and a plot beside lines.

    python benchmarks/scaling.py [--rounds 5] [--steps 6] [--plot scaling.png] [--json FILE]

A dense net of 400 units on one channel of grey noise, 28x28, batch 128, 20 latent dimensions, one draw (the bound of k
draws is the IWAE's), eager fp32 on one thread; then one of the four grows and the rest stays. Steps are vaekit's own, of
the training loop, without validation, log and checkpoint; all settings in turn, round by round, in one process. The line
is the least squares fit a + b n of the medians, with how far they lie from it; image size counts in pixels. The slope
between the last two points against the line's says whether the end still is straight.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
import rounds
from step import Way

from vaekit.data import open_data

NET = [
    "posterior.net.hidden=[400]",
    "likelihood.net.hidden=[400]",
    "likelihood.kind=BernoulliLikelihood",
    "train.precision=fp32",
    "train.compile=false",
    "train.threads=1",
    "train.epochs=1000",
]
START = {"batch": 128, "latent": 20, "draws": 1, "pixels": 28 * 28}
GROWN = {
    "batch": [32, 128, 256, 512, 1024],
    "latent": [2, 20, 64, 128, 256],
    "draws": [1, 2, 4, 8, 16],
    "pixels": [side * side for side in (14, 28, 42, 56, 84)],
}


def way(data: Any, settings: dict[str, int], iwae: bool) -> Way:
    """The steps of a run with these settings."""
    recipe = "iwae" if iwae else "beta-vae"
    bound = [f"objective.draws={settings['draws']}"] if iwae else ["objective.beta=1"]
    sizes = [f"train.batch_size={settings['batch']}", f"model.latent={settings['latent']}"]
    return Way(recipe, data, [*NET, *sizes, *bound])


def measured(steps: int, times: int) -> dict[str, list[tuple[int, list[float]]]]:
    """For each of the four its sizes with the milliseconds a step of each round."""
    generator = np.random.default_rng(0)
    noise = {
        pixels: open_data(generator.integers(0, 256, (2048, int(pixels**0.5), int(pixels**0.5)), np.uint8))
        for pixels in GROWN["pixels"]
    }
    ways = [
        (what, size, way(noise[(START | {what: size})["pixels"]], START | {what: size}, what == "draws"))
        for what, sizes in GROWN.items()
        for size in sizes
    ]
    found: dict[str, list[tuple[int, list[float]]]] = {what: [(n, []) for n in GROWN[what]] for what in GROWN}
    for number in range(times):
        print(f"round {number + 1} of {times}", file=sys.stderr, flush=True)
        for what, size, steps_of in ways:
            readings = dict(found[what])[size]
            readings.append(steps_of.take(steps) / steps * 1000)
    return found


def line(points: list[tuple[int, list[float]]]) -> tuple[float, float, float, float]:
    """a and b of a + b n, the largest relative distance from it, and the last slope over b."""
    sizes = np.array([size for size, _ in points], float)
    times = np.array([statistics.median(readings) for _, readings in points])
    b, a = np.polyfit(sizes, times, 1)
    apart = np.abs(times / (a + b * sizes) - 1).max()
    last = (times[-1] - times[-2]) / (sizes[-1] - sizes[-2])
    return float(a), float(b), float(apart), float(last / b)


def report(found: dict[str, list[tuple[int, list[float]]]]) -> str:
    rows, lines = [], []
    for what, points in found.items():
        a, b, apart, last = line(points)
        for size, readings in points:
            rows.append([what, f"{size:,}", rounds.spread(readings, 2), f"{a + b * size:.2f}"])
        lines.append(
            f"{what}: {a:.2f} ms + {b * 1000:,.1f} us each; at most {apart:.0%} off the line; "
            f"the last slope is {last:.2f} times the line's"
        )
    return rounds.table(["what grows", "to", "ms a step", "straight line"], rows) + "\n\n" + "\n".join(lines)


def plot(found: dict[str, list[tuple[int, list[float]]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 4, figsize=(14, 3.4), layout="constrained")
    for axis, (what, points) in zip(axes, found.items(), strict=True):
        sizes = [size for size, _ in points]
        middle = [statistics.median(readings) for _, readings in points]
        spans = [
            [m - min(readings) for m, (_, readings) in zip(middle, points, strict=True)],
            [max(readings) - m for m, (_, readings) in zip(middle, points, strict=True)],
        ]
        a, b, *_ = line(points)
        axis.plot([0, sizes[-1]], [a, a + b * sizes[-1]], color="0.7", label="straight line")
        axis.errorbar(sizes, middle, yerr=spans, fmt="o", capsize=3, label="median, range")
        axis.set(xlabel=what, ylim=(0, None), xlim=(0, None))
    axes[0].set_ylabel("ms a step")
    axes[0].legend()
    figure.savefig(path, dpi=110)


def main() -> int:
    parser = rounds.options(__doc__, 5)
    parser.add_argument("--steps", type=int, default=6, help="steps of each turn (default 6)")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw it")
    given = parser.parse_args()
    about = rounds.machine()
    found = measured(given.steps, given.rounds)
    print(report(found))
    if given.plot is not None:
        plot(found, given.plot)
    rounds.keep(given.json, {"machine": about, "milliseconds": found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
