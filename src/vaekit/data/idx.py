"""The idx format of MNIST and its kin, gzipped or plain: a folder of two or four files, or one file.

http://yann.lecun.com/exdb/mnist/ : two zero bytes, a type code, the number of dimensions, their sizes as
big-endian 32-bit integers, then the values in raster order.
"""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from vaekit.data.raw import Part, Raw
from vaekit.errors import VaekitError

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_NAME = re.compile(
    r"^(?:.*?[-_.])?(train|t10k|test|valid|val)[-_.](images|labels)[-_.]idx(\d)[-_.]ubyte(\.gz)?$", re.I
)
_SPLIT = {"train": "train", "t10k": "test", "test": "test", "valid": "valid", "val": "valid"}
_MAX_BYTES = 16 << 30


def named(path: Path) -> tuple[str, str] | None:
    """(split, "images" or "labels") of an idx file's name, or None."""
    found = _NAME.match(path.name)
    return (_SPLIT[found[1].lower()], found[2].lower()) if found else None


def looks_like(path: Path) -> bool:
    """Whether the file is idx by its first bytes; a gzipped one is looked into."""
    try:
        with _open(path) as file:
            head = file.read(4)
    except (OSError, EOFError, zlib.error):
        return False
    return len(head) == 4 and head[:2] == b"\0\0" and head[2] in _TYPES and 1 <= head[3] <= 4


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if zipped else path.open("rb")  # type: ignore[return-value]


def read(path: Path) -> np.ndarray:
    """The array in an idx file, in native byte order."""
    try:
        with _open(path) as file:
            head = file.read(4)
            if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _TYPES or not 1 <= head[3] <= 4:
                raise VaekitError(f"{path.name} is not an idx file: it starts with {head.hex() or 'nothing'}")
            sizes = file.read(4 * head[3])
            shape = tuple(int.from_bytes(sizes[i : i + 4], "big") for i in range(0, len(sizes), 4))
            dtype = np.dtype(_TYPES[head[2]])
            expected = int(np.prod(shape, dtype=object)) * dtype.itemsize
            if len(sizes) < 4 * head[3] or expected > _MAX_BYTES:
                raise VaekitError(
                    f"{path.name}: the idx header names {expected:,} bytes, which cannot be right"
                )
            body = file.read(expected + 1)  # no more than the header promises is ever inflated
    except (OSError, EOFError, zlib.error) as error:
        raise VaekitError(f"{path.name} cannot be read: {error}; fetch it again") from error
    if len(body) != expected:
        got = "more" if len(body) > expected else f"{len(body):,}"
        raise VaekitError(f"{path.name} is damaged: its header names {expected:,} bytes, it has {got}")
    values = np.frombuffer(body, dtype).reshape(shape)
    return values.astype(dtype.newbyteorder("=")) if dtype.itemsize > 1 else values


def folder_files(path: Path) -> dict[str, dict[str, Path]]:
    """split -> {"images": file, "labels": file} of the idx files in a folder (a plain one before its .gz)."""
    found: dict[str, dict[str, Path]] = {}
    for file in sorted(path.iterdir(), key=lambda f: f.suffix.lower() != ".gz"):
        name = named(file)
        if name:
            found.setdefault(name[0], {})[name[1]] = file
    return {split: files for split, files in found.items() if "images" in files}


def open_idx(path: Path) -> Raw:
    """A folder of idx files, or one file with the labels that lie beside it."""
    if path.is_dir():
        files = folder_files(path)
        if "train" in files or len(files) == 1:
            parts = {split: _part(chosen) for split, chosen in files.items()}
            return Raw(parts if len(parts) > 1 else {"all": next(iter(parts.values()))}, last=len(parts) > 1)
        raise VaekitError(f"{path.name}: no train-images-idx3-ubyte[.gz] among its idx files")
    name = named(path)
    if name and name[1] == "labels":
        raise VaekitError(f"{path.name} holds labels; give the images file or the folder")
    beside = folder_files(path.parent).get(name[0], {}) if name else {}
    return Raw({"all": _part({**beside, "images": path})})


def _part(files: dict[str, Path]) -> Part:
    x = read(files["images"])
    if x.ndim < 2:
        raise VaekitError(f"{files['images'].name} holds a list of {x.size:,} numbers, not images")
    label = read(files["labels"]) if "labels" in files else None
    if label is not None and len(label) != len(x):
        raise VaekitError(f"{files['labels'].name} has {len(label):,} labels for {len(x):,} images")
    return Part(x, label)
