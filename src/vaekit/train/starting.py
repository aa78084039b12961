"""Where a run starts that does not start from noise: weights of another run, and parts that keep theirs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vaekit.errors import VaekitError
from vaekit.run import RunFolder, weights


def freeze(objective: nn.Module, slots: tuple[str, ...]) -> None:
    """`Objective.freeze`. Raises VaekitError for an objective that cannot, and where nothing is left to train."""
    method: Any = getattr(objective, "freeze", None)
    if method is None:
        raise VaekitError(
            f"train.frozen is {list(slots)}, but {type(objective).__name__} cannot freeze parts: derive it from "
            "vaekit.objectives.common.Objective"
        )
    method(*slots)
    if not any(p.requires_grad for p in objective.parameters()):
        raise VaekitError(
            f"train.frozen is {list(slots)}, which leaves nothing to train; leave one of them out"
        )


def weights_at(start: str, model: nn.Module) -> dict[str, Tensor]:
    """The weights of the run (or file) `start`. Raises VaekitError unless they are all that this model has."""
    path = Path(start).expanduser()
    file = RunFolder.open(path).weights if path.is_dir() else path
    if not file.exists():
        raise VaekitError(f"train.start: there are no weights at {file}")
    state = weights.read(file)[1]
    weights.check(model, state, file)
    return state


def begin_with(model: nn.Module, folder: RunFolder) -> None:
    """Load what the folder starts with, where nothing was trained yet: a checkpoint holds all weights itself. Raises
    VaekitError where it is gone."""
    if not folder.checkpoint.exists():
        weights.put(model, weights.read(folder.start)[1], folder.start)


def kept_start(start: str) -> str:
    """The path made absolute, so that recipe.toml says which run it was from any folder."""
    return str(Path(start).expanduser().resolve())


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor], exact: str) -> bool:
    """Whether these are the same weights: bit for bit under the prefix `exact`, else up to rounding."""
    return one.keys() == other.keys() and all(
        a.shape == other[name].shape
        and (
            a.equal(other[name]) if name.startswith(exact) else a.allclose(other[name], rtol=1e-4, atol=1e-5)
        )
        for name, a in one.items()
    )
