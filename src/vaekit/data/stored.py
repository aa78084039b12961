"""Rows where they are: an array, a memory map, or some rows of a map; and their reader, which maps no page of a file."""

from __future__ import annotations

import math
import mmap
import os
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaekit.data.members import Offsets
from vaekit.errors import VaekitError

BLOCK_BYTES = 256 << 10  # read at once: long enough that a disk's seeks do not count


class Mapped(np.memmap):
    """A memory map that vaekit opened: nobody writes to it, so its rows may as well be read from the file.

    A read needs no page table, counts as no memory of this process, and finds a file that was cut short, where a map
    would end the process.
    """

    stamp: tuple[int, int] | None

    def __array_finalize__(self, source: Any) -> None:
        super().__array_finalize__(source)
        self.stamp = getattr(source, "stamp", None)

    @classmethod
    def of(cls, array: np.memmap) -> Mapped:
        mapped = array.view(cls)
        state = os.stat(array.filename)  # type: ignore[arg-type]
        mapped.stamp = state.st_dev, state.st_ino
        return mapped


class Rows:
    """Rows `base[index]` of a memory map, gathered when asked for: a split of a set larger than memory."""

    def __init__(self, base: np.ndarray, index: np.ndarray) -> None:
        self.base, self.index = base, index
        self.shape = (len(index), *base.shape[1:])
        self.dtype, self.ndim = base.dtype, base.ndim
        self.nbytes = int(np.prod(self.shape, dtype=np.int64)) * base.dtype.itemsize

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, at: Any) -> np.ndarray:
        return self.base[self.index[at]]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.base[self.index], dtype=dtype)


def is_mapped(x: Any) -> bool:
    """Whether the rows x are those of a memory map."""
    return isinstance(x.base if isinstance(x, Rows) else x, np.memmap)


class Reader:
    """Rows of x [N, ...] by number or slice, from any thread: from the file of a `Mapped`, else from x itself."""

    def __init__(self, x: Any) -> None:
        self._x = x
        self._base: Any = x.base if isinstance(x, Rows) else x
        self._index = x.index if isinstance(x, Rows) else None
        self.shape, self.dtype = tuple(x.shape[1:]), x.dtype
        self.row_bytes = max(1, math.prod(self.shape) * x.dtype.itemsize)
        self._block = max(1, BLOCK_BYTES // self.row_bytes)
        self._file, self._start = _file(self._base)

    def __getitem__(self, part: slice) -> np.ndarray:
        """Rows of a slice; a view where x is an array."""
        if self._file is None:
            return np.asarray(self._x[part])
        return self.rows(np.arange(len(self._x))[part]).numpy()

    def rows(self, at: np.ndarray, *, pin: bool = False) -> Tensor:
        """Rows at int64 [B], in any order, as a tensor [B, ...], in pinned memory if asked; a block of neighbours is
        read at a time.

        Raises VaekitError if the file has become shorter, or cannot be read.
        """
        dtype = torch.from_numpy(np.empty(0, self.dtype)).dtype
        tensor = torch.empty(len(at), *self.shape, dtype=dtype, pin_memory=pin)
        out = tensor.numpy()
        where = at if self._index is None else self._index[at]
        order = np.argsort(where, kind="stable")
        where = where[order]
        ends = np.flatnonzero(np.diff(where // self._block)) + 1
        # One piece of memory for all spans: many of their size, between others that stay, would never go back.
        scratch = memoryview(bytearray(0 if self._file is None else self._size(self._block)))
        for first, last in zip([0, *ends], [*ends, len(where)], strict=True):
            if last > first:
                begin = int(where[first])
                rows = self._span(begin, int(where[last - 1]) + 1, scratch)
                out[order[first:last]] = rows[where[first:last] - begin]
        return tensor

    def _size(self, n: int) -> int:
        """Bytes from the first of n rows to the end of the last, in the file."""
        strides = self._base.strides
        steps = zip((n, *self.shape), strides, strict=True)
        return sum((count - 1) * stride for count, stride in steps) + self.dtype.itemsize

    def _span(self, begin: int, end: int, scratch: memoryview) -> np.ndarray:
        if self._file is None:
            return self._base[begin:end]
        strides, name = self._base.strides, os.path.basename(self._base.filename)
        wanted = scratch[: self._size(end - begin)]
        try:
            found = self._file.into(self._start + begin * strides[0], wanted)
        except OSError as error:
            raise VaekitError(f"{name} cannot be read any more: {error.strerror or error}") from error
        if found != len(wanted):
            raise VaekitError(
                f"{name} has become shorter while it was in use: row {end - 1:,} is gone; bring it back"
            )
        return np.ndarray((end - begin, *self.shape), self.dtype, wanted, strides=strides)


def _file(base: Any) -> tuple[Offsets | None, int]:
    """The open file of a map and the offset of its first row there, if that is still the file which was mapped."""
    if not isinstance(base, Mapped) or base.stamp is None or not len(base) or min(base.strides) < 0:
        return None, 0
    try:
        file = open(str(base.filename), "rb", buffering=0)  # noqa: SIM115 - read from for as long as the reader lives
    except OSError:
        return None, 0  # the map has it still
    state = os.fstat(file.fileno())
    if (state.st_dev, state.st_ino) != base.stamp:
        file.close()
        return None, 0
    # numpy keeps the offset that was asked for; the map itself begins at the page before it.
    page = base.offset - base.offset % mmap.ALLOCATIONGRANULARITY
    mapped = np.frombuffer(base._mmap, np.uint8)  # type: ignore[attr-defined]
    return Offsets(file), page + base.ctypes.data - mapped.ctypes.data
