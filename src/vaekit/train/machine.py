"""The machine a run works on: Fabric, threads, determinism, and noise; all of it put back afterwards."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from vaekit.recipe.settings import TrainSettings
from vaekit.train import processes
from vaekit.train.replicas import replicas

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def start(settings: TrainSettings) -> Fabric:
    """Fabric for resolved settings, launched: with several devices and no torchrun it starts the other
    processes by running the same command again, so call it before a run folder is made, and share its path
    with `fabric.broadcast`.
    """
    from lightning_fabric import Fabric  # 0.2 s beyond what the first optimiser imports anyway

    # its notes on processes and precision: the run's own line says both
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    processes.check(settings)
    strategy, plugins = _strategy(settings), None
    if strategy != "auto":
        from lightning_fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment

        processes.start(settings)
        plugins = [TorchElasticEnvironment() if processes.by_torchrun() else LightningEnvironment()]
    fabric = Fabric(
        accelerator=settings.device,
        devices=settings.devices,
        num_nodes=settings.nodes,
        strategy=strategy,  # type: ignore[arg-type]
        precision="bf16-mixed" if settings.precision == "bf16" else "32-true",
        plugins=plugins,  # type: ignore[arg-type]
    )
    fabric.launch()
    return fabric


def _strategy(settings: TrainSettings) -> object:
    """How processes share the work: whole weights in each, or a part of them."""
    if settings.strategy == "fsdp":
        from lightning_fabric.strategies import ModelParallelStrategy

        # Fabric's other FSDP flattens weights into one, for which players, clipping and averages would each need a
        # way of their own, and runs on GPUs alone. `sharded.share_out` divides the objective before it comes here.
        return ModelParallelStrategy(
            lambda module, mesh: module,
            data_parallel_size=settings.devices * settings.nodes,
            tensor_parallel_size=1,
        )
    if settings.strategy == "ddp" or settings.devices * settings.nodes > 1:
        return replicas()
    return "auto"


@contextlib.contextmanager
def working(settings: TrainSettings, device: torch.device) -> Iterator[None]:
    """Threads and determinism as resolved, for a run; the caller's, and its noise, come back."""
    threads, exact = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    mps_noise = torch.mps.get_rng_state() if device.type == "mps" else None
    devices = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        try:
            if settings.threads != "auto" and settings.threads != threads:
                torch.set_num_threads(settings.threads)
            if settings.deterministic:
                os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
                torch.use_deterministic_algorithms(True)
            yield
        finally:
            if torch.get_num_threads() != threads:
                torch.set_num_threads(threads)
            if settings.deterministic:
                torch.use_deterministic_algorithms(exact, warn_only=warn_only)
            if mps_noise is not None:
                torch.mps.set_rng_state(mps_noise)


def seed_noise(device: torch.device, seed: int) -> None:
    """Seed the generators of the CPU and of this device.

    `torch.manual_seed` visits every backend and, on a machine without a GPU, records a stack trace each time:
    200 us, half a step of a small model. This is 2 us.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)
