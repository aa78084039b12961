"""A run that is wanted: kept if it is trained, gone on with if it was begun, else started."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaekit.train.fit import resume
from vaekit.train.given import Say
from vaekit.train.running import begin

if TYPE_CHECKING:
    from vaekit.data import Data
    from vaekit.recipe import Recipe
    from vaekit.run import Run, RunFolder


def onward(
    recipe: Recipe, path: Path, data: Callable[[], Data], say: Say, *, changes: Iterable[str] = (), moved: Any = None,
    allow: Collection[str] = (), progress: bool | None = None,
) -> Run:  # fmt: skip
    """The run at `path`, trained to its end. `changes` and the path of `moved` data are for one that was begun.

    Raises VaekitError and InterruptedRun, as `fit` and `resume` do.
    """
    from vaekit.run import RunFolder, load

    folder, changes = RunFolder(path), list(changes)
    if not begun(folder):
        for left in (folder.metrics, folder.recipe, folder.contract):  # of a start that was cut short
            left.unlink(missing_ok=True)
        return begin(recipe, data(), path, say, allow=allow, progress=progress)
    if not changes and moved is None and trained(folder, allow):
        say(f"{path} is trained, and kept")
        return load(path, allow=allow)
    again = data() if moved is None else moved  # a path, which the run then notes
    return resume(path, set=changes, data=again, allow=allow, progress=progress)


def begun(folder: RunFolder) -> bool:
    """Whether there is something to go on with."""
    return folder.recipe.is_file() and folder.contract.is_file()


def trained(folder: RunFolder, allow: Collection[str]) -> bool:
    """Whether all epochs are done and the last picture is there."""
    settings, lines = folder.read_recipe(allow).train, folder.read_metrics()
    whole = folder.weights.is_file() and (not settings.pictures or (folder.pictures / "curves.png").is_file())
    return bool(lines) and lines[-1]["epoch"] == settings.epochs and whole
