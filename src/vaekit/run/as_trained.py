"""What a run was before a prior was fitted to its codes: kept in a folder of its own, a run itself, and brought back."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from vaekit.errors import VaekitError
from vaekit.files import atomic
from vaekit.run.folder import RunFolder

FOLDER = "as-trained"  # in the run's own
RUN = ("recipe.toml", "data.json", "environment.json", "metrics.jsonl", "model.safetensors")
# what was read by means of the prior, and says nothing of another
READ = (
    "evaluation.json", "per_image.npz", "latents.json", "latents.npz", "samples.json", "copies.json", "copies.npz",
    "copies.png", "report.html", "report.??.html",
)  # fmt: skip
FITTED = ("prior.json", "pictures/prior.png")


def kept(folder: RunFolder) -> Path:
    """Where it is, or would be."""
    return folder.path / FOLDER


def keep(folder: RunFolder) -> str:
    """Keep the run as it was trained, once, with its readings; those of a prior that was fitted before are deleted. A
    sentence for the user. Raises VaekitError where the disk refuses.
    """
    try:
        readings = [found for pattern in READ for found in sorted(folder.path.glob(pattern))]
        if kept(folder).is_dir():
            for reading in readings:
                reading.unlink()
            gone = f"; removed, being of the former prior: {_listed(readings)}" if readings else ""
            return f"the run as it was trained is still in {kept(folder)}{gone}"
        copy(folder, kept(folder))
        for reading in readings:
            reading.replace(kept(folder) / reading.name)
    except OSError as error:
        raise _refused(folder, error) from error
    also = f", with what was read of it: {_listed(readings)}" if readings else ""
    return f"the run as it was trained is kept in {kept(folder)}{also}"


def copy(folder: RunFolder, target: Path) -> None:
    """The files that make the run, with their times, in a new folder that appears whole or not at all."""
    temporary = Path(tempfile.mkdtemp(prefix=".", dir=target.parent))
    try:
        for name in RUN:
            if (folder.path / name).is_file():
                shutil.copy2(folder.path / name, temporary / name)
        temporary.chmod(folder.path.stat().st_mode)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def restore(folder: RunFolder) -> None:
    """Bring back what `keep` kept. Cut short it can be asked for again. VaekitError where nothing was kept."""
    if not kept(folder).is_dir():
        raise VaekitError(
            f"{folder.path} has the prior that it was trained with; there is nothing to restore"
        )
    try:
        for pattern in (*READ, *FITTED):
            for found in folder.path.glob(pattern):
                found.unlink()
        for found in sorted(kept(folder).iterdir(), key=lambda path: path.name == "model.safetensors"):
            if found.is_file():  # the weights, which say what the run is, last
                with atomic(folder.path / found.name) as temporary:
                    shutil.copy2(found, temporary)
        shutil.rmtree(kept(folder))
    except OSError as error:
        raise _refused(folder, error) from error


def _listed(paths: list[Path]) -> str:
    return ", ".join(path.name for path in paths)


def _refused(folder: RunFolder, error: OSError) -> VaekitError:
    reason = error.strerror or os.fspath(folder.path)
    return VaekitError(
        f"cannot write in {folder.path}: {reason}; free some space, or give another place with -o"
    )
