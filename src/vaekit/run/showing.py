"""What a run draws: items, originals beside reconstructions, the map of codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image

    from vaekit.data import Contract
    from vaekit.run.opened import Run


def _tiles(run: Run, x: np.ndarray) -> np.ndarray:
    return run.contract.picture(run.contract.scale(torch.from_numpy(np.ascontiguousarray(x))))


def items(run: Run, x: np.ndarray, columns: int | None, rows: Sequence[str] | None) -> Image:
    """Items [N, ...] in data units: a grid, named rows, or for vectors a heat map beside the run's rows."""
    from vaekit import pictures

    if not run.contract.is_image:
        values = np.asarray(x, np.float32)
        shown = _beside(run, values)
        return pictures.vectors(shown, values, run.contract.columns or None, ("data", "decoded"))
    tiles = _tiles(run, x)
    if rows:
        return pictures.strip(np.split(tiles, len(rows)), list(rows))
    return pictures.grid(tiles, columns)


def _beside(run: Run, values: np.ndarray) -> np.ndarray:
    """As many of the run's own rows, to compare with; the values themselves where the data have gone."""
    from vaekit.errors import VaekitError

    try:
        own = run.data().train
    except VaekitError:
        return values
    return np.asarray(own.rows(slice(0, len(values))), np.float32)


def pairs(run: Run, originals: np.ndarray, reconstructions: np.ndarray) -> Image:
    """Originals above their reconstructions; for vectors, heat maps side by side."""
    from vaekit import pictures

    if not run.contract.is_image:
        return pictures.vectors(originals, reconstructions, run.contract.columns or None)
    return pictures.pairs(_tiles(run, originals), _tiles(run, reconstructions))


def latent_map(codes: Tensor, label: np.ndarray | None, contract: Contract) -> Image:
    """Mean codes [N, D] as points, coloured by label; spread where D = 1, their principal plane where D > 2."""
    from vaekit import pictures, walks

    title = f"latent codes of {len(codes):,} {'images' if contract.is_image else 'rows'}"
    axes, points, D = ("$z_1$", "$z_2$"), codes, codes.shape[1]
    if D == 1:
        # apart, so that points do not cover one another, and the same way each time
        height = torch.rand(len(codes), 1, generator=torch.Generator().manual_seed(0))
        points, axes = torch.cat((codes, height * codes.std().nan_to_num(1.0)), 1), ("$z_1$", "(spread)")
    elif D > 2:
        points, share = walks.project(codes)
        first, second = (100 * share).tolist()
        axes = (f"principal direction 1 ({first:.0f} %)", f"principal direction 2 ({second:.0f} %)")
        title += f", {D} dimensions"
    return pictures.latent_map(points, label, contract.labels or None, axes, title)
