"""What a path is, and who reads it."""

from __future__ import annotations

import tarfile
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

from vaekit.data import builtin, idx
from vaekit.data.members import EXTENSIONS, is_image
from vaekit.data.raw import Options, Raw
from vaekit.data.splits import SPLITS, WORDS
from vaekit.errors import VaekitError, nearest

TABLES = {".csv", ".tsv", ".parquet", ".pq"}
ARRAYS = {".npy", ".npz"}
ARCHIVES = {".zip", ".tar", ".tgz", ".tbz2", ".txz"}
_PACKED = {".gz", ".bz2", ".xz"}
_EXPECTED = "images, a zip or tar of images, idx, .npy, .npz, .csv or .parquet"


def load(source: Any, options: Options) -> tuple[Raw, str]:
    """Read any source: (what it holds, its bare name)."""
    if isinstance(source, str) and source in builtin.NAMES:
        return builtin.open_builtin(source, options), source
    if isinstance(source, (str, Path)):
        path = Path(source).expanduser()
        if not str(source) or not path.exists():
            bare = str(source)
            known = nearest(bare, builtin.NAMES) if "/" not in bare and "." not in bare else ""
            raise VaekitError(
                f"no data at {bare}: no such file or folder, and no data set of that name{known}"
            )
        return load_path(path, options), path.resolve().name
    from vaekit.data import arrays, tables

    if hasattr(source, "columns") and hasattr(source, "dtypes"):
        return tables.from_frame(source, options), "table"
    return arrays.from_python(source, options), "array"


def suffix(path: Path) -> str:
    """The telling end of a name: .csv of a.csv.gz, .tar of a.tar.xz, .idx of train-images-idx3-ubyte.gz."""
    if idx.named(path):
        return ".idx"
    last = path.suffix.lower()
    inner = Path(path.stem).suffix.lower()
    return inner if last in _PACKED and inner in (".tar", ".csv", ".tsv") else last


def load_path(path: Path, options: Options) -> Raw:
    """Read a file or a folder."""
    if path.is_dir():
        return _folder(path, options)
    if path.stat().st_size == 0:
        raise VaekitError(f"{path.name} is empty")
    from vaekit.data import arrays, images, tables

    end = suffix(path)
    if end == ".npy":
        return arrays.open_npy(path)
    if end == ".npz":
        return arrays.open_npz(path, options)
    if end in (".csv", ".tsv"):
        return tables.open_csv(path, options)
    if end in (".parquet", ".pq"):
        return tables.open_parquet(path, options)
    if end == ".idx" or (end in (".gz", "", ".idx3-ubyte") and idx.looks_like(path)):
        return idx.open_idx(path)
    if end == ".zip" and not zipfile.is_zipfile(path):
        raise VaekitError(f"{path.name} is not a readable zip")
    if end in ARCHIVES or is_image(path.name) or zipfile.is_zipfile(path) or tarfile.is_tarfile(path):
        return images.open_images(path, options)
    raise VaekitError(f"{path.name}: unknown kind of file{f' ({end})' if end else ''}; expected {_EXPECTED}")


def _folder(path: Path, options: Options) -> Raw:
    """idx files, else images, else data files called train, valid, test, else the one data file there."""
    if idx.folder_files(path):
        return idx.open_idx(path)
    files = sorted(f for f in path.iterdir() if f.is_file() and not f.name.startswith("."))
    data = [f for f in files if suffix(f) in TABLES | ARRAYS]
    archives = [f for f in files if suffix(f) in ARCHIVES]
    splits = {WORDS[_stem(f)]: f for f in data + archives if _stem(f) in WORDS}
    if len(splits) > 1 and len(data + archives) == len(splits):
        return _split_files({s: splits[s] for s in SPLITS if s in splits}, options)
    from vaekit.data import images, members

    if any(is_image(n) for n, _ in members._walk(path)):
        return images.open_images(path, options)
    if len(data + archives) == 1:
        return load_path((data + archives)[0], options)
    if len(data + archives) > 1:
        listed = ", ".join(f.name for f in (data + archives)[:5])
        raise VaekitError(
            f"{path.name} holds several data files ({listed}); give one, or call them train, valid, test"
        )
    kinds = Counter(f.suffix.lower() or "files without extension" for f in files)
    found = ", ".join(f"{n} {e}" for e, n in kinds.most_common(3))
    what = f"it holds {found}" if found else "it is empty"
    raise VaekitError(f"{path.name}: no data in this folder ({what}); expected {_EXPECTED}")


def _stem(path: Path) -> str:
    return path.name.split(".")[0].lower()


def _split_files(files: dict[str, Path], options: Options) -> Raw:
    """One file a split: each is read whole, and its rows are that split's."""
    from dataclasses import replace

    result: Raw | None = None
    categories: dict[str, Any] = {}
    for split, file in files.items():
        raw = load_path(file, replace(options, whole=True))
        if len(raw.parts) != 1:
            raise VaekitError(f"{file.name} names splits itself ({', '.join(raw.parts)}); give it alone")
        categories[split] = raw.categories
        (part,) = raw.parts.values()
        part.places = None  # they count within this file
        if result is None:
            result, first = raw, raw.columns
            result.parts, result.files = {split: part}, None
            continue
        if raw.columns != first:
            raise VaekitError(f"{file.name} has other columns than the other splits")
        if raw.ready and (raw.names != result.names):
            raise VaekitError(f"{file.name} has other classes than the other splits")
        result.parts[split] = part
    assert result is not None
    if len(set(categories.values())) > 1:
        raise VaekitError(
            f"the columns of {', '.join(f.name for f in files.values())} do not hold the same words"
        )
    return result


__all__ = ["EXTENSIONS", "load", "load_path", "suffix"]
