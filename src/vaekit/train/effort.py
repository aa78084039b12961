"""How much arithmetic a row costs: what the automatic choices of precision and threads go by."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from vaekit.data import Data


@torch.no_grad()
def multiply_adds(objective: nn.Module, data: Data, condition: bool) -> int:
    """Multiply-adds of one row going forward through the objective, counted on the first row; its products alone.

    A net that cannot take a single row counts as many as it has weights.
    """
    from torch.utils.flop_counter import FlopCounterMode

    contract, training = data.contract, objective.training
    try:
        with torch.random.fork_rng(devices=[]), FlopCounterMode(display=False) as counter:
            x = contract.scale(torch.from_numpy(np.array(data.train.rows(slice(0, 1)))))
            c = torch.eye(len(contract.labels))[:1] if condition else None
            objective.eval()(x, c, torch.ones(()))
        return counter.get_total_flops() // 2
    except Exception:
        return sum(p.numel() for p in objective.parameters())
    finally:
        objective.train(training)
