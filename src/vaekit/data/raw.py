"""What a reader hands to the opener: arrays by part, their labels, and what was done on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vaekit.data.contract import KINDS
from vaekit.errors import VaekitError, nearest

BINARIZE = ("dynamic", "static")


@dataclass(frozen=True)
class Options:
    """How to open a source; all that a reader may need.

    `size` is (height, width) or None; `whole` leaves an unsplit source in one piece; `like` is the shape of
    the rows of a contract to be kept.
    """

    size: tuple[int, int] | None = None
    grey: bool = False
    limit: int | None = None
    seed: int = 0
    key: str | None = None
    labels: Any = None
    kind: str | None = None
    valid: float | int | None = None
    whole: bool = False
    scale_to: tuple[float, float] | None = None
    like: tuple[int, ...] | None = None


@dataclass
class Part:
    """Rows x [N, ...] as read, their labels [N] as read, or None, and their `places` in the source, where these are not
    simply counted through; `factors` int64 [N, F], the values of what they were made from, where that is known."""

    x: Any
    label: np.ndarray | None = None
    places: np.ndarray | None = None
    factors: np.ndarray | None = None


@dataclass
class Raw:
    """A source as read. `parts` by split name, or one part "all"; `notes` are sentences on what was done.

    `split` is set where the reader has split already; `last` where validation is the last training rows;
    `files` where the rows are image files, to what holds them; `factors` the names of the parts' factors, and how many
    values each has.
    """

    parts: dict[str, Part]
    names: tuple[str, ...] | None = None
    columns: tuple[str, ...] = ()
    categories: tuple[tuple[str, ...], ...] = ()
    notes: list[str] = field(default_factory=list)
    kind: str | None = None
    last: bool = False
    split: str | None = None
    ready: bool = False  # images: decoded, sized and [N, C, H, W] already
    files: Path | None = None
    factors: Mapping[str, int] = field(default_factory=dict)


def parse_size(size: Any) -> tuple[int, int] | None:
    """`None`, N, "N", "HxW" or (H, W) -> (height, width) or None."""
    if size is None:
        return None
    try:
        parts = (
            [int(p) for p in size.lower().split("x")] if isinstance(size, str) else list(np.atleast_1d(size))
        )
        height, width = (int(parts[0]),) * 2 if len(parts) == 1 else map(int, parts)
    except (TypeError, ValueError):
        raise VaekitError(f"size {size!r} is not a number of pixels N or HxW, such as 32 or 48x64") from None
    if not (0 < height <= 4096 and 0 < width <= 4096):
        raise VaekitError(f"size {height}x{width} is out of range: 1 to 4096 pixels a side")
    return height, width


def check_choices(
    binarize: str | None,
    kind: str | None,
    limit: int | None,
    valid: float | None,
    scale_to: tuple[float, float] | None = None,
) -> None:
    """Refuse options that no source could honour."""
    if binarize is not None and binarize not in BINARIZE:
        raise VaekitError(f"unknown binarize {binarize!r}{nearest(str(binarize), BINARIZE)}")
    if kind is not None and kind not in KINDS:
        raise VaekitError(f"unknown kind {kind!r}{nearest(str(kind), KINDS)}")
    if limit is not None and limit < 3:
        raise VaekitError(f"limit {limit} is too small: at least 3 rows a split")
    if valid is not None and valid <= 0:
        raise VaekitError(f"data.valid={valid} must be a fraction between 0 and 1, or a number of rows")
    if scale_to is not None:
        ends = tuple(scale_to)
        if len(ends) != 2 or not np.isfinite(ends).all() or not ends[0] < ends[1]:
            raise VaekitError(f"data.scale_to={list(ends)} is no interval: give two numbers, such as [-1, 1]")
        if binarize is not None:
            raise VaekitError("bits are 0 and 1 to a model: leave data.scale_to or binarize out")
