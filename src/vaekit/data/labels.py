"""Labels as people give them -> class numbers and class names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vaekit.data.raw import Raw
from vaekit.errors import VaekitError

_MAX_CLASSES = 1000

Numbered = Mapping[str, "np.ndarray | None"]


def attach(raw: Raw, labels: Any, what: str) -> None:
    """Set labels given apart: an array, or the path of an .npy, idx or one-column text file."""
    if labels is None or isinstance(labels, int):
        return
    if isinstance(labels, str):
        if any(part.label is not None for part in raw.parts.values()):
            return  # it named a key or a column, and the reader has taken it
        if not Path(labels).is_file():
            raise VaekitError(f"{what} has no key or column {labels!r}, and there is no such labels file")
    if len(raw.parts) != 1:
        raise VaekitError(f"labels for {what}, which names its splits, must be given with each split")
    (part,) = raw.parts.values()
    part.label = _read(Path(labels)) if isinstance(labels, (str, Path)) else _array(labels)
    raw.names = None


def _array(labels: Any) -> np.ndarray:
    from vaekit.data.arrays import labels_of

    return labels_of(labels)


def _read(path: Path) -> np.ndarray:
    from vaekit.data import arrays, idx

    if path.suffix == ".npy":
        return _array(arrays.load_npy(path))
    if idx.looks_like(path):
        return idx.read(path)
    try:
        return np.array(
            [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        )
    except (OSError, UnicodeDecodeError) as error:
        raise VaekitError(f"labels {path.name} cannot be read: {error}") from error


def number(raw: Raw, what: str, known: tuple[str, ...]) -> tuple[Numbered, tuple[str, ...], str]:
    """(class numbers by part, class names, a note). Where names are `known`, numbers are theirs, else -1."""
    given = {name: part.label for name, part in raw.parts.items()}
    for name, label in given.items():
        n = len(raw.parts[name].x)
        if label is not None and (label.ndim != 1 or len(label) != n):
            shape = f"{len(label):,}" if label.ndim == 1 else f"an array {label.shape} of"
            where = "" if name == "all" else f" {name}"
            raise VaekitError(f"{what}: {shape} labels for {n:,}{where} rows; give one label a row")
    present = {name: label for name, label in given.items() if label is not None}
    none: Numbered = dict.fromkeys(given)
    if not present or ("train" in given and given["train"] is None):
        return none, known, ""
    if raw.names is not None:
        numbered = {n: label.astype(np.int64) for n, label in present.items()}
        names = raw.names
        if any(label.size and label.max() >= len(names) for label in numbered.values()):
            top = max(label.max() for label in numbered.values())
            raise VaekitError(f"{what}: labels go up to {top}, expected {len(names)} classes")
    else:
        joined = np.concatenate([np.asarray(label) for label in present.values()])
        if joined.dtype.kind == "f":
            if not np.isfinite(joined).all() or (joined != np.rint(joined)).any():
                return none, known, "labels that are no whole numbers left out: they name no classes"
            joined = joined.astype(np.int64)
        elif joined.dtype.kind not in "iub":
            joined = joined.astype(str)
        values, ids = np.unique(joined, return_inverse=True)
        if len(values) > _MAX_CLASSES or (len(values) > 20 and len(values) > len(joined) // 2):
            return none, known, f"labels left out: {len(values):,} different values name no classes"
        names = tuple(str(int(v)) if joined.dtype.kind == "b" else str(v) for v in values)
        bounds = np.cumsum([len(label) for label in present.values()])[:-1]
        numbered = dict(zip(present, np.split(ids.astype(np.int64).reshape(-1), bounds), strict=True))
    if known and names != known:
        place = np.array([known.index(n) if n in known else -1 for n in names], np.int64)
        numbered = {n: np.where(label >= 0, place[label], -1) for n, label in numbered.items()}
        names = known
        if all((label < 0).all() for label in numbered.values()):
            return none, known, ""
    elif len(names) < 2 and not known:
        return none, (), ""
    return {**none, **numbered}, names, ""
