"""Whole weights in every process (DDP)."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn


def replicas() -> Any:
    """A strategy of Fabric, which is imported here and not before: to import it writes into the environment."""
    from lightning_fabric.strategies import DDPStrategy
    from torch.nn.parallel import DistributedDataParallel

    known = inspect.signature(DistributedDataParallel).parameters
    # what DDP calls the exchange of buffers: a name of before torch 2.13, or since
    buffers = next(name for name in ("forward_sync_buffers", "broadcast_buffers") if name in known)

    class Replicas(DDPStrategy):
        """DDP that searches each step's graph for parameters without a gradient only where there are any.

        The search is a walk over the graph in every step. Buffers are exchanged after a step, not here: what is
        validated must be the same everywhere, too.
        """

        some_sit_out = True  # `alike.some_sit_out`

        def setup_module(self, module: nn.Module) -> DistributedDataParallel:
            """Wrap the module, on its device."""
            self._ddp_kwargs |= {"find_unused_parameters": self.some_sit_out, buffers: False}
            return super().setup_module(module)

    return Replicas()
