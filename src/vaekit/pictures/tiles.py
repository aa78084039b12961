"""Images side by side: grids, originals beside their reconstructions, labelled strips."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vaekit.errors import VaekitError
from vaekit.files import atomic

if TYPE_CHECKING:
    from PIL.Image import Image

PAPER, INK, FAINT = (255, 255, 255), (45, 45, 45), (110, 110, 110)
WIDTH = 960  # pixels a picture aims at
NOT_FINITE = (214, 39, 40)  # a NaN shows red instead of passing for black


def grid(
    images: Any, columns: int | None = None, cell: int | None = None, gutter: int | None = None
) -> Image:
    """Images [N, C, H, W] in [0, 1], row by row. Small images grow by a whole factor, so pixels stay square.

    `columns` defaults to about a square; `cell` is the side in pixels that an image is brought close to,
    `gutter` the pixels between images.
    """
    pixels = _pixels(images, "grid")
    columns = _columns(columns, math.ceil(math.sqrt(len(pixels))), "grid")
    tiles = _scaled(pixels, cell or _cell(columns))
    rows = [tiles[i : i + columns] for i in range(0, len(tiles), columns)]
    return _compose(rows, gutter=gutter)


def pairs(originals: Any, reconstructions: Any, columns: int | None = None, cell: int | None = None) -> Image:
    """Originals [N, C, H, W] above their reconstructions, in bands of `columns` with the rows named."""
    above, below = _pixels(originals, "pairs"), _pixels(reconstructions, "pairs")
    if above.shape != below.shape:
        raise VaekitError(
            f"pairs: {len(above)} originals of {_size(above)} against {len(below)} reconstructions "
            f"of {_size(below)}; they must match one to one"
        )
    columns = _columns(columns, min(len(above), 10), "pairs")
    above, below = (_scaled(p, cell or _cell(columns)) for p in (above, below))
    rows, labels = [], []
    for i in range(0, len(above), columns):
        rows += [above[i : i + columns], below[i : i + columns]]
        labels += ["original", "reconstruction"]
    return _compose(rows, labels, band=2)


def strip(
    rows: Sequence[Any],
    labels: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    cell: int | None = None,
) -> Image:
    """Rows of images, each [S, C, H, W], with a name at the left of each row and one above each column."""
    pixels = [_pixels(row, "strip") for row in rows]
    if not pixels:
        raise VaekitError("strip: no rows to draw; give at least one [S, C, H, W]")
    for what, given, wanted in (
        ("row names", labels, len(pixels)),
        ("column names", columns, max(len(row) for row in pixels)),
    ):
        if given is not None and len(given) != wanted:
            raise VaekitError(f"strip: {len(given)} {what} for {wanted}; give one each")
    side = cell or _cell(max(len(row) for row in pixels))
    return _compose([_scaled(row, side) for row in pixels], labels, heads=columns)


def stacked(pictures: Sequence[Image]) -> Image:
    """Pictures one above the other on paper, at the left."""
    import PIL.Image

    size = max(p.width for p in pictures), sum(p.height for p in pictures)
    whole = PIL.Image.new("RGB", size, PAPER)
    top = 0
    for picture in pictures:
        whole.paste(picture, (0, top))
        top += picture.height
    return whole


def save(image: Image, path: str | os.PathLike[str]) -> None:
    """Write a PNG, whole or not at all, with nothing in it of the machine, the time or the software."""
    if not str(path).lower().endswith(".png"):
        raise VaekitError(f"cannot write a picture to {os.fspath(path)}: pictures are PNG, so end it in .png")
    import PIL.Image

    clean = PIL.Image.frombytes(image.mode, image.size, image.tobytes())  # drops `info`
    with atomic(path) as temporary:
        clean.save(temporary, format="PNG")


def array(values: Any) -> np.ndarray:
    """A float32 array of an array, a list or a tensor on any device."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().float().numpy()
    return np.asarray(values, dtype=np.float32)


def _pixels(images: Any, what: str) -> np.ndarray:
    """Images in [0, 1] -> uint8 [N, H, W, 3]."""
    values = array(images)
    if values.ndim != 4 or 0 in values.shape:
        raise VaekitError(
            f"{what}: images of shape {list(values.shape)}; expected [N, C, H, W] with at least one image"
        )
    colour = np.moveaxis(values, 1, -1)  # [N, H, W, C]
    broken = ~np.isfinite(colour).all(-1)
    if colour.shape[-1] == 4:  # transparent shows the paper
        alpha = colour[..., 3:]
        colour = colour[..., :3] * alpha + (1 - alpha)
    elif colour.shape[-1] != 3:
        colour = np.repeat(colour.mean(-1, keepdims=True), 3, axis=-1)
    pixels = (np.nan_to_num(colour).clip(0, 1) * 255).round().astype(np.uint8)
    pixels[broken] = NOT_FINITE
    return pixels


def _columns(given: int | None, automatic: int, what: str) -> int:
    if given is not None and given < 1:
        raise VaekitError(f"{what}: a picture of {given} columns shows nothing; give at least 1")
    return automatic if given is None else given


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[2]}"


def _cell(columns: int) -> int:
    return min(max(WIDTH // columns, 48), 160)


def _scaled(pixels: np.ndarray, cell: int) -> np.ndarray:
    """uint8 [N, H, W, 3] brought near `cell`: up by repeating pixels, down by averaging them."""
    longest = max(pixels.shape[1:3])
    if longest <= 1.5 * cell:
        factor = max(1, round(cell / longest))
        return pixels.repeat(factor, axis=1).repeat(factor, axis=2)
    import PIL.Image

    h, w = (max(1, round(side * cell / longest)) for side in pixels.shape[1:3])
    return np.stack(
        [np.asarray(PIL.Image.fromarray(p).resize((w, h), PIL.Image.Resampling.BOX)) for p in pixels]
    )


def _compose(
    rows: Sequence[np.ndarray],
    labels: Sequence[str] | None = None,
    *,
    heads: Sequence[str] | None = None,
    gutter: int | None = None,
    band: int = 1,
) -> Image:
    """Rows of equal tiles [S, h, w, 3] on paper; `band` rows belong together, a wider gap parts the bands."""
    import PIL.Image
    from PIL import ImageDraw

    h, w = rows[0].shape[1:3]
    gutter = max(2, h // 24) if gutter is None else gutter
    most = max(len(row) for row in rows)
    font = _font(max(13, min(18, h // 5)))
    left = max((math.ceil(font.getlength(text)) for text in labels), default=0) + 14 if labels else 0
    top = sum(font.getmetrics()) + 4 if heads else 0
    gap = max(4 * gutter, h // 8) if band > 1 else gutter
    margin = 8 if gutter else 0
    tops = [margin + top + i * (h + gutter) + (i // band) * (gap - gutter) for i in range(len(rows))]
    width = 2 * margin + left + most * (w + gutter) - gutter
    picture = PIL.Image.new("RGB", (width, tops[-1] + h + margin), PAPER)
    canvas = np.array(picture)
    for y, row in zip(tops, rows, strict=True):
        for column, tile in enumerate(row):
            x = margin + left + column * (w + gutter)
            canvas[y : y + h, x : x + w] = tile
    picture = PIL.Image.fromarray(canvas)
    draw = ImageDraw.Draw(picture)
    for y, text in zip(tops, labels or (), strict=False):
        draw.text((margin + left - 12, y + h // 2), text, font=font, fill=INK, anchor="rm")
    for column, text in enumerate(heads or ()):
        x = margin + left + column * (w + gutter) + w // 2
        draw.text((x, margin), text, font=font, fill=FAINT, anchor="ma")
    return picture


def _font(size: int) -> Any:
    """DejaVu Sans from matplotlib's folder, found without importing it: it knows more scripts."""
    from importlib.util import find_spec
    from pathlib import Path

    from PIL import ImageFont

    found = find_spec("matplotlib")
    if found and found.origin:
        path = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if path.is_file():
            return ImageFont.truetype(str(path), size)
    return ImageFont.load_default(size)
