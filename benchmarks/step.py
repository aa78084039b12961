"""Milliseconds a training step and images a second of a recipe on its data, apart from start-up and logging.

    python benchmarks/step.py RECIPE DATA [section.key=value ...]

Five rounds of 30 steps, the median round and the range. What decides it on a CPU besides the model is OpenMP's
waiting: run it under OMP_WAIT_POLICY=PASSIVE (the command line's default), and again with GOMP_SPINCOUNT=3000.
"""

from __future__ import annotations

import statistics
import sys
import time

import torch

from vaekit import recipe as room
from vaekit.data import Batches, Preparation, open_data, permutation
from vaekit.train.automatic import resolve
from vaekit.train.step import Step


def main(name: str, source: str, overrides: list[str]) -> None:
    chosen = room.load(name, overrides)
    options = {
        k: v
        for k, v in chosen.data.model_dump(exclude={"source"}, exclude_defaults=True).items()
        if v is not None
    }
    data = open_data(source, **options)
    chosen = room.resolve(chosen, data.contract)
    settings = resolve(chosen.train, n_train=len(data.train))
    torch.set_num_threads(int(settings.threads))
    objective = room.build(chosen, data.contract)
    step = Step(Preparation(data.contract), objective)
    condition = chosen.model.condition == "label"
    batches = Batches(data.train, data.contract, torch.device("cpu"), condition=condition)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-4, fused=True)
    order, batch, t = permutation(len(data.train), 0, 0), int(settings.batch_size), torch.tensor(0.5)

    def one(number: int) -> None:
        start = number * batch % (len(order) - batch + 1)
        loss, *_ = step(*batches.get(order[start : start + batch]), t)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for number in range(10):
        one(number)
    rounds = []
    for round_ in range(5):
        began = time.perf_counter()
        for number in range(30):
            one(30 * round_ + number)
        rounds.append((time.perf_counter() - began) / 30 * 1000)
    median = statistics.median(rounds)
    print(
        f"{name}: {median:.1f} ms a step ({min(rounds):.1f} to {max(rounds):.1f}), {1000 * batch / median:,.0f} "
        f"images/s, batch {batch}, {settings.threads} threads"
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
