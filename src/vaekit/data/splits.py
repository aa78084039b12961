"""Which rows are for training, for choosing and for the final number: by the data's own names, else by a
seeded permutation of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vaekit.data.contract import Contract
from vaekit.data.hashes import chunks, digest
from vaekit.data.stored import Rows
from vaekit.errors import VaekitError, nearest

SPLITS = ("train", "valid", "test")
WORDS = {
    "train": "train", "training": "train",
    "valid": "valid", "val": "valid", "validation": "valid", "dev": "valid",
    "test": "test", "testing": "test", "t10k": "test",
}  # fmt: skip
_LAZY_BYTES = (
    64 << 20
)  # rows chosen from a memory map stay there when they are more than this: no copy to make or hold


def take(x: Any, index: np.ndarray | slice) -> Any:
    """Rows of x: a view for a slice, a copy for an index, `Rows` where the copy would not fit well."""
    if isinstance(index, slice):
        return x[index]
    row_bytes = x.dtype.itemsize * int(np.prod(x.shape[1:], dtype=np.int64))
    if isinstance(x, np.memmap) and len(index) * row_bytes > _LAZY_BYTES:
        return Rows(x, index)
    return np.asarray(x[index])


@dataclass(frozen=True)
class Split:
    """Rows of one split. `x` [N, C, H, W] or [N, F] in data units as stored, `label` int64 [N] or None.

    `bits` says that x is binary already, so that `frozen` has nothing to draw. `places` int64 [N] are the rows'
    numbers in the source, from 0 over its train, valid and test rows; of images, over its files in natural order.
    `factors` int64 [N, F] are the values of what the rows were made from, in the order of the contract's `factors`.
    """

    x: Any
    label: np.ndarray | None
    name: str
    bits: bool = False
    places: np.ndarray | None = None
    factors: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.x)

    def rows(self, index: Any) -> np.ndarray:
        """Rows by integer, slice or index array, as stored."""
        return np.asarray(self.x[index])

    def frozen(self, contract: Contract, draws: np.random.RandomState | None = None) -> Split:
        """The split with its evaluation bits fixed: `RandomState(0).random_sample((N, D)) < x / divisor` in
        raster order, stored as 0 and divisor. Itself where nothing is binarised on access. `draws` goes on
        where those of the rows before have ended."""
        if contract.binarize is None or self.bits:
            return self
        high, dimensions = contract.divisor[0], int(np.prod(self.x.shape[1:]))
        kind = np.dtype(np.uint8) if high <= 255 else self.x.dtype
        draws, out = draws or np.random.RandomState(0), np.empty(self.x.shape, kind)
        for part in chunks(len(self), dimensions * 8):
            grey = np.asarray(self.x[part])
            uniform = draws.random_sample((len(grey), dimensions)).reshape(grey.shape)
            out[part] = (uniform < grey / high) * kind.type(high)
        return replace(self, x=out, bits=True)

    def hash(self, contract: Contract) -> str:
        """SHA-256 hex of the packed evaluation bits for binary data, else of the stored bytes."""
        if contract.kind == "binary":
            return digest(self.frozen(contract).x, bits=True)
        return digest(self.x, bits=False)


@dataclass(frozen=True)
class Data:
    """An opened source: its contract and its splits. A source opened whole has one split, as `train`.

    `files`: where the rows are image files, the folder or archive that holds them. `mirror`: training sees each image
    left to right or right to left, drawn at each access.
    """

    contract: Contract
    train: Split
    valid: Split | None = None
    test: Split | None = None
    files: Path | None = None
    mirror: bool = False

    @property
    def splits(self) -> dict[str, Split]:
        """The splits that exist, by name, in the order train, valid, test."""
        return {split.name: split for split in (self.train, self.valid, self.test) if split is not None}

    def split(self, name: str) -> Split:
        """The split called train, valid or test. A source opened whole has one, whatever is asked."""
        splits = self.splits
        if "all" in splits:
            return splits["all"]
        wanted = WORDS.get(name.lower(), name)
        if wanted in splits:
            return splits[wanted]
        if wanted in SPLITS:
            raise VaekitError(f"{self.contract.source} has no {wanted} split; it has {', '.join(splits)}")
        raise VaekitError(f"unknown split {name!r}{nearest(name, SPLITS)}")


def held_out(n: int, valid: float | int | None, default: float) -> int:
    """How many of n rows validation takes: a fraction below 1, or a count."""
    wanted = default if valid is None else valid
    count = round(n * wanted) if wanted < 1 else int(wanted)
    if valid is not None and not 0 < count < n:
        raise VaekitError(f"data.valid={valid} asks for {count} of {n:,} rows: give a fraction or fewer rows")
    return max(1, count)


Assignment = dict[str, tuple[str, "np.ndarray | slice"]]


def assign(
    counts: Mapping[str, int], *, seed: int, valid: float | int | None, last: bool
) -> tuple[Assignment, str]:
    """Split -> (part it comes from, its rows), and the sentence that says how.

    `counts` are the rows of each part the source names ("all" where it names none). With `last`
    (idx files), validation is the last 10,000 training rows, as the published MNIST protocol has it.
    """
    if len(counts) == 1:
        (part, n), = counts.items()  # fmt: skip
        if n < 3:
            raise VaekitError(f"{n} row{'s' * (n != 1)}: at least 3 are needed to train and to hold some out")
        n_valid, n_test = held_out(n, valid, 0.1), max(1, round(n / 10))
        if n_valid + n_test >= n:
            raise VaekitError(f"data.valid={valid} leaves none of {n:,} rows to train on: give a smaller one")
        order = np.random.default_rng(seed).permutation(n)
        bounds = {"test": slice(0, n_test), "valid": slice(n_test, n_test + n_valid)}
        bounds["train"] = slice(n_test + n_valid, n)
        return {name: (part, np.sort(order[bounds[name]])) for name in SPLITS}, f"by seed {seed}"
    if "train" not in counts:
        raise VaekitError(f"no training rows: the data name only {', '.join(counts)}")
    whole = slice(0, None)
    result: Assignment = {name: (name, whole) for name in SPLITS if name in counts}
    if "valid" in counts:
        if valid is not None:
            raise VaekitError(
                "data.valid is given, but the data name their own validation rows: leave it out"
            )
        return result, "as the data name them"
    n = counts["train"]
    if n < 2:
        raise VaekitError(f"{n} training row: at least 2 are needed to train and to hold one out")
    if last and (n >= 20_000 or valid is not None):
        n_valid = held_out(n, valid, 0.1 if n < 20_000 else 10_000)
        result["train"], result["valid"] = ("train", slice(0, n - n_valid)), ("train", slice(n - n_valid, n))
        sentence = f"with validation the last {n_valid:,} training rows"
    else:
        n_valid = held_out(n, valid, 0.1)
        order = np.random.default_rng(seed).permutation(n)
        result["valid"] = ("train", np.sort(order[:n_valid]))
        result["train"] = ("train", np.sort(order[n_valid:]))
        sentence = f"with validation drawn from train by seed {seed}"
    return {name: result[name] for name in SPLITS if name in result}, sentence


def limited(index: np.ndarray | slice, n: int, limit: int | None, seed: int) -> np.ndarray | slice:
    """At most `limit` of the rows `index` (of a part of n rows), drawn by the data's seed, in order."""
    rows = np.arange(n)[index]
    if limit is None or len(rows) <= limit:
        return index
    return rows[np.sort(np.random.default_rng([seed, 1]).permutation(len(rows))[:limit])]


def in_turn(split: Split, n: int, seed: int) -> np.ndarray:
    """Numbers [n] of rows that take the labels in turn (0, 1, 2, ..., 0, 1, ...), or any n where there are none, in an
    order that the seed makes."""
    order = np.random.default_rng(seed).permutation(len(split))
    if split.label is not None:
        label = split.label[order]
        turn = np.zeros(len(order), dtype=np.int64)  # how many of its label stand before a row
        for kind in np.unique(label):
            turn[label == kind] = np.arange((label == kind).sum())
        order = order[np.lexsort((label, turn))]
    return order[:n]
