"""Readings of a run beside its nats: its latent space, its samples, and whether they are copies."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vaekit.data import Split
from vaekit.errors import VaekitError
from vaekit.run import inputs

if TYPE_CHECKING:
    from vaekit.run.opened import Run


def latents(run: Run, data: Any, split: str, seed: int, device: str | None, progress: bool) -> dict[str, Any]:
    """As `Run.latents`."""
    from vaekit.metrics.latents import latents as judge

    return _judged(judge, run, data, run.rows(data, split), split, seed, device, progress)


def samples(
    run: Run, data: Any, split: str, seed: int, device: str | None, inception: Path | None, progress: bool
) -> dict[str, Any]:
    """As `Run.samples`."""
    from vaekit.metrics.samples import samples as judge

    rows = run.rows(data, split)
    return _judged(partial(judge, inception=inception), run, data, rows, split, seed, device, progress)


def copies(run: Run, data: Any, split: str, seed: int, device: str | None, progress: bool) -> dict[str, Any]:
    """As `Run.copies`."""
    from vaekit.metrics.copies import copies as judge

    refuse_training_rows(run, data, split)
    if data is None or inputs.is_own(run, data):
        rows = run.data().split(split)  # as stored: greys are compared before they are binarised
    else:
        rows = data if isinstance(data, Split) else inputs.opened(data, run.contract).split(split)
    found = _judged(judge, run, data, rows, split, seed, device, progress)
    folder = kept(run, data, split)
    if folder is not None:
        _picture(run, folder)
    return found


def refuse_training_rows(run: Run, data: Any, split: str) -> None:
    """Raise VaekitError where what is to be told from copies was trained on."""
    if split in ("train", "all") and (data is None or inputs.is_own(run, data)):
        raise VaekitError(
            f"copies are told by rows that were held out, and split {split} has training rows; take test"
        )


def _judged(
    judge: Callable[..., dict[str, Any]], run: Run, data: Any, rows: Split, split: str, seed: int,
    device: str | None, progress: bool,
) -> dict[str, Any]:  # fmt: skip
    return judge(
        run.model, inputs.labelled(run, rows, None), run.data().train, run.contract, seed=seed,
        condition=run.condition, device=device, progress=progress, save=kept(run, data, split),
    )  # fmt: skip


def kept(run: Run, data: Any, split: str) -> Path | None:
    """Where a reading is left: the run's folder, of its own test split, if it can be written to."""
    own = data is None or inputs.is_own(run, data)
    if not own or split != "test" or run.folder is None or not os.access(run.folder.path, os.W_OK):
        return None
    return run.folder.path


def _picture(run: Run, folder: Path) -> None:
    """The closest items, a column each: sample, its nearest training row, its nearest held-out row."""
    from vaekit import pictures

    with np.load(folder / "copies.npz") as found:
        names = ["sample", "train", "held_out"]
        shown = np.stack([found[name] for name in names])
    drawn = run.picture_of(
        shown.reshape(-1, *shown.shape[2:]), columns=shown.shape[1], rows=["sample", "training", "held out"]
    )
    pictures.save(drawn, folder / "copies.png")
