"""The door to the disentanglement scores: which rows, and the picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from vaekit.data import Split
from vaekit.run import inputs
from vaekit.run.readings import kept

if TYPE_CHECKING:
    from PIL.Image import Image

    from vaekit.run.opened import Run


def disentanglement(
    run: Run, data: Any, *, split: str, seed: int, device: str | None, progress: bool
) -> dict[str, Any]:
    """As `Run.disentanglement`. The run's own test split leaves disentanglement.json and .png in the run."""
    from vaekit.metrics.disentanglement.judge import judge

    own, contract = data is None or inputs.is_own(run, data), run.contract
    if isinstance(data, Split):
        splits = [run.rows(data)]
    else:
        found = run.data() if own else inputs.opened(data, contract)
        contract = found.contract
        # split by split, for all rows of a large set are not in memory at once
        splits = list(found.splits.values()) if split == "all" else [found.split(split)]
    splits = [inputs.labelled(run, each.frozen(contract), None) for each in splits]
    keep = kept(run, data, split)
    result = judge(
        run.model, splits, contract, seed=seed, condition=run.condition, device=device, progress=progress,
        save=keep,
    )  # fmt: skip
    if keep is not None:
        from vaekit import pictures

        pictures.save(picture(result), keep / "disentanglement.png")
    return result


def picture(found: Mapping[str, Any]) -> Image:
    """Mutual information of factors (rows) and latent dimensions, as a share of the factor's entropy."""
    from vaekit import pictures

    shares = np.array(found["mutual_information"]).T / np.array(found["entropy"])[:, None]
    dimensions = [f"z{i}" for i in range(found["latent"])]
    title = "mutual information, as a share of the factor's entropy"
    return pictures.heat_map(shares, list(found["factors"]), dimensions, title, most=1.0)
