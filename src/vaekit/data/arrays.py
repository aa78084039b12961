""".npy and .npz files, and what Python holds: arrays, tensors, (x, y), dicts of splits, torch Datasets."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vaekit.data import progress
from vaekit.data.raw import Options, Part, Raw
from vaekit.data.splits import SPLITS, WORDS
from vaekit.data.stored import Mapped
from vaekit.errors import VaekitError, nearest

_X = frozenset(["x", "image", "images", "data", "features", "samples", "inputs", "arr_0"])
_Y = frozenset(["y", "label", "labels", "target", "targets", "class", "classes"])
_MAX_DATASET_BYTES = 8 << 30


def load_npy(path: Path) -> np.ndarray:
    """A memory map of an .npy file."""
    try:
        # Copy-on-write: torch asks for writeable memory, and nothing written would reach the file.
        found = np.load(path, mmap_mode="c", allow_pickle=False)
        return Mapped.of(found) if isinstance(found, np.memmap) else found
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise VaekitError(_unreadable(path, error)) from error


def _unreadable(path: Path, error: Exception) -> str:
    if "pickle" in str(error).lower() or "Python objects" in str(error):
        return (
            f"{path.name} holds pickled Python objects, which are never read; save plain numbers with np.save"
        )
    return f"{path.name} cannot be read: {' '.join(str(error).split()) or type(error).__name__}"


def open_npy(path: Path) -> Raw:
    """One array; its labels are given with `labels=`."""
    return Raw({"all": Part(load_npy(path))})


class _Lazy(Mapping[str, Any]):
    """The arrays of an .npz by key, each read when asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, MemoryError) as error:
            raise VaekitError(_unreadable(path, error)) from error
        if not isinstance(self._file, np.lib.npyio.NpzFile):
            raise VaekitError(f"{path.name} is not an .npz archive of arrays")

    def __getitem__(self, key: str) -> Any:
        try:
            return self._file[key]
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, MemoryError) as error:
            raise VaekitError(f"{_unreadable(self._path, error)} (key {key!r})") from error

    def __iter__(self) -> Any:
        return iter(self._file.files)

    def __len__(self) -> int:
        return len(self._file.files)


def open_npz(path: Path, options: Options) -> Raw:
    """Arrays by convention of their keys, or as `key` and `labels` name them."""
    return from_keys(_Lazy(path), path.name, options)


def role(key: str) -> tuple[str, str]:
    """(split or "all", "x" or "y" or "") that a key names: train_images, x_test, labels, ..."""
    words = key.lower().replace("-", "_").replace(".", "_")
    if words in _X or words in _Y:
        return "all", "x" if words in _X else "y"
    parts = words.split("_")
    split = next((WORDS[p] for p in parts if p in WORDS), "all")
    rest = [p for p in parts if p not in WORDS]
    if not rest:
        return split, "x"
    if "_".join(rest) in _X or "_".join(rest) in _Y:
        return split, "x" if "_".join(rest) in _X else "y"
    return split, ""


def from_keys(arrays: Mapping[str, Any], what: str, options: Options) -> Raw:
    """Parts of named arrays. Keys that name nothing known are left alone where others do."""
    keys = list(arrays)
    for option, name in ((options.key, "key"), (options.labels, "labels")):
        if isinstance(option, str) and option not in keys and (name == "key" or not Path(option).exists()):
            raise VaekitError(f"{what} has no {name} {option!r}{nearest(option, keys)}")
    named_label = options.labels if isinstance(options.labels, str) and options.labels in keys else None
    if options.key is not None:
        label = named_label or _beside(options.key, keys)
        notes = _roles(keys, [options.key], [label] if label else [])
        return Raw({"all": _part(arrays, options.key, label)}, notes=notes)
    found: dict[str, dict[str, str]] = {}
    for key in keys:
        split, what_for = role(key)
        if what_for and key != named_label:
            found.setdefault(split, {}).setdefault(what_for, key)
    parts = {split: roles for split, roles in found.items() if "x" in roles}
    if not parts:
        wide = [k for k in keys if getattr(arrays[k], "ndim", 0) >= 2]
        if len(wide) != 1:
            listed = ", ".join(keys[:12]) or "nothing"
            raise VaekitError(
                f"{what}: none of its keys ({listed}) is called images, x, data or train; name one as key"
            )
        parts = {"all": {"x": wide[0]}}
    if len(parts) > 1:
        parts.pop("all", None)
    taken = {
        split: (parts[split]["x"], named_label or parts[split].get("y"))
        for split in (*SPLITS, "all")
        if split in parts
    }
    notes = _roles(keys, [x for x, _ in taken.values()], [y for _, y in taken.values() if y])
    result = {split: _part(arrays, x, y) for split, (x, y) in taken.items()}
    if len(result) == 1:
        result = {"all": next(iter(result.values()))}
    return Raw(result, notes=notes)


def _roles(keys: Sequence[str], x: Sequence[str], y: Sequence[str]) -> list[str]:
    """A sentence on what each key was taken for, where there is more than one."""
    left = [key for key in keys if key not in (*x, *y)]
    named = [("rows from the keys", x), ("labels from", list(dict.fromkeys(y))), ("ignored", left)]
    return ["; ".join(f"{what} {', '.join(found)}" for what, found in named if found)] * (len(keys) > 1)


