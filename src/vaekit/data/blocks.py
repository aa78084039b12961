"""A file or folder in pieces: blocks of rows held to a contract, so that memory does not grow with what is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from vaekit.data.columns import Columns, columns
from vaekit.data.contract import Contract
from vaekit.data.decode import Plan, pack, reason
from vaekit.data.members import FolderMembers, Members, is_image, members
from vaekit.data.open import held
from vaekit.data.raw import Options, Part, Raw
from vaekit.data.sources import ARCHIVES, load_path, suffix
from vaekit.data.splits import Split
from vaekit.data.stored import Reader
from vaekit.errors import VaekitError

BLOCK_BYTES = 16 << 20  # of a block's rows as float32
MOST_ROWS = 8192


@dataclass(frozen=True)
class Block:
    """Rows [n, ...] in data units, bits drawn, and what tells which they are: `row` int64 [n] counts them in what is
    read, `file` names image files, `carried` are the other columns of a parquet file (pyarrow arrays by name).

    `label` [n] as the data give it, or None. `unreadable` names image files that were left out, with the reason.
    """

    split: Split
    row: np.ndarray
    label: np.ndarray | None = None
    file: list[str] | None = None
    carried: dict[str, Any] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()


@dataclass
class _Piece:
    """Rows as read, on their way to a block."""

    raw: Raw
    row: np.ndarray
    file: list[str] | None = None
    carried: dict[str, Any] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()


def rows_in(contract: Contract) -> int:
    """How many rows a block has: a function of the contract alone."""
    return int(np.clip(BLOCK_BYTES // (4 * int(np.prod(contract.shape))), 1, MOST_ROWS))


def blocks(
    path: Path, contract: Contract, *, labels: str | None = None, flat: bool = False
) -> Iterator[Block]:
    """The rows of a parquet file, of a folder, zip or tar of images, or of any other data file, in their order.

    Parquet, .npy and images are read as they are needed; other files are read whole first. `labels` names the label
    column where its name does not tell. `flat`: of a folder only the images directly in it.
    As `open_data` does, a few unreadable images are left out, and everything else that breaks the contract is a
    `VaekitError`, which may come after blocks that were fine.
    """
    times: float | None = None
    bits = (
        np.random.RandomState(0) if contract.binarize else None
    )  # one stream over all blocks, as over a split
    for piece in _pieces(path, contract, labels, flat):
        (part,) = piece.raw.parts.values()
        x, times = held(piece.raw, contract, path.name, times)
        split = Split(x, None, path.name, contract.kind == "binary" and contract.binarize is None)
        yield Block(
            split.frozen(contract, bits), piece.row, _whole(part.label), piece.file, piece.carried, piece.unreadable
        )  # fmt: skip


def _pieces(path: Path, contract: Contract, labels: str | None, flat: bool) -> Iterator[_Piece]:
    end = suffix(path) if path.is_file() else ""
    if end in (".parquet", ".pq"):
        return _parquet(path, contract, labels)
    if path.is_dir() or end in ARCHIVES or is_image(path.name):
        return _images(_direct(path) if flat else members(path), path.name, contract)
    return _arrays(path, contract, labels)


def _whole(label: np.ndarray | None) -> np.ndarray | None:
    """Class numbers that a file holds as floats, as integers."""
    if (
        label is not None
        and label.dtype.kind == "f"
        and np.isfinite(label).all()
        and (label == np.rint(label)).all()
    ):
        return label.astype(np.int64)
    return label


# -- arrays and text


def _arrays(path: Path, contract: Contract, labels: str | None) -> Iterator[_Piece]:
    raw = load_path(path, Options(whole=True, like=contract.shape, labels=labels))
    step, before = rows_in(contract), 0
    for part in raw.parts.values():
        places = np.arange(len(part.x)) + before if part.places is None else np.asarray(part.places)
        before += len(part.x)
        reader = Reader(part.x)
        for start in range(0, len(part.x), step):
            at = slice(start, start + step)
            label = None if part.label is None else np.asarray(part.label[at])
            if label is not None and raw.names is not None:
                label = np.asarray(raw.names)[label]
            yield _Piece(replace(raw, parts={"all": Part(reader[at], label)}), places[at])


# -- parquet


def _parquet(path: Path, contract: Contract, labels: str | None) -> Iterator[_Piece]:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise VaekitError(f"{path.name}: parquet needs pyarrow; pip install 'vaekit[tables]'") from error
    try:
        with parquet.ParquetFile(path, pre_buffer=False) as file:  # or it would hold all that it has read
            wanted = columns(file.schema_arrow, contract, labels, path.name)
            start, failed = 0, 0
            for batch in file.iter_batches(rows_in(contract), columns=wanted.all):
                table = arrow.Table.from_batches([batch])
                row = np.arange(start, start + len(table))
                start += len(table)
                if not len(table):
                    continue
                piece = _rows(wanted, table, row, contract, path.name)
                failed += len(piece.unreadable)
                _few(failed, file.metadata.num_rows, path.name, piece.unreadable)
                if len(piece.row):
                    yield piece
    except (arrow.ArrowException, OSError) as error:
        raise VaekitError(
            f"{path.name} is not a readable parquet file: {str(error).splitlines()[0]}"
        ) from error


def _rows(wanted: Columns, table: Any, row: np.ndarray, contract: Contract, what: str) -> _Piece:
    label = None if wanted.label is None else table.column(wanted.label).to_numpy()
    if wanted.image is None:
        raw = wanted.vectors(table, contract, what)
        raw.parts["all"].label = label
        return _Piece(raw, row, None, {name: table.column(name) for name in wanted.carried})
    cells = table.column(wanted.image).to_pylist()
    files = [cell.get("bytes") if isinstance(cell, dict) else cell for cell in cells]
    names = [f"the image of row {number}" for number in row]
    x, good, bad = _decoded([file or b"" for file in files], names, contract, what)
    raw = Raw({"all": Part(x, None if label is None else label[good])}, ready=True)
    return _Piece(raw, row[good], None, {n: table.column(n).take(good) for n in wanted.carried}, bad)


# -- images


def _direct(folder: Path) -> Members:
    """The images directly in a folder."""
    return FolderMembers(folder, [(f.name, f.stat().st_size) for f in folder.iterdir() if f.is_file()])


def _images(source: Members, what: str, contract: Contract) -> Iterator[_Piece]:
    step, total, failed = rows_in(contract), len(source.names), 0
    for start in range(0, total, step):
        names = source.names[start : start + step]
        files, unread = [], {}
        for i, name in enumerate(names, start):
            try:
                files.append(source.read(i))
            except Exception as error:
                files.append(b"")
                unread[name] = reason(error)
        x, good, bad = _decoded(files, names, contract, what, unread)
        failed += len(bad)
        _few(failed, total, what, bad)
        if len(good):
            raw = Raw({"all": Part(x, None)}, ready=True)
            yield _Piece(raw, good + start, [names[i] for i in good], unreadable=bad)


def _few(failed: int, total: int, what: str, bad: Sequence[str]) -> None:
    """Raise VaekitError where more images failed than `open_data` lets pass too."""
    if failed > max(min(3, total // 4), total // 100):
        shown = "; ".join(bad[:3])
        raise VaekitError(
            f"{what}: {failed} of its {total:,} images or more cannot be read ({shown}); mend or remove them"
        )


def _decoded(
    files: Sequence[bytes],
    names: Sequence[str],
    contract: Contract,
    what: str,
    unread: dict[str, str] | None = None,
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Image files -> rows [n, C, H, W] as `open_data` makes them under this contract, the positions that worked, and
    what is wrong with the others."""
    if not contract.is_image or contract.shape[0] not in (1, 3):
        raise VaekitError(
            f"{what} holds images, but {contract.source} has rows {'x'.join(map(str, contract.shape))}"
        )
    channels, height, width = contract.shape
    rows, good, bad, _ = pack(files, Plan(channels, height, width, False, channels == 1))
    x = np.frombuffer(rows, np.uint8).reshape(-1, *contract.shape)
    told = unread or {}
    return x, np.asarray(good, np.int64), tuple(f"{names[i]}: {told.get(names[i], why)}" for i, why in bad)
