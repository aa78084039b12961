"""`sprites`: a square, an ellipse and a heart on an exact grid of scale, rotation and place, in bits, of any size.

As dSprites (Matthey et al. 2017, https://github.com/deepmind/dsprites-dataset) it holds every combination of its
factors once, row by row, the last factor running fastest. The values are those of dSprites: scales 0.5 to 1, forty
rotations from 0 to 2 pi with both ends, so that the last is the first again, and centres within the middle half of each
side. Only places are coarser, 16 a side for 32: 184,320 rows, on which two cores can train and which are 755 MB at
64x64, for 737,280 and 3 GB. The shapes are drawn here, so pixels are not those of dSprites, and nor is the hash.
"""

from __future__ import annotations

import math

import numpy as np

from vaekit.data import cache, progress
from vaekit.data.raw import Options, Part, Raw
from vaekit.data.splits import assign, limited
from vaekit.data.stored import Mapped
from vaekit.errors import VaekitError

SHAPES = ("square", "ellipse", "heart")
FACTORS = {"shape": len(SHAPES), "scale": 6, "rotation": 40, "x": 16, "y": 16}
ROWS = math.prod(FACTORS.values())
SIZE = 64  # pixels a side where none are asked for
_LEAST = 16  # a sprite of scale 0.5 is 4 pixels wide then
_FORMAT = 1  # of the pictures; a change here makes the cache be drawn anew
_REACH = 0.25  # from its centre to its farthest point, at scale 1, as a part of the image's shorter side
_CHUNK = 128  # rows drawn together: their intermediate arrays stay in a core's cache
# The heart (u^2 + v^2 - 1)^3 = u^2 v^3: its centroid, and how far from there its farthest point is.
_HEART, _HEART_REACH = 0.2935, 1.2936


def factors(rows: np.ndarray) -> np.ndarray:
    """Row numbers [N] -> the values of their factors, int64 [N, 5], in the order of `FACTORS`."""
    return np.stack(np.unravel_index(rows, tuple(FACTORS.values())), axis=-1).astype(np.int64)


def draw(rows: np.ndarray, size: tuple[int, int] = (SIZE, SIZE)) -> np.ndarray:
    """Row numbers [N] -> their pictures, uint8 [N, 1, height, width] of 0 and 1: a pixel is on where its centre lies in
    the shape. A function of the number and the size alone, the same bits on every machine."""
    out = np.zeros((len(rows), 1, *size), np.uint8)
    values = factors(rows)
    for start in range(0, len(rows), _CHUNK):
        part = slice(start, start + _CHUNK)
        for shape in np.unique(values[part, 0]):
            some = start + np.flatnonzero(values[part, 0] == shape)
            _draw(out, some, int(shape), values[some, 1:])
    return out


def _draw(out: np.ndarray, at: np.ndarray, shape: int, values: np.ndarray) -> None:
    """Switch on the pixels of rows `at`, all of one shape; values [n, 4] of scale, rotation, x and y."""
    height, width = out.shape[2:]
    unit = min(height, width)
    scale = 0.5 + values[:, 0] / (2 * (FACTORS["scale"] - 1))
    # Rounded, for libraries differ in the last digit of a cosine, and a pixel's centre can lie on an edge.
    angle = 2 * math.pi * np.arange(FACTORS["rotation"]) / (FACTORS["rotation"] - 1)
    cosine, sine = (np.round(f(angle), 12)[values[:, 1]] for f in (np.cos, np.sin))
    column, dx = _window(values[:, 2] / (FACTORS["x"] - 1), width, unit)
    row, dy = _window(values[:, 3] / (FACTORS["y"] - 1), height, unit)
    reach = scale * _REACH * unit
    c, s = (cosine / reach)[:, None], (sine / reach)[:, None]
    # In units of the shape's reach, turned back: u to its right, v to its top.
    u = (dx * c)[:, None, :] + (dy * s)[:, :, None]
    v = (dx * s)[:, None, :] - (dy * c)[:, :, None]
    inside = _inside(shape, u, v)
    side = np.arange(inside.shape[1])
    out[at[:, None, None], 0, row[:, None, None] + side[:, None], column[:, None, None] + side] = inside


