"""Everything that is chosen automatically, chosen once: `recipe.toml` keeps the result for later resumes."""

from __future__ import annotations

import math
import os
from pathlib import Path

from vaekit.devices import chosen, cores, here
from vaekit.errors import VaekitError
from vaekit.recipe.settings import TrainSettings

DEFAULT_STEPS = 3000
MOST_THREADS = 16
SMALL = 30_000_000  # weights times batch below which a second thread costs more than it brings


def resolve(settings: TrainSettings, *, n_train: int, model_parameters: int = 0) -> TrainSettings:
    """Settings with nothing left to choose; resolving them again changes nothing.

    n_train: training rows; model_parameters: the number of trainable numbers in the model.
    Raises VaekitError for a device or precision that this machine does not have.
    """
    return decide(settings, n_train=n_train, model_parameters=model_parameters)[0]


def decide(
    settings: TrainSettings, *, n_train: int, model_parameters: int = 0
) -> tuple[TrainSettings, dict[str, str]]:
    """`resolve`, with the reason for each automatic choice by field name."""
    if n_train < 1:
        raise VaekitError("there are no training rows; training needs at least one")
    devices, nodes, processes_reason = _processes(settings)
    device, device_reason = _device(settings)
    batch, batch_reason = _batch_size(settings, n_train // (devices * nodes))
    precision, precision_reason = _precision(settings, device, batch, model_parameters)
    threads, threads_reason = _threads(settings, batch * model_parameters, devices)
    settings = settings.model_copy(update={"devices": devices, "nodes": nodes, "batch_size": batch})
    epochs, epochs_reason = _epochs(settings, n_train)
    compile_, compile_reason = _compile(settings)
    chosen = {
        "device": device, "precision": precision, "threads": threads, "compile": compile_, "epochs": epochs,
        "steps": None,
    }  # fmt: skip
    reasons = {
        "devices": processes_reason, "device": device_reason, "batch_size": batch_reason,
        "epochs": epochs_reason, "precision": precision_reason, "threads": threads_reason,
        "compile": compile_reason,
    }  # fmt: skip
    return settings.model_copy(update=chosen), reasons


def steps_per_epoch(settings: TrainSettings, n_train: int) -> int:
    """Optimiser steps in one pass over the rows. `settings.batch_size` must be a number."""
    assert settings.batch_size != "auto"
    processes = settings.devices * settings.nodes
    per_step = settings.batch_size * settings.gradient_accumulation_steps * processes
    whole, rest = divmod(n_train, per_step)
    # A rest that cannot give every process a row is dropped: each process must take part in each step.
    more = rest >= processes and not settings.drop_last
    return max(1, whole + more)


def _processes(settings: TrainSettings) -> tuple[int, int, str]:
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return settings.devices, settings.nodes, "as set"
    local, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    return local, world // local, "as torchrun started them"


def _device(settings: TrainSettings) -> tuple[str, str]:
    device = chosen(settings.device, "train.device")
    return (
        device,
        "as set" if settings.device != "auto" else f"the fastest of what is here: {', '.join(here())}",
    )


def _batch_size(settings: TrainSettings, n: int) -> tuple[int, str]:
    if settings.batch_size != "auto":
        return settings.batch_size, "as set"
    # Eight steps an epoch at least, so that a small set still gives a stochastic gradient; 128 at most.
    batch = 2 ** max(0, int(math.log2(max(1, n / 8))))
    return min(128, max(batch, min(n, 8)), max(1, n)), f"for {n} rows"


def _precision(settings: TrainSettings, device: str, batch: int, parameters: int) -> tuple[str, str]:
    import torch

    if settings.precision == "bf16" and device == "mps":
        raise VaekitError("train.precision is 'bf16', which vaekit does not use on mps; set it to 'fp32'")
    if settings.precision != "auto":
        return settings.precision, "as set"
    if device == "cuda":
        helps = torch.cuda.is_bf16_supported(including_emulation=False)
        return ("bf16", "this GPU computes in bf16") if helps else ("fp32", "this GPU has no bf16")
    if device == "cpu":
        if not _cpu_bf16():
            return "fp32", "this CPU has no bf16 arithmetic"
        # Measured with AMX: nothing at batch 32, 1.4 times at 128, 1.7 times at 512; casts eat it in narrow
        # nets.
        if batch < 128 or parameters < 1_000_000:
            return "fp32", "batch or net too small for bf16 to help"
        return "bf16", "this CPU computes in bf16"
    return "fp32", f"no bf16 on {device}"


def _cpu_bf16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text().split("flags", 1)[1].split("\n", 1)[0].split()
    except (OSError, IndexError):
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _threads(settings: TrainSettings, work: int, local_processes: int) -> tuple[int, str]:
    if settings.threads != "auto":
        return settings.threads, "as set"
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0 and "TORCHELASTIC_RUN_ID" not in os.environ:
        return int(asked), "OMP_NUM_THREADS"
    if 0 < work < SMALL:
        # Measured on two cores, MLP of 171,000 weights, batch 64: 3.2 ms a step with one thread, 4.2 ms with
        # two, and far steadier where others use the machine.
        return 1, "steps too small to share"
    count = cores()
    threads = max(1, min(MOST_THREADS, count // local_processes))
    return threads, f"{count} cores for {local_processes} process(es)"


def _epochs(settings: TrainSettings, n_train: int) -> tuple[int, str]:
    if settings.epochs is not None:
        return settings.epochs, "as set"
    steps, per_epoch = settings.steps or DEFAULT_STEPS, steps_per_epoch(settings, n_train)
    return math.ceil(steps / per_epoch), f"{steps} steps at {per_epoch} an epoch"


def _compile(settings: TrainSettings) -> tuple[bool, str]:
    if settings.compile != "auto":
        return settings.compile, "as set"
    # Tracing costs 20 s cold and 3 s from the cache for 0-10 % of a step on a CPU; on a GPU the small steps
    # of a VAE gain more, but not yet so reliably that a first run should wait for a C++ compiler.
    return (
        False,
        "compiling costs up to 20 s and gains at most a tenth here; set train.compile=true for long runs",
    )