def _beside(key: str, keys: Sequence[str]) -> str | None:
    split = role(key)[0]
    return next((k for k in keys if role(k) == (split, "y")), None)


def _part(arrays: Mapping[str, Any], key: str, label: str | None) -> Part:
    part = from_value(arrays[key], key)
    return part if label is None else Part(part.x, labels_of(arrays[label]))


def from_value(value: Any, what: str) -> Part:
    """An array, tensor, (x, y) or torch Dataset as one part."""
    if isinstance(value, Part):
        return value
    if isinstance(value, torch.utils.data.Dataset):
        return _from_dataset(value, what)
    if isinstance(value, torch.utils.data.DataLoader):
        raise VaekitError(f"{what} is a DataLoader; give its dataset: batches are made here")
    if isinstance(value, tuple) and len(value) == 2:
        x = plain(value[0], what)
        label = None if value[1] is None else labels_of(value[1])
        if x.ndim >= 2 and (label is None or label.ndim == 1):
            return Part(x, label)
    return Part(plain(value, what))


def from_python(source: Any, options: Options) -> Raw:
    """Anything of Python's: a mapping by key, ((x, y), (x, y)) as Keras has it, or one value."""
    if isinstance(source, Mapping):
        return from_keys({str(k): v for k, v in source.items()}, "the mapping", options)
    if isinstance(source, tuple) and len(source) in (2, 3) and all(isinstance(s, tuple) for s in source):
        names = ("train", "test") if len(source) == 2 else SPLITS
        return Raw({n: from_value(s, n) for n, s in zip(names, source, strict=True)})
    several = (list, tuple, Part, torch.utils.data.Dataset, torch.utils.data.DataLoader)
    if not isinstance(source, several) and np.ndim(source) == 0:
        text = repr(source)
        text = text if len(text) <= 60 else text[:59] + "…"
        raise VaekitError(f"{text} ({type(source).__name__}) is neither a path nor an array")
    return Raw({"all": from_value(source, "the array")})


def plain(value: Any, what: str) -> np.ndarray:
    """A tensor, array, picture or nested list as an array; objects are refused."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        return value.float().numpy() if value.dtype == torch.bfloat16 else value.numpy()
    try:
        array = np.asanyarray(value)
    except (ValueError, TypeError) as error:
        raise VaekitError(f"{what}: cannot be read as one array: {error}") from error
    if array.dtype.kind not in "buif" or array.ndim == 0:
        kind = type(value).__name__ if array.ndim == 0 else f"an array of {array.dtype}"
        raise VaekitError(
            f"{what}: {kind} holds no plain numbers; give an array, a tensor, a path or a Dataset"
        )
    return array


def labels_of(value: Any) -> np.ndarray:
    """Labels as given -> an array [N]; one-hot rows become their positions."""
    label = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    if label.ndim == 2 and label.shape[1] == 1:
        return label[:, 0]
    if (
        label.ndim == 2
        and label.dtype.kind in "buif"
        and bool((label.sum(1) == 1).all() and label.max() == 1)
    ):
        return label.argmax(1)
    return label


def _from_dataset(dataset: Any, what: str) -> Part:
    """All items of a torch Dataset, gathered once: x, or (x, label, ...), or a dict with such keys."""
    tensors = getattr(dataset, "tensors", None)
    if isinstance(tensors, tuple) and tensors and all(isinstance(t, torch.Tensor) for t in tensors):
        return Part(plain(tensors[0], what), labels_of(tensors[1]) if len(tensors) > 1 else None)
    sized = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
    total = len(dataset) if sized else 0
    items = (dataset[i] for i in range(total)) if sized else iter(dataset)
    x: np.ndarray | None = None
    rows: list[np.ndarray] = []
    labels: list[Any] = []
    with progress.bar("reading the Dataset", total, "rows", show=total > 5000) as advance:
        for i, item in enumerate(items):
            row, label = _item(item, f"{what}: item {i}")
            if x is None and total:
                if row.nbytes * total > _MAX_DATASET_BYTES:
                    raise VaekitError(
                        f"the Dataset takes {row.nbytes * total >> 20:,} MiB; save it as .npy and give that"
                    )
                x = np.empty((total, *row.shape), row.dtype)
            if row.shape != (x.shape[1:] if x is not None else rows[0].shape if rows else row.shape):
                raise VaekitError(
                    f"{what}: item {i} has shape {row.shape}, others differ; resize them in the Dataset"
                )
            if x is not None:
                x[i] = row
            else:
                rows.append(row)
            labels.append(label)
            advance(1)
    if x is None and not rows:
        raise VaekitError(f"{what} is empty")
    known = bool(labels) and all(label is not None for label in labels)
    return Part(np.stack(rows) if x is None else x, labels_of(np.asarray(labels)) if known else None)


def _item(item: Any, what: str) -> tuple[np.ndarray, Any]:
    label = None
    if isinstance(item, Mapping):
        found = {role(str(k))[1]: v for k, v in reversed(list(item.items()))}
        if "x" not in found:
            raise VaekitError(
                f"{what} has keys {', '.join(map(str, item))}; one must be called image, x or data"
            )
        item, label = found["x"], found.get("y")
    elif isinstance(item, (tuple, list)) and item:
        item, label = item[0], item[1] if len(item) > 1 else None
    if isinstance(label, torch.Tensor):
        label = label.numpy()
    if label is not None and np.ndim(label) > 1:
        label = None
    return np.asarray(plain(item, what)), label
