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
    from vaekit.run.arithmetic import Arithmetic
    from vaekit.run.opened import Run


def _tiles(run: Run, x: np.ndarray) -> np.ndarray:
    return run.contract.picture(run.contract.scale(torch.from_numpy(np.ascontiguousarray(x))))


def items(
    run: Run,
    x: np.ndarray,
    columns: int | None,
    rows: Sequence[str] | None,
    steps: Sequence[str] | None = None,
) -> Image:
    """Items [N, ...] in data units: a grid, named rows, or for vectors a heat map.

    Vectors stand beside the run's own rows; those of a walk alone, with the names of its rows or steps.
    """
    from vaekit import pictures

    if not run.contract.is_image:
        values = np.asarray(x, np.float32)
        if steps is None and rows:
            steps = [name for row in rows for name in (row, *[""] * (len(values) // len(rows) - 1))]
        if steps is not None:
            title = "decoded" + ", columns standardised" * (len(run.contract.offset) > 1)
            return pictures.vectors(
                _level(run, values), None, run.contract.columns or None, (title, ""), steps
            )
        shown = _beside(run, values)
        return pictures.vectors(shown, values, run.contract.columns or None, ("data", "decoded"))
    tiles = _tiles(run, x)
    if rows:
        return pictures.strip(np.split(tiles, len(rows)), list(rows))
    return pictures.grid(tiles, columns)


def _level(run: Run, values: np.ndarray) -> np.ndarray:
    """Rows of a walk on one scale: columns of unlike units are standardised, or the largest would hide the rest."""
    return run.contract.scale(torch.from_numpy(values)).numpy() if len(run.contract.offset) > 1 else values


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


def moved(run: Run, found: Arithmetic) -> Image:
    """Means side by side, and below them what was moved, a row each, the original at its left; vectors as a heat map."""
    from vaekit import pictures

    S = found.z.shape[1]
    if not run.contract.is_image:
        steps = [*(f"mean of {end}" for end in found.ends)]
        steps += [f"{name} × {s:g}" for name in found.names for s in found.strengths]
        return items(run, found.arrays()["x"], None, None, steps)
    cell = max(48, min(160, 960 // (S + 1)))
    means = _tiles(run, found.mean_items)
    rows, heads = [_tiles(run, row) for row in found.x], [f"× {s:.3g}" for s in found.strengths]
    if any(one is not None for one in found.originals):
        blank = np.ones_like(means[:1])
        left = [blank if one is None else _tiles(run, one[None]) for one in found.originals]
        rows, heads = [np.concatenate(pair) for pair in zip(left, rows, strict=True)], ["original", *heads]
    above = pictures.strip([means], ["means"], [f"+ {found.ends[0]}", f"− {found.ends[1]}"], cell)
    below = pictures.strip(rows, found.names, heads, cell)
    return pictures.stacked([above, below])


def latent_grid(run: Run, x: np.ndarray, side: int) -> Image:
    """A decoded latent grid in data units: pictures in their places, or for vectors a map a column."""
    from vaekit import pictures

    D = run.model.latent
    if run.contract.is_image:
        return items(run, x, side, None)
    if D < 2:
        return items(
            run, x, side, None, ["lowest $z_0$", *[""] * (len(x) - 2), "highest"] if len(x) > 1 else [""]
        )
    names = ("$z_0$", "$z_1$") if D == 2 else ("principal direction 1", "principal direction 2")
    values = _level(run, np.asarray(x, np.float32)).reshape(side, side, -1)
    return pictures.fields(values, run.contract.columns or None, names)


SPLITS = {"train": "training ", "valid": "validation ", "test": "test "}


def latent_map(
    codes: Tensor, label: np.ndarray | None, contract: Contract, split: str = "", colours: str | None = None
) -> Image:
    """Mean codes [N, D] as points, coloured by label; spread where D = 1, their principal plane where D > 2."""
    from vaekit import pictures, walks

    what = SPLITS.get(split, "") + ("images" if contract.is_image else "rows")
    title = f"latent codes of {len(codes):,} {what}"
    axes, points, D = ("$z_0$", "$z_1$"), codes, codes.shape[1]
    if D == 1:
        # apart, so that points do not cover one another, and the same way each time
        height = torch.rand(len(codes), 1, generator=torch.Generator().manual_seed(0))
        points, axes = torch.cat((codes, height * codes.std().nan_to_num(1.0)), 1), ("$z_0$", "(spread)")
    elif D > 2:
        points, share = walks.project(codes)
        first, second = (100 * share).tolist()
        axes = (f"principal direction 1 ({first:.0f} %)", f"principal direction 2 ({second:.0f} %)")
        title += f", {D} dimensions"
    return pictures.latent_map(points, label, contract.labels or None, axes, title, colours)
