"""What a step of a recipe costs, and what several processes would have to exchange: the numbers of docs/scaling.md.

    python benchmarks/scaling_plan.py RECIPE DATA|CxHxW [section.key=value ...]
    python benchmarks/scaling_plan.py torch-mlp 1x28x28 train.devices=2 train.batch_size=128

Parameters, FLOPs an image, bytes; then the step as it is measured here by the processes that train.devices asks for
(the median of seven rounds of 50 steps, and the range), and with several of them what their exchange takes alone.
Of a shape the data are drawn. Run it under OMP_WAIT_POLICY=PASSIVE, as the command line runs.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from typing import Any

import numpy as np
import torch
from step import ROUNDS, STEPS, Way
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from vaekit import recipe as room
from vaekit.data import Data, Preparation, open_data

FEW = 16  # images that FLOPs are counted over
DRAWN = 2048


def data_of(source: str, name: str) -> Data:
    """The recipe's data, or drawn ones of a shape."""
    sizes = source.split("x")
    if all(size.isdecimal() for size in sizes):
        shape = tuple(map(int, sizes))
        return open_data(np.random.default_rng(0).integers(0, 256, (DRAWN, *shape), np.uint8))
    given = room.load(name, []).data.model_dump(exclude={"source"}, exclude_defaults=True)
    return open_data(source, **{key: value for key, value in given.items() if value is not None})


def flops(objective: Any, x: Tensor) -> tuple[float, float]:
    """FLOPs an image, forward and with backward: products alone, two for a multiply and an add."""
    half = torch.full((), 0.5)
    with FlopCounterMode(display=False) as forward:
        loss, _ = objective(x, None, half)
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    once = forward.get_total_flops() / len(x)
    return once, once + backward.get_total_flops() / len(x)


def seconds(tensor: Tensor) -> list[float]:
    """Seconds for an all-reduce."""
    found = []
    for _ in range(30):
        torch.distributed.barrier()
        began = time.perf_counter()
        torch.distributed.all_reduce(tensor)
        if tensor.device.type == "cuda":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - began)
    return sorted(found)


def main(name: str, source: str, overrides: list[str]) -> None:
    data = data_of(source, name)
    chosen = room.resolve(room.load(name, overrides), data.contract)
    objective = room.build(chosen, data.contract)
    weights = [p.numel() for p in objective.parameters()]
    x = Preparation(data.contract)(torch.from_numpy(np.stack([data.train.x[i] for i in range(FEW)])))
    once, both = flops(objective, x)
    size, ema = 4 * sum(weights), chosen.train.ema is not None
    way = Way(name, data, overrides)
    for _ in range(ROUNDS):
        way.rounds.append(way.take(STEPS) / STEPS * 1000)
    lines = [
        f"{name} on {'x'.join(map(str, data.contract.shape))}: {sum(weights):,} parameters in {len(weights)} tensors",
        f"  FLOPs an image: {once / 1e6:.2f} M forward, {both / 1e6:.2f} M with backward",
        f"  bytes of a process (ddp): weights {size / 1e6:.2f} MB, gradients {size / 1e6:.2f}, moments "
        f"{2 * size / 1e6:.2f}, average {size * ema / 1e6:.2f}; all-reduced a step {size / 1e6:.2f}",
    ]
    plan, settings, median = way.plan, way.settings, statistics.median(way.rounds)
    lines.append(
        f"  {plan.processes} process(es), {settings.strategy}, {plan.batch} images each, {settings.threads} thread(s), "
        f"{settings.precision}, {settings.device}: {median:.2f} ms a step ({min(way.rounds):.2f} to "
        f"{max(way.rounds):.2f}), {1000 * plan.per_step / median:,.0f} images/s, "
        f"{both * plan.per_step / median / 1e6:.1f} GFLOP/s"
    )
    if plan.processes > 1:
        for what, count in (("the gradients", sum(weights)), ("one number", 1)):
            tensor = torch.zeros(count, device=way.steps.device)
            found = seconds(tensor)
            lines.append(
                f"  all-reduce of {what} alone: {1000 * statistics.median(found):.3f} ms "
                f"({1000 * found[0]:.3f} to {1000 * found[-1]:.3f})"
            )
    if os.environ.get("RANK", "0") == "0":
        print("\n".join(lines))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
