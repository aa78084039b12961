"""`load`: a run folder, or a weights file alone, becomes a model again."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import nn

from vaekit._version import __version__
from vaekit.errors import VaekitError
from vaekit.recipe import build, from_toml
from vaekit.recipe.parts import GIVEN, WITH_NET
from vaekit.recipe.sections import parsed
from vaekit.run import weights
from vaekit.run.folder import RunFolder
from vaekit.run.opened import Run


def load(
    path: str | os.PathLike[str],
    *,
    nets: Mapping[str, nn.Module] | None = None,
    allow: Collection[str] = (),
) -> Run:
    """Open a run by its folder or its model.safetensors; the model is in eval mode, on the CPU.

    nets: your own modules that the run was trained with, {"posterior": module}; their weights are loaded.
    allow: modules from which the recipe may import parts. No pickle is read and no code is run from a file.
    Raises VaekitError for a file that is missing, cut short, of another version, or does not fit its recipe.
    """
    given = Path(path).expanduser()
    folder, file = _places(given)
    metadata, state = weights.read(file)
    made = metadata.get("vaekit", "of unknown version")
    what = str(file) if made == __version__ else f"{file} (made by vaekit {made}, this is {__version__})"
    recipe = from_toml(metadata.get("recipe", ""), f"the recipe in {what}", allow)
    contract = weights.contract_of(metadata.get("contract", ""), f"the data contract in {what}")
    for slot in nets or {}:
        net = getattr(recipe, slot).net if slot in WITH_NET else None
        if net is not None and net.kind != GIVEN:
            raise VaekitError(
                f"{given} was trained with its own {slot} net, {net.kind}: leave it out of nets"
            )
    with torch.device("meta"):  # shapes without memory: a foreign recipe may ask for any size
        weights.check(build(recipe, contract, nets=nets, allow=allow).model, state, file)
    objective = build(recipe, contract, nets=nets, allow=allow)
    weights.put(objective.model, state, file)
    objective.eval()
    source = _source(folder)
    if source is not None:
        recipe = recipe.updated({"data": {"source": source}})
    return Run(given, recipe, contract, objective, folder)


def _places(given: Path) -> tuple[RunFolder | None, Path]:
    """The folder, where there is one, and the weights."""
    if given.is_dir():
        folder = RunFolder.open(given)
        if not folder.weights.exists():
            how = "resume it" if folder.checkpoint.exists() else "train again, or resume it"
            raise VaekitError(
                f"{given} holds no weights yet, its training stopped too early; {how}: "
                f"vaekit train --resume {given}"
            )
        return folder, folder.weights
    if not given.exists():
        raise VaekitError(f"there is no run at {given}")
    beside = RunFolder(given.parent)
    return (beside if given.name == beside.weights.name and beside.recipe.is_file() else None), given


def _source(folder: RunFolder | None) -> str | None:
    """Where the data are, which the folder knows and the weights do not."""
    if folder is None:
        return None
    try:
        source = (
            parsed(folder.recipe.read_text(encoding="utf-8"), "recipe.toml").get("data", {}).get("source")
        )
    except (OSError, ValueError, AttributeError):
        return None
    return source if isinstance(source, str) else None
