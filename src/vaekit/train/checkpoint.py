"""`last.ckpt`: one dict with all that a resume needs, written whole or not at all, no code in it."""

from __future__ import annotations

import errno
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vaekit.errors import VaekitError
from vaekit.files import atomic
from vaekit.recipe.settings import TrainSettings
from vaekit.train.plan import Plan

VERSION = 1
LATEST = 600.0  # seconds of work that a crash may cost
SHARE = (
    20  # a checkpoint at an epoch's end waits until training has taken this many times what the last one cost
)

# A resume with another of these would be another run.
LOCKED = (
    "batch_size", "gradient_accumulation_steps", "drop_last", "seed", "optimizer", "devices", "nodes", "start", "frozen",
)  # fmt: skip


class Pace:
    """When to write: at the first epoch's end, then at each that leaves writing a twentieth of the time at most, and
    within an epoch when the last is `LATEST` old.

    Any checkpoint resumes exactly, so short epochs need not each pay for a synced file.
    """

    def __init__(self) -> None:
        self.cost = self.last = 0.0
        self.begun = time.monotonic()

    def due(self) -> bool:
        """Whether the next write has been earned."""
        return time.monotonic() - self.last >= SHARE * self.cost

    def overdue(self) -> bool:
        """Whether a long epoch should not be waited for."""
        return self.due() and time.monotonic() - max(self.begun, self.last) >= LATEST

    def wrote(self, since: float) -> None:
        """Note a write that began at `since` (monotonic seconds)."""
        self.last = time.monotonic()
        self.cost = self.last - since


def save(path: str | Path, state: dict[str, Any]) -> None:
    """Write the state atomically. VaekitError on a full disk or a folder that cannot be written to."""
    with atomic(path) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:
            # torch's writer swallows the system's reason; a zip that cannot be written is a full disk or
            # quota.
            raise OSError(errno.ENOSPC, f"the disk refused the data ({error})") from error


def load(path: str | Path, device: torch.device) -> dict[str, Any] | None:
    """The state, or None where no checkpoint was written yet. VaekitError for a damaged or foreign file."""
    path = Path(path)
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise VaekitError(
            f"{path} cannot be read ({type(error).__name__}): it is damaged or not a checkpoint of vaekit; "
            "remove it to start this run afresh"
        ) from error
    version = state.get("version") if isinstance(state, dict) else None
    if version != VERSION:
        raise VaekitError(
            f"{path} has checkpoint version {version}, this vaekit reads {VERSION}; resume it with the "
            "vaekit that wrote it (environment.json names it)"
        )
    return state


def check(state: dict[str, Any], settings: TrainSettings, plan: Plan) -> None:
    """VaekitError where these settings or data cannot continue that run."""
    # what a checkpoint of an older vaekit does not name it had by default
    was, now = TrainSettings().model_dump(mode="json") | state["settings"], settings.model_dump(mode="json")
    changed = [
        f"{name} was {was[name]!r} and is now {now[name]!r}" for name in LOCKED if was[name] != now[name]
    ]
    if (was["ema"] is None) != (settings.ema is None):
        changed.append(f"ema was {was['ema']!r} and is now {settings.ema!r}")
    if changed:
        raise VaekitError(f"cannot resume: {'; '.join(changed)}; keep the old values or start a new run")
    if state["epoch"] >= plan.epochs and was.get("keep", "best") != settings.keep:
        raise VaekitError(
            f"cannot resume: the run is finished with keep {was.get('keep', 'best')!r}, and its other weights are gone; "
            "ask for more epochs, or start a new run"
        )
    if state["n"] != plan.n:
        raise VaekitError(f"cannot resume: the run trained on {state['n']} rows, the data now has {plan.n}")


def weights_of(module: torch.nn.Module) -> dict[str, Tensor]:
    """A copy of the module's state on the CPU, no two tensors sharing memory."""
    return {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}
