"""Small pictures and folders of them, for the tests of the data room."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image


def paint(seed: int, size: tuple[int, int] = (12, 10), mode: str = "L") -> Image.Image:
    """A picture of noise, size (width, height)."""
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], len(mode))
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8), mode)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder
