"""Arrays to a file by its ending (npz, npy, csv, parquet), and latent points back from one. No pickle either way."""

from __future__ import annotations

import csv
import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from vaekit.errors import VaekitError
from vaekit.files import atomic

ENDINGS = (".npz", ".npy", ".csv", ".parquet")
# what reading a file raises that is not what its ending says; MemoryError: a header that claims terabytes
UNREADABLE = (
    ValueError, TypeError, LookupError, ArithmeticError, RuntimeError, OSError, EOFError, MemoryError, csv.Error,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip
_CODE = re.compile(r"(mean|z)_\d+")
_NUMBERED = re.compile(r"(mean|log_variance|x|z)_\d+")


def writable(path: Path) -> None:
    """Raises VaekitError for an ending that `save` cannot write here, so that it is told before the work."""
    if path.suffix.lower() not in ENDINGS:
        raise VaekitError(
            f"cannot write {path.name}: its ending should be .png or one of {', '.join(ENDINGS)}"
        )
    if path.suffix.lower() == ".parquet":
        _has_pyarrow()


def save(
    path: Path, main: str, arrays: Mapping[str, Any], names: Mapping[str, Sequence[str]] | None = None
) -> None:
    """Write named arrays whose first axis is the rows, atomically.

    npz keeps all of them, npy the `main` one alone; csv and parquet make a column of each number, named
    `mean_0`, `mean_1`, ... (or `label` where an array has one number a row). `names` holds the names of an
    array's columns, taken where no other column could be meant. Arrays that are None are left out.
    Raises VaekitError for another ending, and for parquet without pyarrow.
    """
    writable(path)
    kept = {name: np.asarray(array) for name, array in arrays.items() if array is not None}
    ending = path.suffix.lower()
    if ending == ".npz":
        with atomic(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **kept)  # type: ignore[arg-type]
    elif ending == ".npy":
        with atomic(path) as temporary, temporary.open("wb") as file:
            np.save(file, kept[main], allow_pickle=False)
    else:
        (_csv if ending == ".csv" else _parquet)(path, columns_of(kept, names or {}))


def columns_of(arrays: Mapping[str, np.ndarray], names: Mapping[str, Sequence[str]]) -> dict[str, np.ndarray]:
    """A column for each number of a row, named as `save` says; arrays [N, ...], none of them None."""
    columns: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        if array.ndim == 1:
            columns[name] = array
        else:
            flat = array.reshape(len(array), -1)
            own = list(names.get(name, ()))
            if len(set(own) - set(arrays)) != flat.shape[1] or any(map(_NUMBERED.fullmatch, own)):
                own = [f"{name}_{i}" for i in range(flat.shape[1])]
            columns |= {column: flat[:, i] for i, column in enumerate(own)}
    return columns


def _csv(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))


def _parquet(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    import pyarrow
    import pyarrow.parquet

    with atomic(path) as temporary:
        pyarrow.parquet.write_table(pyarrow.table(dict(columns)), temporary)


def _has_pyarrow() -> None:
    if find_spec("pyarrow") is None:
        raise VaekitError("parquet needs pyarrow: pip install 'vaekit[tables]', or take .npz or .csv")


def load_codes(path: Path) -> np.ndarray:
    """Latent points [N, D] from npz (`mean`, or else its one array), npy, csv or parquet (`mean_0`, ..., or all).

    Raises VaekitError for a missing file, another ending, or content that is no such table.
    """
    if not path.is_file():
        raise VaekitError(f"no file of codes at {path}; write one with `vaekit encode RUN -o codes.npz`")
    try:
        codes = _read_codes(path)
    except VaekitError:
        raise
    except UNREADABLE as error:
        raise VaekitError(
            f"{path.name} is no readable file of codes: {str(error) or type(error).__name__}"
        ) from error
    if codes.ndim != 2 or not np.isfinite(codes).all():
        raise VaekitError(f"{path.name} holds an array of shape {codes.shape}; expected finite points [N, D]")
    return codes


def _read_codes(path: Path) -> np.ndarray:
    ending = path.suffix.lower()
    if ending == ".npy":
        return np.asarray(np.load(path, allow_pickle=False), dtype=np.float32)
    if ending == ".npz":
        with np.load(path, allow_pickle=False) as file:
            name = next(
                (n for n in ("mean", "z") if n in file), file.files[0] if len(file.files) == 1 else None
            )
            if name is None:
                raise VaekitError(f"{path.name} has no array called mean or z, but {', '.join(file.files)}")
            return np.asarray(file[name], dtype=np.float32)
    if ending == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        if len(rows) < 2:
            raise VaekitError(f"{path.name} holds no codes: expected a line of names, then a line a point")
        wanted = _wanted(rows[0])
        return np.array([[float(row[i]) for i in wanted] for row in rows[1:]], dtype=np.float32)
    if ending == ".parquet":
        _has_pyarrow()
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(path)
        columns = [table.column(i).to_numpy() for i in _wanted(table.column_names)]
        return np.stack(columns, 1).astype(np.float32)
    raise VaekitError(f"codes come from {', '.join(ENDINGS)}, not {path.name}")


def _wanted(names: Iterable[str]) -> list[int]:
    """Which columns of a table are the points: those that `save` calls so, else all."""
    found = list(names)
    return [i for i, name in enumerate(found) if _CODE.fullmatch(name)] or list(range(len(found)))


def point_of(text: str) -> list[float]:
    """`"0.5,0.5"` -> [0.5, 0.5]. Raises VaekitError for anything but numbers with commas between."""
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise VaekitError(
            f"{text!r} is no latent point; write numbers with commas between, such as 0.5,0.5"
        ) from None
