"""What each row is worth: its ELBO, rate, distortion and NLL, instead of their means over a split."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vaekit.data import Split
from vaekit.run import inputs
from vaekit.run.judging import precision

if TYPE_CHECKING:
    from vaekit.run.opened import Run


def scores(run: Run, rows: Split, k: int, seed: int) -> dict[str, np.ndarray]:
    """As `Run.scores`."""
    from vaekit.metrics.reading import checked, prepared, read

    rows = inputs.labelled(run, rows, None)
    with prepared(run.model, run.device, seed):
        seen = read(
            run.model, rows.frozen(run.contract), run.contract, k=[k], draws=k, condition=run.condition,
            device=run.device, memory=None, progress=False, precision=precision(run),
        )  # fmt: skip
    checked(seen)
    found = {"elbo": seen.elbo, "rate": seen.rate, "distortion": seen.distortion}
    if seen.bounds is not None:
        found["nll"] = -seen.bounds[0]
    return {name: values for name, values in found.items() if values is not None}
