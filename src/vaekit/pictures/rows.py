"""Data without pixels: rows of a table as heat maps, and table columns over a latent plane."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vaekit.errors import VaekitError
from vaekit.pictures.plots import FAINT, INK, TRAIN, VALID, _dress, _figure, _image, _short
from vaekit.pictures.tiles import array

if TYPE_CHECKING:
    from PIL.Image import Image

NAMED = 40  # as many columns can carry their names legibly


def vectors(
    originals: Any,
    others: Any = None,
    columns: Sequence[str] | None = None,
    titles: tuple[str, str] = ("original", "reconstruction"),
    steps: Sequence[str] | None = None,
) -> Image:
    """Rows [N, F] as a heat map, beside other rows [M, F] (reconstructions, samples) on one colour scale.

    With F = 2 the rows are points in one plot instead. `columns` names the F columns,
    `steps` the rows of a walk ("" where one needs no name).
    """
    sides = [array(side) for side in (originals, others) if side is not None]
    if any(side.ndim != 2 or not side.size for side in sides) or len({side.shape[-1] for side in sides}) > 1:
        shapes = " and ".join(str(list(side.shape)) for side in sides)
        raise VaekitError(f"vectors: rows of shape {shapes}; expected [N, F] and [M, F]")
    if sides[0].shape[1] == 2:
        return _points(sides, columns, titles)
    scale = _scale(np.concatenate(sides))
    rows, features = max(len(side) for side in sides), sides[0].shape[1]
    names = [_short(str(c), 16) for c in columns] if columns and features <= NAMED else []
    width, height = (
        float(np.clip(0.22 * features, 3.4, 6.5)),
        float(np.clip(0.2 * rows + 1, 2.6, 24 if steps else 8)),
    )
    figure = _figure(len(sides) * width + 1.0, height + (1.0 if names else 0))
    panels = figure.subplots(1, len(sides), sharey=True, squeeze=False)[0]
    for axes, values, title in zip(panels, sides, titles, strict=False):
        drawn = axes.imshow(values, aspect="auto", interpolation="nearest", **scale)
        _dress(axes, title=title, xlabel=None if names else "column")
        axes.spines[:].set_visible(False)
        axes.set_yticks([])
        if names:
            axes.set_xticks(range(features), names, rotation=90)
    if steps:
        named = [i for i, step in enumerate(steps) if step]
        panels[0].set_yticks(named, [steps[i] for i in named])
    else:
        panels[0].set_ylabel("row", color=INK, fontsize=11)
    _bar(figure, drawn, panels)
    return _image(figure)


def fields(
    values: Any, columns: Sequence[str] | None = None, axis_labels: tuple[str, str] = ("$z_0$", "$z_1$")
) -> Image:
    """Decoded rows [n, n, F] over a latent grid: a small map for each of the first 16 columns.

    The first axis runs downwards from the top of the plane, the second to the right.
    """
    maps = array(values)
    if maps.ndim != 3 or not maps.size:
        raise VaekitError(f"fields: values of shape {list(maps.shape)}; expected [n, n, F]")
    shown = min(maps.shape[2], 16)
    across = math.ceil(math.sqrt(shown))
    down = math.ceil(shown / across)
    figure = _figure(2.1 * across + 0.8, 2.2 * down + 0.4)
    scale = _scale(maps[..., :shown])
    every = np.atleast_1d(figure.subplots(down, across)).ravel()
    for axes in every[shown:]:
        axes.set_visible(False)
    for i, axes in enumerate(every[:shown]):
        drawn = axes.imshow(maps[..., i], interpolation="nearest", aspect="equal", **scale)
        name = str(columns[i]) if columns else f"column {i}"
        axes.set_title(_short(name, 20), fontsize=10, color=INK)
        axes.spines[:].set_visible(False)
        axes.set_xticks([])
        axes.set_yticks([])
    corner = every[(down - 1) * across]
    corner.set_xlabel(axis_labels[0], fontsize=10)
    corner.set_ylabel(axis_labels[1], fontsize=10)
    _bar(figure, drawn, every[:shown])
    return _image(figure)


def _points(sides: Sequence[np.ndarray], columns: Sequence[str] | None, titles: Sequence[str]) -> Image:
    figure = _figure(6.4, 5.4)
    axes = figure.add_subplot()
    for values, title, colour in zip(sides, titles, (TRAIN, VALID), strict=False):
        size = float(np.clip(12_000 / len(values), 5, 22))
        axes.scatter(*values.T, s=size, linewidths=0, alpha=0.75, color=colour, label=title)
    axes.legend(frameon=False, fontsize=10, labelcolor=INK, loc="upper left", bbox_to_anchor=(1, 1))
    names = [_short(str(c)) for c in columns] if columns else ["column 0", "column 1"]
    _dress(axes, xlabel=names[0], ylabel=names[1])
    return _image(figure)


def _scale(values: np.ndarray) -> dict[str, Any]:
    """Grey for values that start at zero; blue to red about zero for signed ones, the outer 1 % saturated."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return {"cmap": "Greys", "vmin": 0.0, "vmax": 1.0}
    if finite.min() >= 0:
        most = float(np.quantile(finite, 0.99)) or float(finite.max()) or 1.0
        return {"cmap": "Greys", "vmin": 0.0, "vmax": most}
    most = float(np.quantile(np.abs(finite), 0.99)) or 1.0
    return {"cmap": "RdBu_r", "vmin": -most, "vmax": most}


def _bar(figure: Any, drawn: Any, axes: Any) -> None:
    bar = figure.colorbar(drawn, ax=axes, shrink=0.8, pad=0.015)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=FAINT, labelsize=9, length=0)
