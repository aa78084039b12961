"""Everything that is chosen automatically, chosen once: `recipe.toml` keeps the result for later resumes."""

from __future__ import annotations

import math
import os

from vaekit.devices import chosen, cores, cpu_bf16, here, spins
from vaekit.errors import VaekitError
from vaekit.recipe.settings import TrainSettings

DEFAULT_STEPS = 3000
MOST_THREADS = 16
# Multiply-adds of a batch going forward below which a step is too small to be divided between threads, or for bf16
# to pay for its casts.
SMALL = 30_000_000
SMALL_IN_BF16 = 1_000_000_000  # the same for threads, where products take a quarter of the time
CHEAPER = 20  # times less work makes a second thread worth while, where threads do not sleep while they wait
# Steps after which a compiled step has repaid its compiling: it takes 8 s for a dense net of 8 weight tensors and 40 s
# for one with a flow of 60, and spares 2 to 4 ms a step.
REPAID, REPAID_PER_TENSOR = 2000, 150


def resolve(
    settings: TrainSettings, *, n_train: int, multiply_adds: int = 0, model_tensors: int = 0
) -> TrainSettings:
    """Settings with nothing left to choose; resolving them again changes nothing.

    n_train: training rows; multiply_adds: of a row going forward; model_tensors: how many weight tensors there are.
    Raises VaekitError for a device or precision that this machine does not have.
    """
    return decide(settings, n_train=n_train, multiply_adds=multiply_adds, model_tensors=model_tensors)[0]


def decide(
    settings: TrainSettings, *, n_train: int, multiply_adds: int = 0, model_tensors: int = 0
) -> tuple[TrainSettings, dict[str, str]]:
    """`resolve`, with the reason for each automatic choice by field name."""
    if n_train < 1:
        raise VaekitError("there are no training rows; training needs at least one")
    devices, nodes, processes_reason = _processes(settings)
    device, device_reason = _device(settings)
    _check_devices(settings, device, devices)
    batch, batch_reason = _batch_size(settings, n_train // (devices * nodes))
    precision, precision_reason = _precision(settings, device, batch * multiply_adds)
    threads, threads_reason = _threads(settings, batch * multiply_adds, precision, devices)
    settings = settings.model_copy(update={"devices": devices, "nodes": nodes, "batch_size": batch})
    epochs, epochs_reason = _epochs(settings, n_train)
    steps = epochs * steps_per_epoch(settings, n_train)
    compile_, compile_reason = _compile(settings, device, steps, model_tensors)
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
    devices, nodes = settings.devices, settings.nodes
    if "TORCHELASTIC_RUN_ID" in os.environ:
        local, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
        if (devices, nodes) not in ((1, 1), (local, world // local)):
            raise VaekitError(
                f"train.devices is {devices} and train.nodes {nodes}, but torchrun has started {local} processes on each "
                f"of {world // local}; leave both out, or give torchrun --nproc-per-node {devices} --nnodes {nodes}"
            )
        return local, world // local, "as torchrun started them"
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK") if name not in os.environ]
    if nodes > 1 and missing:
        raise VaekitError(
            f"train.nodes is {nodes}, but the environment has no {', no '.join(missing)}; run the same command on each "
            "node with MASTER_ADDR and MASTER_PORT of the first and its own NODE_RANK from 0, or use torchrun"
        )
    rank = os.environ.get("NODE_RANK", "")
    if nodes > 1 and not (rank.isdecimal() and int(rank) < nodes):
        raise VaekitError(f"NODE_RANK is {rank!r}, but train.nodes is {nodes}; give 0 to {nodes - 1}")
    return devices, nodes, "as set"


def _check_devices(settings: TrainSettings, device: str, count: int) -> None:
    """VaekitError where a machine has fewer devices than it is to have processes, or they cannot share the weights."""
    import torch

    here = {"cuda": torch.cuda.device_count(), "mps": 1}.get(device, count)
    if count > here:
        raise VaekitError(
            f"train.devices is {count}, but this machine has {here} of {device}; give at most that, or --device cpu"
        )
    if settings.strategy == "fsdp" and device == "mps":
        raise VaekitError("train.strategy is 'fsdp', which torch does not offer on mps; leave it out")


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


def _precision(settings: TrainSettings, device: str, work: int) -> tuple[str, str]:
    import torch

    if settings.precision == "bf16" and device == "mps":
        raise VaekitError("train.precision is 'bf16', which vaekit does not use on mps; set it to 'fp32'")
    if settings.precision != "auto":
        return settings.precision, "as set"
    if device == "cuda":
        helps = torch.cuda.is_bf16_supported(including_emulation=False)
        return ("bf16", "this GPU computes in bf16") if helps else ("fp32", "this GPU has no bf16")
    if device == "cpu":
        if not cpu_bf16():
            return "fp32", "this CPU has no bf16 arithmetic"
        # Measured with AVX512-BF16, one thread (benchmarks/step.py): 784-400-20 at batch 128 3.9 ms a step instead of
        # 7.0, compiled 2.1 instead of 5.4; the digits, at 22 million, 2.3 instead of 2.8.
        if work < SMALL:
            return "fp32", "batch or net too small for bf16 to help"
        return "bf16", "this CPU computes in bf16"
    return "fp32", f"no bf16 on {device}"


def _threads(settings: TrainSettings, work: int, precision: str, local_processes: int) -> tuple[int, str]:
    if settings.threads != "auto":
        return settings.threads, "as set"
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0 and "TORCHELASTIC_RUN_ID" not in os.environ:
        return int(asked), "OMP_NUM_THREADS"
    small = SMALL_IN_BF16 if precision == "bf16" else SMALL
    if 0 < work < (small / CHEAPER if spins() else small):
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


def _compile(settings: TrainSettings, device: str, steps: int, tensors: int) -> tuple[bool, str]:
    from vaekit.train import whole

    if settings.compile != "auto":
        return settings.compile, "as set"
    if not whole.fits(settings, settings.devices * settings.nodes):
        return False, "only a step that one process takes in one piece, by Adam, is compiled unasked"
    if device != "cpu":
        # CUDA graphs are written (whole.py) and wait for somebody to measure them
        return False, f"on {device} only where asked for: train.compile=true"
    if not whole.compiler_here():
        return False, "compiling needs a C++ compiler, and there is none"
    needed = REPAID + REPAID_PER_TENSOR * tensors
    if steps < needed:
        return False, f"{steps:,} steps; it pays from {needed:,}"
    return True, f"{steps:,} steps repay it"
