"""The validation loss: the same bits and the same noise at every epoch, at t = 1, so that epochs compare."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vaekit.train import sharded
from vaekit.train.ledger import Ledger
from vaekit.train.machine import seed_noise
from vaekit.train.plan import mix
from vaekit.train.step import Step


@torch.no_grad()
def validate(
    objective: nn.Module,
    preparation: nn.Module,
    batches: Any,
    *,
    batch: int,
    seed: int,
    device: torch.device,
    rank: int = 0,
    processes: int = 1,
    reduce: Callable[[Tensor], Tensor] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, float] | None:
    """Means of the objective's terms over `batches`, nats; each process takes an interleaved share of the
    rows. All make the same number of calls, since weights that are shared out are gathered by all or by none.

    batches: `vaekit.data.Batches` over a frozen split. Returns None if `stop` said so on the way.
    """
    training = objective.training
    objective.eval()
    step, ledger, t = Step(preparation, objective), Ledger((), device), torch.ones((), device=device)
    none = torch.empty(0, device=device)  # no gradients, no norms
    mine = np.arange(rank, len(batches), processes)
    batches.follow(mine)
    try:
        for number, first in enumerate(range(0, -(-len(batches) // processes), batch)):
            if stop():
                return None
            index = mine[first : first + batch]
            seed_noise(device, mix(seed, "valid", number, rank))
            raw, c = batches.get(index if len(index) else np.zeros(1, np.int64))
            _, _, values = step(raw, c, t)
            # a process without rows has the same terms to add up, of weight 0
            ledger.add(none, step.names, values if len(index) else torch.zeros_like(values), len(index))
    finally:
        batches.close()
        sharded.close(objective)
        objective.train(training)
    return ledger.means(reduce)
