"""What a run leaves: a line of metrics an epoch, and how it ended."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Outcome:
    """How a run ended. `reason`: "finished", "stopped early", "interrupted" or "nothing to do"."""

    reason: str
    epochs: int  # done in all, earlier calls included
    steps: int
    best_epoch: int | None
    best_value: float | None  # validation loss, nats
    skipped: int  # steps, in all
    seconds: float
    record: dict[str, Any] | None  # the last line of metrics of this call
    notes: tuple[str, ...] = ()
    signal: str | None = None  # the name of the signal that interrupted
    weights: dict[str, Tensor] = field(default_factory=dict, repr=False)  # the best model's, on the CPU
    ailments: tuple[str, ...] = ()  # what the doctor found and still holds at the last validation, in words


def metrics_line(
    epoch: int, step: int, train: dict[str, float], valid: dict[str, float], updates: dict[str, float],
    learning_rate: float, seconds: float, images: int, findings: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:  # fmt: skip
    """One line of metrics.jsonl: terms in nats under `train_` and `valid_`, whatever depends on the clock
    under `time`.

    A number that is not finite is null, for JSON has no NaN. beta is a setting of the step, not a result, and
    stands alone. What the doctor found new stands under `doctor`, if anything.
    """
    line: dict[str, Any] = {"epoch": epoch, "step": step}
    line |= {f"train_{name}": value for name, value in train.items() if name != "beta"}
    line |= {f"valid_{name}": value for name, value in valid.items() if name != "beta"}
    line |= {"skipped": updates["skipped"], "learning_rate": learning_rate, **updates}
    if "beta" in train:
        line["beta"] = train["beta"]
    line = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()}
    if findings:
        line["doctor"] = list(findings)
    line["time"] = {"seconds": round(seconds, 4), "images_per_second": round(images / seconds, 1)}
    return line
