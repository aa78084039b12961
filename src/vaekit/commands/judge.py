"""`evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from vaekit.commands.app import Allow, Seed, Split, app
from vaekit.commands.results import numbers, opened_run


@app.command
def evaluate(
    run: Path, data: str | None = None, /, *, split: Split = "test", k: str = "1,10,100,1000",
    binarize: Literal["dynamic", "static"] | None = None, limit: int | None = None, label: str | None = None,
    json: bool = False, seed: Seed = 0, device: Literal["auto", "cpu", "cuda", "mps"] = "cpu", allow: Allow = None,
) -> None:  # fmt: skip
    """ELBO, rate, distortion, importance-weighted NLL at several k with standard error, active units.

    Parameters
    ----------
    run
        A run folder, or its model.safetensors.
    data
        A path or name; without it the run's own data.
    split
        Which split of the data.
    k
        Numbers of draws, with commas; 5000 is what papers report.
    binarize
        Judge on bits, for a run trained on grey values under a Bernoulli.
    limit
        At most so many rows.
    label
        For a label-conditional run: the label of rows that have none.
    json
        Print one JSON object instead of a table.
    seed
        The seed of the draws.
    device
        Where to compute; auto takes CUDA, then MPS, then the CPU.
    """
    import json as j

    opened = opened_run(run, allow)
    result = opened.evaluate(
        data,
        split=split,
        k=numbers(k, "--k"),
        binarize=binarize,
        limit=limit,
        seed=seed,
        device=device,
        label=label,
        progress=True,
    )
    print(j.dumps(result, indent=2) if json else opened.table_of(result))
