"""A matrix as a map of colours, with its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vaekit.errors import VaekitError
from vaekit.pictures.plots import _dress, _figure, _image, _short
from vaekit.pictures.tiles import array

if TYPE_CHECKING:
    from PIL.Image import Image

NUMBERED = 24  # columns up to which each cell says its number


def heat_map(
    values: Any,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str | None = None,
    most: float | None = None,
) -> Image:
    """Values [R, C], from 0 to `most` (by default their greatest), under the names of rows and columns."""
    cells = array(values)
    if cells.shape != (len(rows), len(columns)) or not cells.size:
        raise VaekitError(
            f"heat_map: values of shape {list(cells.shape)} under {len(rows)} row and {len(columns)} column names"
        )
    top = float(cells.max()) if most is None else most
    numbered = len(columns) <= NUMBERED
    width = 0.62 if numbered else 0.3
    figure = _figure(max(6.4, 2.4 + width * len(columns)), 1.5 + 0.46 * len(rows))
    axes = figure.add_subplot()
    image = axes.imshow(cells, cmap="Blues", vmin=0, vmax=max(top, 1e-12), aspect="auto")
    axes.set_xticks(range(len(columns)), [_short(name) for name in columns])
    axes.set_yticks(range(len(rows)), [_short(name) for name in rows])
    if numbered:
        for i, line in enumerate(cells):
            for j, value in enumerate(line):
                colour = "white" if value > 0.6 * top else "#2d2d2d"
                axes.text(j, i, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=9)
    figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02).outline.set_visible(False)
    _dress(axes, title=title)
    axes.tick_params(length=0)
    return _image(figure)
