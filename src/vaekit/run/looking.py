"""A model that is looked at: no gradient, eval mode, a generator of one's own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn


@contextlib.contextmanager
def looking(model: nn.Module, seed: int | None = None) -> Iterator[torch.device]:
    """Yield the model's device; with a seed the generators are one's own. All is as before afterwards."""
    device = next(model.parameters()).device
    modes = [(module, module.training) for module in model.modules()]
    devices = [device.index or 0] if device.type == "cuda" else []
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        if seed is not None:
            stack.enter_context(torch.random.fork_rng(devices))
            torch.manual_seed(seed)
        try:
            model.eval()
            yield device
        finally:
            for module, mode in modes:
                module.training = mode
