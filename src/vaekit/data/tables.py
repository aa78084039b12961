"""CSV and parquet: rows of numbers or of words, perhaps with a column of labels and one of splits."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np

from vaekit.data.raw import Options, Part, Raw
from vaekit.data.splits import SPLITS, WORDS
from vaekit.errors import VaekitError, nearest

LABELS = frozenset(("label", "labels", "class", "target", "y"))
_INDEX = frozenset(("", "index", "id", "unnamed: 0"))
_MAX_WORDS = 256  # more different words than this in a column are no categories


def open_csv(path: Path, options: Options) -> Raw:
    """A CSV or TSV, gzipped or not; delimiter and header are found out."""
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8-sig").lstrip("\r\n")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise VaekitError(f"{path.name} cannot be read as text: {error}; save it as UTF-8") from error
    first = [line for line in text[: 1 << 16].splitlines() if line.strip()][:20]
    if not first:
        raise VaekitError(f"{path.name} is empty")
    delimiter = max(",;\t|", key=lambda d: min(line.count(d) for line in first[:2]))
    head = list(csv.reader(first, delimiter=delimiter))
    header = _has_header(head)
    names = [n.strip() for n in head[0]] if header else [f"column {i + 1}" for i in range(len(head[0]))]
    if header and len(first) == 1:
        raise VaekitError(f"{path.name}: no rows under its header of {len(names)} columns")
    try:
        values = np.loadtxt(
            io.StringIO(text), delimiter=delimiter, skiprows=int(header), comments=None, ndmin=2
        )
        columns = list(values.T)
    except ValueError:
        columns = _by_column(
            list(csv.reader(io.StringIO(text), delimiter=delimiter)), names, header, path.name
        )
    if len(columns) != len(names):
        raise VaekitError(f"{path.name}: rows have {len(columns)} cells, the header has {len(names)}")
    return from_columns(names, columns, path.name, options)


def _number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _has_header(head: list[list[str]]) -> bool:
    """The first row names the columns where it alone has words, or where its words occur in no other row."""
    top, rest = head[0], head[1:]
    if any(_number(c) for c in top):
        return False
    if not rest or any(_number(c) for row in rest for c in row):
        return True
    below = [{row[i] for row in rest if i < len(row)} for i in range(len(top))]
    return len(set(top)) == len(top) and all(c not in seen for c, seen in zip(top, below, strict=True))


def _by_column(rows: list[list[str]], names: list[str], header: bool, what: str) -> list[np.ndarray]:
    """Columns as floats where nearly all their cells are numbers, else as words."""
    body = [(i + 1, row) for i, row in enumerate(rows) if row][int(header) :]
    for line, row in body:
        if len(row) != len(names):
            raise VaekitError(f"{what}: line {line} has {len(row)} cells, the first has {len(names)}")
    columns = []
    for at, name in enumerate(names):
        cells = np.array([row[at].strip() for _, row in body])
        try:
            columns.append(cells.astype(np.float64))
        except ValueError:
            good = [_number(c) for c in cells]
            if sum(good) > len(cells) // 2 and name.lower() not in LABELS:
                at_row = good.index(False)
                bad = repr(str(cells[at_row])) if cells[at_row] else "empty"
                message = (
                    f"{what}: line {body[at_row][0]}, column {name!r} is {bad}, where numbers are expected"
                )
                raise VaekitError(f"{message}; fill or drop such rows") from None
            columns.append(cells)
    return columns


def open_parquet(path: Path, options: Options) -> Raw:
    """A parquet file, by pyarrow; columns of lists of equal length are taken as vectors."""
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise VaekitError(
            f"{path.name}: parquet needs pyarrow; pip install 'vaekit[tables]', or give a CSV"
        ) from error
    try:
        table = parquet.read_table(path)
    except (arrow.ArrowException, OSError) as error:
        raise VaekitError(
            f"{path.name} is not a readable parquet file: {str(error).splitlines()[0]}"
        ) from error
    return from_arrow(table, path.name, options)


def from_arrow(table: Any, what: str, options: Options) -> Raw:
    """A pyarrow Table, which may be a piece of a larger one."""
    import pyarrow as arrow

    names, columns = [], []
    for name in table.column_names:
        column = table.column(name)
        kind = column.type
        if column.null_count:
            raise VaekitError(
                f"{what}: column {name!r} has {column.null_count} empty cells; fill or drop them"
            )
        if (
            arrow.types.is_list(kind)
            or arrow.types.is_fixed_size_list(kind)
            or arrow.types.is_large_list(kind)
        ):
            try:
                block = np.stack(column.to_numpy())
                columns += list(block.astype(np.float64).T)
            except (ValueError, TypeError):
                raise VaekitError(
                    f"{what}: the lists in column {name!r} are not vectors of one length"
                ) from None
            names += [f"{name} {i}" for i in range(block.shape[1])]
        elif arrow.types.is_struct(kind) or arrow.types.is_binary(kind):
            raise VaekitError(
                f"{what}: column {name!r} holds {kind}, not numbers; give images as a folder or zip"
            )
        else:
            names.append(name)
            columns.append(column.to_numpy())
    if not columns or not len(columns[0]):
        raise VaekitError(f"{what} has no rows")
    return from_columns(names, columns, what, options)


def from_frame(frame: Any, options: Options) -> Raw:
    """A pandas or polars DataFrame."""
    names = [str(name) for name in frame.columns]
    return from_columns(names, [np.asarray(frame[name]) for name in frame.columns], "the table", options)


def from_columns(names: list[str], columns: list[np.ndarray], what: str, options: Options) -> Raw:
    """Columns -> features, with the label and split columns taken out by name, or as `labels` says."""
    table = dict(zip(names, columns, strict=True))
    if len(table) != len(names):
        raise VaekitError(f"{what}: two columns are called {next(n for n in names if names.count(n) > 1)!r}")
    notes, label_name = [], None
    if isinstance(options.labels, str) and options.labels in table:
        label_name = options.labels
    elif isinstance(options.labels, int) and 0 <= options.labels < len(names):
        label_name = names[options.labels]
    elif isinstance(options.labels, (str, int)) and not Path(str(options.labels)).exists():
        raise VaekitError(f"{what} has no column {options.labels!r}{nearest(str(options.labels), names)}")
    elif options.labels is None:
        label_name = next((n for n in names if n.lower() in LABELS), None)
    label = table.pop(label_name) if label_name is not None else None
    if len(table) > 1 and index_column(names) in table:
        table.pop(names[0])
        notes.append(f"the first column {names[0]!r} taken as a row number and left out")
    split = next((n for n, c in table.items() if n.lower() == "split" and _words(c)), None)
    splits = None
    if split is not None and all(str(v).lower() in WORDS for v in np.unique(table[split])):
        splits = np.array([WORDS[str(v).lower()] for v in table.pop(split)])
    word_columns = [n for n, c in table.items() if _words(c)]
    if len(word_columns) == 1 and len(table) > 1 and label is None and options.labels is None:
        label_name, label = word_columns[0], table.pop(word_columns.pop())
    if label_name is not None:
        notes.append(f"column {label_name!r} taken as the label")
    if not table:
        raise VaekitError(f"{what}: no columns left beside the label")
    categories: tuple[tuple[str, ...], ...] = ()
    if word_columns and len(word_columns) < len(table):
        listed = ", ".join(map(repr, word_columns[:4]))
        raise VaekitError(
            f"{what}: columns {listed} hold words among numbers; drop them or turn them into numbers"
        )
    if word_columns:
        found = [np.unique(np.asarray(c).astype(str), return_inverse=True) for c in table.values()]
        categories = tuple(tuple(map(str, w)) for w, _ in found)
        most = max(range(len(found)), key=lambda i: len(categories[i]))
        if len(categories[most]) > _MAX_WORDS:
            many = f"{len(categories[most]):,} different words"
            raise VaekitError(f"{what}: column {list(table)[most]!r} holds {many}, too many to be classes")
        x = np.stack([ids for _, ids in found], axis=1).astype(np.int32)
    else:
        x = np.column_stack([np.asarray(c).astype(np.float64) for c in table.values()])
    parts = {"all": Part(x, label)}
    if splits is not None:
        parts = {
            s: Part(x[at], None if label is None else np.asarray(label)[at], at)
            for s in SPLITS
            if len(at := np.flatnonzero(splits == s))
        }
        parts = parts if len(parts) > 1 else {"all": next(iter(parts.values()))}
    kind = "categories" if word_columns else None
    return Raw(parts, columns=tuple(table), categories=categories, notes=notes, kind=kind)


def index_column(names: list[str]) -> str | None:
    """The first column, where its name says that it counts rows."""
    return names[0] if names and names[0].lower() in _INDEX else None


def _words(column: np.ndarray) -> bool:
    return np.asarray(column).dtype.kind in "OUST"
