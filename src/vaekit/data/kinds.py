"""What kind of values rows hold, read in chunks: binary, levels, 8-bit, colour, real, counts, categories."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vaekit.data.contract import KINDS, number, words
from vaekit.data.hashes import chunks
from vaekit.data.stored import Reader, is_mapped
from vaekit.errors import VaekitError

MAX_LEVELS = 32  # image-shaped whole numbers 0..n up to this n are grey levels


@dataclass
class Survey:
    """What a pass over the values saw. `two` holds them where there are at most two different ones."""

    low: float
    high: float
    integer: bool
    two: frozenset[float] | None

    def only(self, high: float) -> bool:
        """Whether every value is 0 or `high`."""
        return self.two is not None and self.two <= {0.0, float(high)}

    def __or__(self, other: Survey) -> Survey:
        two = self.two | other.two if self.two is not None and other.two is not None else None
        return Survey(
            min(self.low, other.low),
            max(self.high, other.high),
            self.integer and other.integer,
            two if two is not None and len(two) <= 2 else None,
        )


def _parts(x: Any) -> Iterable[tuple[int, np.ndarray]]:
    row_bytes = x.dtype.itemsize * int(np.prod(x.shape[1:], dtype=np.int64))
    reader = Reader(x)
    for part in chunks(len(x), row_bytes):
        yield part.start, reader[part]


def survey(x: Any, what: str, columns: tuple[str, ...] = ()) -> Survey:
    """Range and nature of x [N, ...]; NaN or infinity is refused, with its row and column."""
    seen: Survey | None = None
    integer = x.dtype.kind in "ui"
    for start, rows in _parts(x):
        if not integer and not np.isfinite(rows).all():
            _refuse_non_finite(rows, start, what, columns)
        low, high = rows.min(), rows.max()
        two: frozenset[float] | None = frozenset((float(low), float(high)))
        # Looked at only while it may still hold: one pass over most sets stops in their first chunk.
        if ((seen is None or seen.two is not None) and np.any((rows != low) & (rows != high))) or (
            seen is not None and seen.two is None
        ):
            two = None
        whole = integer or ((seen is None or seen.integer) and bool((rows == np.rint(rows)).all()))
        found = Survey(float(low), float(high), whole, two)
        seen = found if seen is None else seen | found
    if seen is None:
        raise VaekitError(f"{what}: no rows")
    return seen


def _refuse_non_finite(rows: np.ndarray, start: int, what: str, columns: tuple[str, ...]) -> None:
    at = np.argwhere(~np.isfinite(rows))[0]
    value = "NaN" if np.isnan(rows[tuple(at)]) else "an infinite value"
    place = f" at {tuple(map(int, at[1:]))}"
    if rows.ndim == 2:
        place = f", column {columns[at[1]]!r}" if columns else f", column {int(at[1])}"
    row = f"row {start + int(at[0])} (counted from 0)"
    raise VaekitError(f"{what}: {row}{place} holds {value}; drop or fill such rows first")


def on_grid(x: Any, n: float) -> bool:
    """Whether floats x in [0, 1] are all k / n to within their precision: whole numbers that were divided."""
    tolerance = 0.1 if x.dtype == np.float16 else 1e-3
    for _, rows in _parts(x):
        scaled = rows.astype(np.float32) * np.float32(n)
        if np.abs(scaled - np.rint(scaled)).max() > tolerance:
            return False
    return True


def convert(x: Any, dtype: str, times: float = 1.0) -> Any:
    """x in `dtype`, multiplied by `times` first; itself where it is so already, or is a float memory map."""
    if x.dtype == dtype and times == 1.0:
        return x
    if times == 1.0 and dtype == "float32" and is_mapped(x) and x.nbytes > 1 << 30:
        return x  # scaled on access
    out = np.empty(x.shape, dtype)
    for start, rows in _parts(x):
        if times != 1.0:
            rows = rows.astype(np.float64) * times
        out[start : start + len(rows)] = np.rint(rows) if np.dtype(dtype).kind in "ui" else rows
    return out


@dataclass(frozen=True)
class Decision:
    """A kind and how the rows become it: stored = round(raw * times) in `dtype`."""

    kind: str
    low: float
    high: float
    levels: int
    dtype: str
    times: float = 1.0
    note: str = ""


def decide(xs: list[Any], seen: Survey, kind: str | None, source: str) -> Decision:
    """The kind of rows `xs` (one array a split), by their values, or as asked with `kind`."""
    shape = tuple(xs[0].shape[1:])
    image, eight_bit = len(shape) == 3, "colour" if len(shape) == 3 and shape[0] == 3 else "8-bit"
    natural = seen.integer and seen.low >= 0
    unit = not seen.integer and seen.low >= 0 and seen.high <= 1
    top, found = int(seen.high) if natural else 0, f"values {number(seen.low)} to {number(seen.high)}"
    small = "uint8" if top <= 255 else "int32"
    if kind is None:
        if seen.only(1) or seen.only(255):
            kind = "binary"
        elif natural and top < 2**31:
            kind = "counts" if not image or top > 255 else "levels" if top <= MAX_LEVELS else eight_bit
        elif unit and image and all(on_grid(x, 255) for x in xs):
            return Decision(
                eight_bit, 0, 255, 255, "uint8", 255.0, "values k/255 in [0, 1] read as k in 0..255"
            )
        else:
            kind = "real"
    elif kind not in KINDS:  # the opener has refused it already, with the nearest name
        raise VaekitError(f"unknown kind {kind!r}")
    if kind == "real":
        return Decision("real", seen.low, seen.high, 0, "float32")
    if kind in ("8-bit", "colour"):
        if kind == "colour" and eight_bit != "colour":
            raise VaekitError(f"{source}: kind colour wants 3 channels, the rows are {words(shape)}")
        if unit:
            note = "values in [0, 1] rounded to k/255 and read as k in 0..255"
            return Decision(kind, 0, 255, 255, "uint8", 255.0, note)
        if natural and top <= 255:
            return Decision(kind, 0, 255, 255, "uint8")
        raise VaekitError(
            f"{source}: kind {kind} wants whole numbers 0..255 or floats in [0, 1], it has {found}"
        )
    if not natural or top >= 2**31:
        raise VaekitError(f"{source}: kind {kind} wants whole numbers from 0, it has {found}; try kind real")
    if kind == "binary":
        if seen.two is None or 0.0 not in seen.two or top > 255:
            hint = "; binarise greys with --binarize dynamic"
            raise VaekitError(f"{source}: kind binary wants two values 0 and n, it has more, {found}{hint}")
        return Decision("binary", 0, top, 1, "uint8")
    if kind == "counts":
        return Decision("counts", 0, top, 0, small)
    if top > 65535:
        raise VaekitError(
            f"{source}: kind {kind} wants at most 65536 values, it has {found}; try kind counts"
        )
    return Decision(kind, 0, top, top, small)


def affine(
    x: Any, decision: Decision, scale_to: tuple[float, float] | None = None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(offset, divisor) of model units from the training rows, exact in float32. `scale_to` (a, b) takes the whole
    range of grey values there."""
    if scale_to is not None:
        if decision.kind not in ("levels", "8-bit", "colour"):
            raise VaekitError(
                f"data.scale_to is for grey values and colours, these are {decision.kind}; leave it out"
            )
        low, high = scale_to
        divisor = (decision.high - decision.low) / (high - low)
        return (float(np.float32(decision.low - low * divisor)),), (float(np.float32(divisor)),)
    if decision.kind == "counts":
        # A power of two near the 99th percentile: exact to divide by, and most model values lie in [0, 1].
        rows = x[:: max(1, len(x) * int(np.prod(x.shape[1:])) // 2_000_000)]
        return (0.0,), (float(2 ** np.ceil(np.log2(max(1.0, np.percentile(rows, 99))))),)
    if decision.kind != "real":
        return (0.0,), (float(max(decision.high, 1)),)
    columns = x.shape[1] if x.ndim == 2 else 1
    axis = 0 if x.ndim == 2 else None
    shift = np.asarray(x[:1]).mean(axis, dtype=np.float64)  # near the data, so that the squares do not cancel
    total, squares, n = np.zeros(columns), np.zeros(columns), 0
    for _, rows in _parts(x):
        centred = rows.astype(np.float64) - shift
        total += centred.sum(axis)
        squares += (centred**2).sum(axis)
        n += len(rows) if x.ndim == 2 else rows.size
    mean = total / n
    deviation = np.sqrt(np.maximum(squares / n - mean**2, 0))
    offset = np.atleast_1d(mean + shift)
    # A constant column keeps unit scale.
    deviation = np.where(deviation > 1e-7 * np.maximum(1e-30, np.abs(offset)), deviation, 1.0)
    return tuple(map(float, offset.astype(np.float32))), tuple(map(float, deviation.astype(np.float32)))