def _window(place: np.ndarray, length: int, unit: int) -> tuple[np.ndarray, np.ndarray]:
    """Where a sprite can be, along one side: the first pixel [n], and how far pixels' centres are from its own [n, w]."""
    centre = length / 2 + (place - 0.5) * unit / 2
    wide = int(2 * _REACH * unit) + 1
    first = np.ceil(centre - _REACH * unit - 0.5).astype(np.int64).clip(0, length - wide)
    return first, first[:, None] + np.arange(wide) + 0.5 - centre[:, None]


def _inside(shape: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Whether points lie in the shape, whose farthest point is at a distance of 1 from its centre, the origin."""
    if SHAPES[shape] == "square":
        return np.maximum(np.abs(u), np.abs(v)) <= math.sqrt(0.5)
    if SHAPES[shape] == "ellipse":
        return u * u + (v / 0.6) ** 2 <= 1
    u, v = u * _HEART_REACH, v * _HEART_REACH + _HEART
    u2, v2 = u * u, v * v
    w = u2 + v2 - 1
    return w * w * w <= u2 * v2 * v


def open_sprites(options: Options) -> Raw:
    """All rows from the cache, drawn into it when first asked for; of a `limit` the chosen rows alone, in memory."""
    size = options.size or (options.like[1:] if options.like is not None and len(options.like) == 3 else None)
    height, width = size or (SIZE, SIZE)
    if min(height, width) < _LEAST:
        raise VaekitError(
            f"sprites of {height}x{width} pixels cannot be told apart; give a size of {_LEAST} or more"
        )
    if options.limit is None:
        return _raw({"all": np.arange(ROWS)}, _all(height, width))
    if options.whole:
        where, split = {"all": limited(slice(0, None), ROWS, options.limit, options.seed)}, None
    else:
        chosen, split = assign({"all": ROWS}, seed=options.seed, valid=options.valid, last=False)
        where = {
            name: limited(index, ROWS, options.limit, options.seed) for name, (_, index) in chosen.items()
        }
    rows = {name: np.arange(ROWS)[index] for name, index in where.items()}
    raw = _raw(rows, None, (height, width))
    raw.split = split
    return raw


def _raw(rows: dict[str, np.ndarray], x: np.ndarray | None, size: tuple[int, int] = (SIZE, SIZE)) -> Raw:
    """Parts of these rows, whose pictures are x where they are drawn already."""
    parts = {}
    for name, at in rows.items():
        values = factors(at)
        parts[name] = Part(draw(at, size) if x is None else x, values[:, 0], at, values)
    return Raw(parts, SHAPES, factors=FACTORS)


def _all(height: int, width: int) -> np.ndarray:
    """Every row, as a memory map uint8 [N, 1, height, width]."""
    entry = cache.folder(cache.fingerprint("sprites", height, width), str(_FORMAT))
    file, shape = entry / "pixels", (ROWS, 1, height, width)
    if entry.is_dir() and (not file.is_file() or file.stat().st_size != math.prod(shape)):
        cache.discard(entry)
    if not entry.is_dir():
        step = max(1, (4 << 20) // (height * width))
        with (
            cache.writing(entry) as folder,
            progress.bar(f"drawing {ROWS:,} sprites", ROWS, "sprites") as advance,
            (folder / "pixels").open("wb") as out,
        ):
            for start in range(0, ROWS, step):
                rows = np.arange(start, min(start + step, ROWS))
                out.write(draw(rows, (height, width)).data)
                advance(len(rows))
    # Copy-on-write: torch asks for writeable memory, and nothing written would reach the file.
    return Mapped.of(np.memmap(file, np.uint8, "c", shape=shape))
