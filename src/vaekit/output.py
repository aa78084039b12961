"""Arrays to a file by its ending (npz, npy, csv, parquet), and latent points back from one. No pickle either way."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vaekit.errors import VaekitError
from vaekit.files import atomic

ENDINGS = (".npz", ".npy", ".csv", ".parquet")


def save(path: Path, main: str, arrays: Mapping[str, Any]) -> None:
    """Write named arrays whose first axis is the rows, atomically.

    npz keeps all of them, npy the `main` one alone; csv and parquet make a column of each number, named
    `mean_0`, `mean_1`, ... (or `label` where an array has one number a row). Arrays that are None are left out.
    Raises VaekitError for another ending, and for parquet without pyarrow.
    """
    kept = {name: np.asarray(array) for name, array in arrays.items() if array is not None}
    ending = path.suffix.lower()
    if ending == ".npz":
        with atomic(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **kept)  # type: ignore[arg-type]
    elif ending == ".npy":
        with atomic(path) as temporary, temporary.open("wb") as file:
            np.save(file, kept[main], allow_pickle=False)
    elif ending in (".csv", ".parquet"):
        columns = _columns(kept)
        (_csv if ending == ".csv" else _parquet)(path, columns)
    else:
        raise VaekitError(
            f"cannot write {path.name}: its ending should be .png or one of {', '.join(ENDINGS)}"
        )


def _columns(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A column for each number of a row."""
    columns: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        if array.ndim == 1:
            columns[name] = array
        else:
            flat = array.reshape(len(array), -1)
            columns |= {f"{name}_{i}": flat[:, i] for i in range(flat.shape[1])}
    return columns


def _csv(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))


def _parquet(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise VaekitError(
            "parquet needs pyarrow: pip install 'vaekit[tables]', or write .npz or .csv"
        ) from None
    with atomic(path) as temporary:
        pyarrow.parquet.write_table(pyarrow.table(dict(columns)), temporary)


def load_codes(path: Path) -> np.ndarray:
    """Latent points [N, D] from npz (`mean`, or else its one array), npy or csv (`mean_0`, ..., or all columns).

    Raises VaekitError for a missing file, another ending, or content that is no such table.
    """
    if not path.is_file():
        raise VaekitError(f"no file of codes at {path}; write one with `vaekit encode RUN -o codes.npz`")
    try:
        codes = _read_codes(path)
    except (ValueError, OSError, KeyError, EOFError) as error:
        if isinstance(error, VaekitError):
            raise
        raise VaekitError(f"{path.name} is no readable file of codes: {error}") from error
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
        wanted = [i for i, name in enumerate(rows[0]) if name.startswith(("mean_", "z_"))]
        return np.array(
            [[float(row[i]) for i in wanted or range(len(row))] for row in rows[1:]], dtype=np.float32
        )
    raise VaekitError(f"codes come from .npz, .npy or .csv, not {path.name}")


def point_of(text: str) -> list[float]:
    """`"0.5,0.5"` -> [0.5, 0.5]. Raises VaekitError for anything but numbers with commas between."""
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise VaekitError(
            f"{text!r} is no latent point; write numbers with commas between, such as 0.5,0.5"
        ) from None


def rows_of(points: Sequence[Sequence[float]] | np.ndarray, latent: int) -> np.ndarray:
    """Points as float32 [N, D]; VaekitError for a point of another length, naming both."""
    for point in points:
        if len(point) != latent:
            raise VaekitError(
                f"a latent point of {len(point)} numbers came; this run has {latent} latent dimensions"
            )
    return np.asarray(points, dtype=np.float32).reshape(-1, latent)
