"""What the shards of a collection are: data files, and folders of images."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from vaekit.data.members import is_image, natural, stamp
from vaekit.data.sources import ARCHIVES, ARRAYS, TABLES, suffix
from vaekit.errors import VaekitError

_EXPECTED = "parquet, npy, npz, csv, zips or tars of images, or folders of images"


@dataclass(frozen=True)
class Shard:
    """A part of a collection. `name` is relative to it, with /; `flat`: of a folder the images directly in it only."""

    name: str
    path: Path
    flat: bool = False

    @property
    def target(self) -> str:
        """What its results are called in the output folder."""
        return self.name if self.name.lower().endswith(".parquet") else f"{self.name}.parquet"

    def stamp(self) -> str:
        """What is there now, by names, sizes and times of change: another one after any change."""
        try:
            return stamp(self.path)
        except OSError as error:
            raise VaekitError(f"{self.name} cannot be read: {error.strerror}") from error


def find(source: Path) -> list[Shard]:
    """The shards of a file or folder in natural order of their names: each data file below it, and each folder directly
    in it that holds images, with all below; images directly in it are one more. Hidden files and names that start with
    an underscore are none. Raises VaekitError where there is nothing to read."""
    if not source.exists():
        raise VaekitError(f"no data at {source}: no such file or folder")
    root = source.resolve()
    if root.is_file():
        return [Shard(root.name, root)]
    files, pictured = _walk(root)
    shards = [Shard(name, root / name) for name in files]
    shards += [Shard(name, root / name) if name else Shard(root.name, root, flat=True) for name in pictured]
    if not shards:
        raise VaekitError(f"{source} holds no shards; expected {_EXPECTED}")
    owners: dict[str, str] = {}
    for shard in shards:
        other = owners.setdefault(shard.target, shard.name)
        if other != shard.name:
            raise VaekitError(f"{other} and {shard.name} would both become {shard.target}: rename one")
    return sorted(shards, key=lambda shard: natural(shard.name))


def _walk(root: Path) -> tuple[list[str], set[str]]:
    """Data files below a folder, and the folders directly in it ("" for itself) that hold images."""
    endings, found, pictured = TABLES | ARRAYS | ARCHIVES, [], set()

    def fail(error: OSError) -> None:
        raise VaekitError(f"cannot read the folder {error.filename}: {error.strerror}") from error

    for where, folders, files in os.walk(root, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        inner = Path(where).relative_to(root)
        for file in files:
            if file.startswith((".", "_")):
                continue
            if suffix(Path(file)) in endings:
                found.append((inner / file).as_posix())
            elif is_image(file):
                pictured.add(inner.parts[0] if inner.parts else "")
    return found, pictured
