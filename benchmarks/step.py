"""Milliseconds a training step and images a second of a recipe on its data, as the training loop takes it.

    python benchmarks/step.py RECIPE DATA [section.key=value ...]

The first step apart (with train.compile=true it compiles), then 20 to warm up, then seven rounds of 50: the median round
and the range. Several settings are compared in one run, round by round, when they are divided by "/":

    python benchmarks/step.py torch-mlp mnist train.compile=false / train.compile=true train.precision=bf16

Run it under OMP_WAIT_POLICY=PASSIVE, as the command line runs.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import time

import torch

from vaekit import recipe as room
from vaekit.data import Batches, Data, Preparation, open_data
from vaekit.train.automatic import decide
from vaekit.train.effort import multiply_adds
from vaekit.train.machine import start
from vaekit.train.plan import Plan
from vaekit.train.steps import Steps

ROUNDS, STEPS = 7, 50


class Way:
    """One setting: the steps of a run, without validation, log and checkpoint."""

    def __init__(self, name: str, data: Data, overrides: list[str]) -> None:
        self.overrides = " ".join(overrides) or "as the recipe is"
        chosen = room.resolve(room.load(name, overrides), data.contract)
        objective = room.build(chosen, data.contract)
        condition = chosen.model.condition == "label"
        work, tensors = multiply_adds(objective, data, condition), len(list(objective.parameters()))
        self.settings, _ = decide(
            chosen.train, n_train=len(data.train), multiply_adds=work, model_tensors=tensors
        )
        self.plan, fabric = Plan.of(self.settings, len(data.train)), start(self.settings)
        batches = Batches(data.train, data.contract, fabric.device, condition=condition, mirror=data.mirror)
        self.steps = Steps(
            objective,
            Preparation(data.contract).to(fabric.device),
            batches,
            self.plan,
            self.settings,
            fabric,
            print,
        )
        self.numbers = itertools.count()
        self.rounds: list[float] = []
        self.first = self.take(1)
        self.take(20)

    def take(self, count: int) -> float:
        """Seconds for so many full steps."""
        torch.set_num_threads(int(self.settings.threads))
        whole = max(1, self.plan.n // self.plan.per_step)
        began = time.perf_counter()
        for number in itertools.islice(self.numbers, count):
            self.steps.take(number // whole, number % whole, number)
        if self.steps.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began


def main(name: str, source: str, ways: list[list[str]]) -> None:
    chosen = room.load(name, ways[0])
    options = {
        k: v
        for k, v in chosen.data.model_dump(exclude={"source"}, exclude_defaults=True).items()
        if v is not None
    }
    data = open_data(source, **options)
    compared = [Way(name, data, overrides) for overrides in ways]
    for _ in range(ROUNDS):
        for way in compared:
            way.rounds.append(way.take(STEPS) / STEPS * 1000)
    for way in compared:
        median, s = statistics.median(way.rounds), way.settings
        print(
            f"{name} ({way.overrides}): {median:.2f} ms a step ({min(way.rounds):.2f} to {max(way.rounds):.2f}), "
            f"{1000 * way.plan.per_step / median:,.0f} images/s; first step {way.first:.1f} s; batch {s.batch_size}, "
            f"{s.precision}, {'compiled' if s.compile else 'eager'}, {s.threads} threads, {s.device}"
        )


if __name__ == "__main__":
    given = sys.argv[3:]
    main(
        sys.argv[1],
        sys.argv[2],
        [list(g) for sep, g in itertools.groupby(given, lambda w: w == "/") if not sep] or [[]],
    )
