"""When a step fails: which step, which rows, which layer."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vaekit.errors import VaekitError
from vaekit.files import write_text

PATIENT_SKIPS = 50  # steps skipped in a row before a run stops


class StepError(VaekitError):
    """A training step failed; the message names step, epoch, rows and layer. The cause is chained."""


def layer_of(error: BaseException, objective: nn.Module) -> str | None:
    """The innermost module whose method was running when `error` was raised, as `name (Class)`."""
    names = {id(module): name for name, module in objective.named_modules()}
    found, trace = None, error.__traceback__
    while trace is not None:
        module = trace.tb_frame.f_locals.get("self")
        if isinstance(module, nn.Module) and names.get(id(module)):
            found = f"{names[id(module)]} ({type(module).__name__})"
        trace = trace.tb_next
    return found


@torch.no_grad()
def layer_not_finite(objective: nn.Module, x: Tensor, c: Tensor | None, t: Tensor) -> str | None:
    """The first layer, in the order of computation, that turns this batch into something not finite."""
    if not torch.isfinite(x).all():
        return "the data themselves"
    found: list[str] = []

    def watch(name: str):
        def hook(module: nn.Module, _: Any, output: Any) -> None:
            if not found and not all(torch.isfinite(v).all() for v in _tensors(output)):
                found.append(f"{name} ({type(module).__name__})")

        return hook

    hooks = [m.register_forward_hook(watch(name)) for name, m in objective.named_modules() if name]
    try:
        objective(x, c, t)
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else None


def _tensors(output: Any) -> list[Tensor]:
    """The floating tensors in a tensor, a tuple, a dict, or an object such as a Distribution."""
    if isinstance(output, Tensor):
        return [output] if output.is_floating_point() else []
    if isinstance(output, dict):
        parts: list[Any] = list(output.values())
    elif isinstance(output, (tuple, list)):
        parts = list(output)
    else:
        parts = [v for v in getattr(output, "__dict__", {}).values() if isinstance(v, Tensor)]
    return [tensor for part in parts for tensor in _tensors(part)]


def describe(rows: np.ndarray) -> str:
    """A few rows and how many there are: `128 rows (5, 17, 3, ...)`."""
    few = ", ".join(str(int(r)) for r in rows[:5])
    return f"{len(rows)} rows ({few}{', ...' if len(rows) > 5 else ''})"


def keep_rows(folder: Path, step: int, epoch: int, rows: np.ndarray) -> str:
    """Write all rows of a failed step to `failed_batch.json`; returns how to say so, or nothing if it cannot
    be."""
    try:
        fact = {"step": step, "epoch": epoch, "rows": [int(r) for r in rows]}
        write_text(folder / "failed_batch.json", json.dumps(fact) + "\n")
    except VaekitError:
        return ""
    return " (all of them in failed_batch.json)"


def reason(error: BaseException) -> str:
    """The error in one line, with what to do where that is known."""
    text = " ".join(str(error).split()) or "no message"
    text = text if len(text) <= 300 else text[:300] + "..."
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "not enough memory" in text:
        return f"out of memory: {text}; lower train.batch_size and raise train.gradient_accumulation_steps"
    return text if isinstance(error, VaekitError) else f"{type(error).__name__}: {text}"


def home(folder: Any) -> Path:
    """Where a run folder is."""
    return Path(folder.checkpoint).parent


def crash(error: Exception, steps: Any, folder: Any, step: int, epoch: int) -> str:
    """`training failed at step 12 (epoch 2), 128 rows (5, 17, ...), in net.2 (Linear): RuntimeError: ...`."""
    layer = layer_of(error, steps.objective)
    return f"{_place(steps, folder, step, epoch)}{f', in {layer}' if layer else ''}: {reason(error)}"


def skips(steps: Any, folder: Any, step: int, epoch: int, last: bool) -> str | None:
    """What to say if a player has skipped `PATIENT_SKIPS` steps in a row, or by the `last` step all of them.

    None where all is well. The last batch is run once more to find the layer that spoils it.
    """
    ledger = steps.ledger
    ledger.read()
    for player, in_a_row in ledger.in_a_row.items():
        if in_a_row < PATIENT_SKIPS and not (last and ledger.skipped[player] == step):
            continue
        raw, c = steps.batches.get(steps.plan.shares(steps.rows, steps.rank)[-1])
        layer = layer_not_finite(copy.deepcopy(steps.objective), steps.preparation(raw), c, steps.t)
        cause = f"the first values not finite come from {layer}" if layer else "its gradients are of no use"
        by = f" by player {player!r}" if len(ledger.players) > 1 else ""
        return (
            f"{_place(steps, folder, step, epoch)}: {in_a_row} steps in a row were skipped{by}; {cause}; try "
            "a lower train.learning_rate or train.clip=1"
        )
    return None


def _place(steps: Any, folder: Any, step: int, epoch: int) -> str:
    kept = keep_rows(home(folder), step, epoch, steps.rows) if steps.rank == 0 else ""
    return f"training failed at step {step} (epoch {epoch}), {describe(steps.rows)}{kept}"
