"""Items of the data as pictures for a page: sheets of tiles without paper, heat maps of vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from vaekit import pictures
from vaekit.data import Contract
from vaekit.report import page

if TYPE_CHECKING:
    from PIL.Image import Image

MARGIN = 8  # pixels around a grid
SMALL = 48  # pixels: up to here pixels are repeated, so that they stay sharp


def sheet(tiles: np.ndarray, columns: int, cell: int | None = None) -> Image:
    """Images [N, C, H, W] in [0, 1] row by row, what is between them transparent: it suits any paper."""
    from PIL import ImageChops

    side = cell or int(np.clip(960 // columns, 40, 128))
    drawn = pictures.grid(tiles, columns, side)
    paper = pictures.grid(np.zeros_like(tiles), columns, side).convert("L")
    drawn.putalpha(ImageChops.invert(paper))
    return drawn.crop((MARGIN, MARGIN, drawn.width - MARGIN, drawn.height - MARGIN))


def tiles_of(contract: Contract, x: np.ndarray) -> np.ndarray:
    """Items in data units [N, *shape] -> images in [0, 1]."""
    return contract.picture(contract.scale(torch.from_numpy(np.ascontiguousarray(x))))


def items(
    contract: Contract,
    x: np.ndarray,
    alt: str,
    columns: int,
    tips: Sequence[str] | None = None,
    cell: int | None = None,
) -> page.Markup:
    """Images in data units [N, C, H, W] as a sheet of `columns`, a tip a tile."""
    tiles = tiles_of(contract, x)
    columns = min(columns, len(tiles))
    large = max(contract.shape[-2:]) > SMALL
    return page.picture(sheet(tiles, columns, cell), alt, tips=tips, columns=columns, photograph=large)


def heat(contract: Contract, first: np.ndarray, second: np.ndarray | None, alt: str) -> page.Markup:
    """Vectors [N, F] as a heat map, beside others: 1 and 2 in circles name the sides, the caption says what they are.

    Columns of unlike units are standardised.
    """
    sides = [level(contract, np.asarray(x, np.float32)) for x in (first, second) if x is not None]
    other = sides[1] if len(sides) > 1 else None
    unnamed = other is None and contract.shape != (2,)  # rows of two are points, whose legend names them
    drawn = pictures.vectors(sides[0], other, contract.columns or None, ("", "") if unnamed else ("①", "②"))
    return page.picture(drawn, alt, paper=True)


def level(contract: Contract, values: np.ndarray) -> np.ndarray:
    """Vectors on one scale: where columns have units of their own, the largest would hide the rest."""
    return contract.scale(torch.from_numpy(values)).numpy() if len(contract.offset) > 1 else values


def shrunk(tiles: np.ndarray, side: int) -> np.ndarray:
    """Images [N, C, H, W] averaged down by a whole factor until no side is longer."""
    factor = -(-max(tiles.shape[-2:]) // side)
    if factor == 1:
        return tiles
    return torch.nn.functional.avg_pool2d(torch.from_numpy(tiles), factor, ceil_mode=True).numpy()
