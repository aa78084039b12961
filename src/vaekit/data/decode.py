"""Bytes of an image file -> pixels of a planned size and mode. Any mode Pillow reads, turned upright."""

from __future__ import annotations

import functools
import io
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "PPM", "BMP", "DIB", "TIFF", "WEBP", "GIF")
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # EXIF orientation -> PIL.Image.Transpose
_GREY_MODES = frozenset(("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F"))


class DoesNotFitError(Exception):
    """An image is not what the plan took all to be (its size, or grey); the plan must be made anew."""


@dataclass(frozen=True)
class Plan:
    """What every image becomes. `exact`: all should have the size already; `force_grey` turns colour grey."""

    channels: int
    height: int
    width: int
    exact: bool
    force_grey: bool


@functools.cache
def _readers() -> tuple[Callable[..., Image.Image], Callable[..., Image.Image]]:
    """Pillow's opener with the formats taken here registered, and its JPEG reader."""
    from PIL import (  # noqa: F401 - each registers its format
        BmpImagePlugin,
        GifImagePlugin,
        Image,
        JpegImagePlugin,
        PngImagePlugin,
        PpmImagePlugin,
        TiffImagePlugin,
        WebPImagePlugin,
    )

    return Image.open, JpegImagePlugin.JpegImageFile


def opened(data: bytes) -> Image.Image:
    """The image, its header read, its pixels not yet."""
    general, jpeg = _readers()
    if data[:2] == b"\xff\xd8":  # straight to the reader: a good part of a small JPEG's cost is finding it
        return jpeg(io.BytesIO(data))
    return general(io.BytesIO(data), formats=FORMATS)


def plain_jpeg(data: bytes) -> tuple[int, int, int] | None:
    """(width, height, components) of an 8-bit JPEG without word on orientation or colour space; else None.

    Pillow's own walk over the same markers is half of what a small JPEG costs.
    """
    if data[:2] != b"\xff\xd8":
        return None
    at, end = 2, len(data) - 10
    while at < end and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in (0xC0, 0xC1, 0xC2):
            components = data[at + 9]
            if data[at + 4] != 8 or components not in (1, 3):
                return None
            return data[at + 7] << 8 | data[at + 8], data[at + 5] << 8 | data[at + 6], components
        # APP0, comments and tables may be passed over; EXIF (APP1), ICC and Adobe's APP14 are Pillow's.
        if marker not in (0xE0, 0xFE, 0xDB, 0xC4, 0xDD):
            return None
        at += 2 + (data[at + 2] << 8 | data[at + 3])
    return None


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) to 8. Pillow turns TIFF itself, its size included."""
    turn = image.getexif().get(0x0112, 1) if "exif" in image.info and image.format != "TIFF" else 1
    return turn if turn in _TURNS else 1


def header(data: bytes) -> tuple[int, int, bool]:
    """(width, height) when upright, and whether the image is grey."""
    quick = plain_jpeg(data)
    if quick is not None:
        return quick[0], quick[1], quick[2] == 1
    image = opened(data)
    width, height = image.size if orientation(image) < 5 else image.size[::-1]
    return width, height, _is_grey(image)


def _is_grey(image: Image.Image) -> bool:
    if image.mode == "P":
        palette = np.asarray(image.getpalette("RGB") or [0], np.uint8)
        return len(palette) % 3 == 0 and bool((palette.reshape(-1, 3) == palette.reshape(-1, 3)[:, :1]).all())
    return image.mode in _GREY_MODES


def pixels(data: bytes, plan: Plan, notes: Counter[str]) -> Image.Image:
    """The image as planned, mode "L" or "RGB". Pillow's errors, and ValueError, say what is wrong with it."""
    from PIL import Image

    if plan.exact:
        quick = plain_jpeg(data)
        if quick == (plan.width, plan.height, plan.channels):
            mode = "L" if plan.channels == 1 else "RGB"
            return Image.frombytes(mode, quick[:2], data, "jpeg", mode, "")
    image = opened(data)
    turn = orientation(image)
    upright = image.size[::-1] if turn >= 5 else image.size
    if plan.exact and upright != (plan.width, plan.height):
        raise DoesNotFitError
    if plan.channels == 1 and not plan.force_grey and not _is_grey(image):
        raise DoesNotFitError
    if image.format == "JPEG" and not plan.exact:
        # libjpeg halves while it decodes; twice the wanted size is kept for a clean reduction.
        scale = 2 * max(plan.width / upright[0], plan.height / upright[1])
        if scale < 1:
            wanted = (math.ceil(image.size[0] * scale), math.ceil(image.size[1] * scale))
            image.draft("L" if plan.channels == 1 else None, wanted)
    image = _to_mode(image, plan.channels, notes)
    if turn > 1:
        image = image.transpose(Image.Transpose(_TURNS[turn]))
        notes["turned upright by its EXIF orientation"] += 1
    width, height = image.size
    if (width, height) == (plan.width, plan.height):
        return image
    scale = max(plan.width / width, plan.height / height)
    across, down = min(width, plan.width / scale), min(height, plan.height / scale)
    left, top = (width - across) / 2, (height - down) / 2
    box = (left, top, left + across, top + down)
    return image.resize((plan.width, plan.height), Image.Resampling.LANCZOS, box=box, reducing_gap=2.0)


def _to_mode(image: Image.Image, channels: int, notes: Counter[str]) -> Image.Image:
    from PIL import Image

    target = "L" if channels == 1 else "RGB"
    mode, see_through = image.mode, "transparency" in image.info
    if mode == target and not see_through:
        image.load()
        return image
    if mode == "F":
        raise ValueError("32-bit float pixels; save such images as .npy instead")
    if mode == "I" or mode.startswith("I;16"):
        values = np.asarray(image).astype(np.int64)
        image = Image.fromarray(np.clip(values >> 8, 0, 255).astype(np.uint8))
        notes["reduced from 16 to 8 bits"] += 1
    elif mode in ("RGBA", "LA", "PA", "La", "RGBa") or see_through:
        colour = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", colour.size, "white"), colour)
        notes["with transparency laid on white"] += 1
    elif mode == "LAB":
        raise ValueError("LAB pixels; convert it to RGB first")
    return image if image.mode == target else image.convert(target)


# rows as bytes [n, C, H, W], positions that worked, (position, reason) of those that did not, what was done to how many
Packed = tuple[bytes, list[int], list[tuple[int, str]], Counter[str]]


def pack(files: Sequence[bytes], plan: Plan) -> Packed:
    """Decode the bytes of image files into rows, in order. Raises DoesNotFitError; other failures are told by file."""
    from PIL import Image

    notes: Counter[str] = Counter()
    # Pasting into one tall canvas and reading that out once costs a tenth of reading out every image.
    canvas = Image.new("L" if plan.channels == 1 else "RGB", (plan.width, plan.height * len(files)))
    good: list[int] = []
    bad: list[tuple[int, str]] = []
    for position, data in enumerate(files):
        try:
            image = pixels(data, plan, notes)
        except DoesNotFitError:
            raise
        except Exception as error:
            bad.append((position, reason(error)))
            continue
        canvas.paste(image, (0, plan.height * len(good)))
        good.append(position)
    rows = np.asarray(canvas).reshape(len(files), plan.height, plan.width, plan.channels)[: len(good)]
    return rows.transpose(0, 3, 1, 2).tobytes(), good, bad, notes


def reason(error: Exception) -> str:
    """What Pillow or the archive has against a file, in a few words."""
    return " ".join(str(error).split())[:80].split(" <_io")[0] or type(error).__name__
