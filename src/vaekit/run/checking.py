"""What cannot be read of a run, found before the first of several readings, each of which may take minutes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vaekit.devices import chosen
from vaekit.errors import VaekitError
from vaekit.run import inputs, judging, readings

if TYPE_CHECKING:
    from vaekit.run.opened import Run


def check(
    run: Run, names: Collection[str], data: Any, split: str, device: str, *, nats: Mapping[str, Any],
    inception: Path | None, refit: bool,
) -> None:  # fmt: skip
    """Raise VaekitError where one of the readings cannot be taken of these rows.

    `nats`: what `Run.evaluate` is given. `refit`: it will read this model with another encoder.
    """
    chosen(device)
    if "nats" in names:
        _nats(run, data, split, refit, **nats)
    if {"latents", "samples", "copies"} & set(names):
        run.data()  # whose training rows they stand beside
    if not set(names) - {"nats"}:
        return
    own = data is None or inputs.is_own(run, data)
    found = run.data() if own else inputs.opened(data, run.contract)
    parts = list(found.splits.values()) if split == "all" else [found.split(split)]
    for part in parts:
        inputs.labelled(run, part, None)
    if "copies" in names:
        readings.refuse_training_rows(run, data, split)
    if "disentanglement" in names:
        from vaekit.metrics.disentanglement.judge import refuse

        refuse(run.model, parts, found.contract)
    if inception is not None:
        from vaekit.metrics.inception import InceptionFeatures

        InceptionFeatures(inception, run.contract, torch.device("cpu"))


def _nats(
    run: Run, data: Any, split: str, refit: bool, *, k: Collection[int], binarize: str | None, limit: int | None,
    label: Any, ais: Mapping[str, Any] | None,
) -> None:  # fmt: skip
    if not k or min(k) < 1:
        raise VaekitError(f"k is {list(k)}; give one or more whole numbers of draws, each at least 1")
    contract, _ = judging.rows_of(run, data, split, binarize, limit, label)
    if ais is None:
        return
    from vaekit.metrics.ais import Annealing
    from vaekit.metrics.evaluate import refuse_annealing

    annealing = Annealing.of(ais)
    refuse_annealing(run.model, contract, replace(annealing, start="prior") if refit else annealing)
