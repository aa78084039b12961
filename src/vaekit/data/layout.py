"""Arrays as people keep them -> rows [N, C, H, W] or [N, F]; greys, sizes and crops of arrays."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from vaekit.data.contract import words
from vaekit.data.hashes import chunks
from vaekit.errors import VaekitError


def arrange(x: Any, what: str, like: tuple[int, ...] | None = None) -> tuple[Any, str]:
    """A view of x as [N, C, H, W] or [N, F], and a note where it was turned. `like`: the shape to aim at."""
    if x.dtype.kind == "b":
        x = x.view(np.uint8)
    if x.dtype.kind not in "uif" or x.dtype.itemsize > 8:
        raise VaekitError(f"{what}: an array of {x.dtype} holds no plain numbers; give integers or floats")
    if x.dtype.byteorder == ">" or (x.dtype == np.uint64):
        x = x.astype(x.dtype.newbyteorder("=") if x.dtype != np.uint64 else np.int64)
    if x.ndim < 2 or x.ndim > 4 or 0 in x.shape[1:]:
        shape = "x".join(map(str, x.shape)) or "a single number"
        raise VaekitError(f"{what}: shape {shape}; expected [N, F], [N, H, W], [N, C, H, W] or [N, H, W, C]")
    if not len(x):
        raise VaekitError(f"{what}: no rows")
    if like is not None and x.shape[1:] != like:
        if x.ndim == 4 and (x.shape[3], x.shape[1], x.shape[2]) == like:
            return x.transpose(0, 3, 1, 2), ""
        if math.prod(x.shape[1:]) == math.prod(like) and 2 in (x.ndim, len(like) + 1):
            return x.reshape(len(x), *like), ""
    if x.ndim == 3:
        return x[:, None], ""
    if x.ndim == 4 and x.shape[1] not in (1, 3, 4) and x.shape[3] in (1, 2, 3, 4):
        x = x.transpose(0, 3, 1, 2)
    if x.ndim == 4 and x.shape[1] == 4 and x.dtype == np.uint8:
        note = "the fourth channel taken as transparency and dropped"
        return x[:, :3], note
    return x, ""


def square_image(x: Any, columns: tuple[str, ...], size: tuple[int, int] | None) -> tuple[Any, str]:
    """Flattened images [N, H W] as [N, 1, H, W], and a note: where `size` says so, or where rows of a square
    number of values fill 0..255 exactly, or their columns are called pixel..."""
    n, features = x.shape
    if size is not None:
        for channels in (1, 3):
            if features == channels * size[0] * size[1]:
                note = f"rows of {features} values read as images {channels}x{size[0]}x{size[1]}"
                return x.reshape(n, channels, *size), note
        raise VaekitError(
            f"size {size[0]}x{size[1]} does not fit rows of {features} values: vectors have no size"
        )
    side = math.isqrt(features)
    if side * side != features or side < 4:
        return x, ""
    named = bool(columns) and all(c.lower().startswith(("pix", "px")) for c in columns)
    sample = np.asarray(x[:4096])
    bytes_ = bool((sample == np.rint(sample)).all()) and sample.min() >= 0 and sample.max() == 255
    if not (named or bytes_):
        return x, ""
    note = f"rows of {features} values {'called pixels' if named else '0..255'} read as images {side}x{side}"
    return x.reshape(n, 1, side, side), note


def _by_chunks(x: Any, shape: tuple[int, ...], change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    out = np.empty((len(x), *shape), x.dtype)
    row_bytes = 4 * int(np.prod(x.shape[1:]))
    for part in chunks(len(x), row_bytes):
        rows = change(np.asarray(x[part]))
        out[part] = np.rint(rows) if x.dtype.kind in "ui" else rows
    return out


def grey(x: Any) -> np.ndarray:
    """[N, 3, H, W] -> luma [N, 1, H, W] (ITU-R 601, as Pillow's "L"), rounded for integers."""
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    return _by_chunks(x, (1, *x.shape[2:]), lambda rows: np.einsum("nchw,c->nhw", rows, weights)[:, None])


def resize(x: Any, size: tuple[int, int]) -> Any:
    """Centre crop to the proportions of (height, width), then an antialiased bilinear resize."""
    import torch

    height, width = x.shape[2:]
    if (height, width) == size:
        return x
    scale = max(size[0] / height, size[1] / width)
    crop_h, crop_w = min(height, round(size[0] / scale)), min(width, round(size[1] / scale))
    top, left = (height - crop_h) // 2, (width - crop_w) // 2
    x = x[:, :, top : top + crop_h, left : left + crop_w]

    def change(rows: np.ndarray) -> np.ndarray:
        tensor = torch.from_numpy(rows.astype(np.float32))
        return torch.nn.functional.interpolate(tensor, size=size, mode="bilinear", antialias=True).numpy()

    return _by_chunks(x, (x.shape[1], *size), change)


def images_only(shape: tuple[int, ...], what: str, option: str) -> None:
    """Refuse an option that only images can take."""
    if len(shape) != 3:
        raise VaekitError(f"{what}: {option} is for images, the rows are {words(shape)}")
