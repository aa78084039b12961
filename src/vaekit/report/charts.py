"""Charts as SVG in a string: they scale, print, follow the page's colours, and name the point one points at.

Points are one path a colour, about ten bytes each; the page's script reads the positions off the paths. Every function
returns a figure (`Markup`) with its legend, for `Page.section`, `page.beside` or `page.film`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vaekit.errors import VaekitError
from vaekit.report.axes import STRIP, Frame
from vaekit.report.colours import COLOURS, colour_style
from vaekit.report.marks import (
    Series,
    by_value,
    centres,
    chart,
    colour_bar,
    dots,
    hot,
    legend_of,
    line_of,
    outline,
    ring,
)
from vaekit.report.page import Markup, element, picture

if TYPE_CHECKING:
    from PIL.Image import Image

KINDS = 2 * COLOURS  # labels with a colour and shape each; more are drawn by value
THUMBS = 50  # pictures a row of a sheet that tips show


def scatter(
    points: Any,
    *,
    title: str,
    label: Any = None,
    names: Sequence[str] | None = None,
    value: Any = None,
    value_name: str = "",
    rows: Any = None,
    tip: str = "{}",
    axes: tuple[str, str] = ("", ""),
    equal: bool = True,
    x: tuple[float, float] | None = None,
    y: tuple[float, float] | None = None,
    unlabelled: str = "",
    small: bool = False,
    legend: bool = True,
    thumbs: Callable[[np.ndarray], Image] | bool = False,
    rings: Sequence[tuple[Any, str]] = (),
) -> Markup:
    """Points [N, 2], coloured by whole-number `label` [N] (names: what 0, 1, ... are called) or by `value` [N].

    Pointed at, a point says its label's name and `tip` with `rows` [N] (numbers or words, by default 0..N-1) put in
    its braces. `equal`: one scale for both axes, unless one way the points reach more than four times as far. `x`, `y`:
    ranges, to put maps side by side. Labels below zero are grey and called `unlabelled`; more than 20 kinds of label
    are coloured by their number. `small`: without axes, legend and centres, for a film. `thumbs`: given the indices of
    points in the order they are drawn, a sheet of pictures, `THUMBS` a row, which the tip shows; True
    for that of the same points in another map of the section. `rings`: closed
    lines [P, 2] drawn over the points, each with a word.
    """
    at = np.asarray(points, np.float64)
    if at.ndim != 2 or at.shape[1] != 2:
        raise VaekitError(f"scatter: points of shape {list(at.shape)}; expected [N, 2]")
    rows = np.arange(len(at)) if rows is None else np.asarray(rows)
    label, value = (None if given is None else np.asarray(given) for given in (label, value))
    for what, given in (("labels", label), ("values", value), ("rows", rows)):
        if given is not None and given.shape != (len(at),):
            raise VaekitError(f"scatter: {list(given.shape)} {what} for {len(at)} points; give one each")
    known = np.isfinite(at).all(1)
    if not known.any():
        raise VaekitError("scatter: no point is finite; there is nothing to draw")
    index, at, rows = np.flatnonzero(known), at[known], rows[known]
    label, value = (None if given is None else given[known] for given in (label, value))
    order: list[np.ndarray] = []  # of the points, as they are drawn
    kinds = np.unique(label[label >= 0]) if label is not None else np.arange(0)
    if label is not None and len(kinds) > KINDS:
        value, label = np.where(label < 0, np.nan, label.astype(float)), None
    side = 200 if small else 460
    tall = side
    if equal and not small and x is None and y is None:  # a flat cloud needs no square of paper
        wide, high = np.ptp(at, axis=0).tolist()
        if high * STRIP > wide:
            tall = round(side * min(max(high / max(wide, 1e-12), 0.6), 1.0))
    frame = Frame.around(side, tall, at, axes=("", "") if small else axes, equal=equal, x=x, y=y, bare=small)
    px = frame.place(at)
    size = float(np.clip(90 / math.sqrt(len(at)), 2.2, 6.0)) * (0.75 if small else 1.0)
    body, key = [frame.grid()], Markup("")
    if label is not None:
        groups = [(-1, unlabelled)] if (label < 0).any() else []
        groups += [
            (k, str(names[k]) if names is not None and k < len(names) else str(k)) for k in kinds.tolist()
        ]
        for k, name in groups:
            chosen = label == k if k >= 0 else label < 0
            place = int(np.searchsorted(kinds, k)) if k >= 0 else -1
            said = f"{name.replace('{}', '{ }')} · {tip}" if name else tip  # the braces are the tip's
            body.append(dots(px[chosen], rows[chosen], said, colour_style(place), size, place))
            order.append(index[chosen])
        if not small:
            body += centres(frame, [(px[label == k], name) for k, name in groups if k >= 0])
            key = legend_of([(int(np.searchsorted(kinds, k)) if k >= 0 else -1, name) for k, name in groups])
    elif value is not None:
        drawn, order = by_value(px, rows, value, tip, value_name, size)
        body += drawn
        order = [index[chosen] for chosen in order]
        finite = value[np.isfinite(value)]
        key = colour_bar(finite.min(), finite.max(), value_name) if len(finite) else key
    else:
        body.append(dots(px, rows, tip, "var(--accent)", size, 0))
        order.append(index)
    body += [ring(frame, line, word) for line, word in rings]
    if callable(thumbs):
        sheet = picture(thumbs(np.concatenate(order)), title, photograph=True)
        key = Markup(key + element("div", sheet, class_="thumbs", hidden=True, data_columns=THUMBS))
    return chart(
        title,
        frame,
        body,
        key if legend and not small else Markup(""),
        most=720,
        by="both",
        thumbs=bool(thumbs),
    )


def lines(
    series: Sequence[Series],
    *,
    title: str,
    axes: tuple[str, str] = ("", ""),
    log: str = "",
    x: tuple[float, float] | None = None,
    y: tuple[float, float] | None = None,
    mark: tuple[float, float, str] | None = None,
    size: tuple[int, int] = (400, 270),
    digits: int = 2,
    most: int = 560,
) -> Markup:
    """Series as lines. `log`: "x", "y" or "xy" for logarithmic axes. `mark`: a point (x, y) with a word, as the best
    epoch. Values that are not finite leave a gap."""
    kept = [s for s in series if np.isfinite(np.asarray(s.y, np.float64)).any()]
    if not kept:
        raise VaekitError("lines: no series has a finite value; there is nothing to draw")
    clouds = []
    for s in kept:
        for values in (s.y, s.low, s.high):
            if values is not None:
                clouds.append(np.column_stack([np.asarray(s.x, np.float64), np.asarray(values, np.float64)]))
    cloud = np.concatenate(clouds)
    whole = all(float(v).is_integer() for v in cloud[:, 0])  # epochs
    frame = Frame.around(*size, cloud[np.isfinite(cloud).all(1)], axes=axes, log=log, x=x, y=y, whole=whole)
    body = [frame.grid()]
    for i, s in enumerate(kept):
        body += line_of(frame, s, i, colour_style(i), digits, named=len(kept) > 1)
    if mark is not None:
        at = frame.place(np.array([mark[:2]], np.float64))[0]
        body.append(dots(at[None], [mark[2]], "{}", "var(--ink)", 7.0, "mark"))
    key = legend_of([(i, s.name) for i, s in enumerate(kept)]) if len(kept) > 1 else Markup("")
    return chart(title, frame, body, key, most=most, by="x")


def bars(
    values: Any,
    *,
    title: str,
    names: Sequence[str] | None = None,
    tips: Sequence[str] | Sequence[Sequence[str]] | None = None,
    series: Sequence[str] | None = None,
    faint: Any = None,
    axes: tuple[str, str] = ("", ""),
    line: tuple[float, str] | None = None,
    errors: Any = None,
    size: tuple[int, int] | None = None,
    digits: int = 2,
    most: int = 900,
) -> Markup:
    """Bars of values [N], or of several `series` side by side [S, N].

    `names` [N] stand under the bars as far as there is room; `tips` [N] (or [S, N]) stand in for "name: value".
    `faint` [N], booleans: bars set back. `line`: a level (value, word) drawn across. `errors` like values: whiskers.
    """
    heights = np.atleast_2d(np.asarray(values, np.float64))
    S, N = heights.shape
    size = size or (int(np.clip(90 + 44 * S * N, 260, 640)), 260)
    if not N or not np.isfinite(heights).any():
        raise VaekitError("bars: no finite value came; there is nothing to draw")
    names = [str(i) for i in range(N)] if names is None else [str(name) for name in names]
    off = None if errors is None else np.atleast_2d(np.asarray(errors, np.float64))
    reach = heights if off is None else np.concatenate([heights - off, heights + off])
    levels = [0.0, *reach[np.isfinite(reach)].tolist(), *([line[0]] if line else [])]
    frame = Frame.around(
        *size, np.array([[-0.5, min(levels)], [N - 0.5, max(levels)]]), axes=axes, x=(-0.5, N - 0.5), names=names,
        base=0.0,
    )  # fmt: skip
    back = np.zeros(N, bool) if faint is None else np.asarray(faint, bool)
    width, body = 0.8 / S, [frame.grid()]
    for s in range(S):
        tops: list[str] = []
        said: list[str] = []
        boxes: dict[bool, list[str]] = {True: [], False: []}
        for i, height in enumerate(heights[s]):
            if not np.isfinite(height):
                continue
            left = i - 0.4 + s * width
            (x0, y0), (x1, y1) = frame.place(np.array([[left, 0.0], [left + width, height]]))
            w = max(x1 - x0 - (0.6 if x1 - x0 > 3 else 0.0), 0.5)
            boxes[bool(back[i])].append(f"M{x0:.1f} {y0:.1f}V{y1:.1f}h{w:.1f}V{y0:.1f}z")
            tops.append(f"M{x0 + w / 2:.1f} {y1:.1f}")
            own = tips if tips is None or isinstance(tips[0], str) else tips[s]
            shown = f"{names[i]}: {height:.{digits}f}".replace("-", "−")
            said.append(str(own[i]) if own else f"{series[s]} · {shown}" if series else shown)
            if off is not None:
                middle = left + width / 2
                ends = frame.place(np.array([[middle, height - off[s, i]], [middle, height + off[s, i]]]))
                whisker = f"M{ends[0, 0]:.1f} {ends[0, 1]:.1f}V{ends[1, 1]:.1f}"
                body.append(element("path", d=whisker, class_="whisker"))
        for faded, drawn in boxes.items():
            if drawn:
                style = f"fill:{colour_style(s)}" + (";opacity:.35" if faded else "")
                body.insert(1, element("path", d="".join(drawn), class_=f"bar k{s}", style=style))
        body.append(hot("".join(tops), said))
    if line is not None:
        body.append(frame.level(*line))
    key = legend_of(list(enumerate(series))) if series else Markup("")
    return chart(title, frame, body, key, most=min(most, int(1.4 * size[0])), by="x")


def histogram(
    values: Any,
    curve: tuple[Any, Any] | None = None,
    *,
    title: str,
    names: tuple[str, str] = ("", ""),
    axes: tuple[str, str] = ("", ""),
    x: tuple[float, float] | None = None,
    bins: int | None = None,
    size: tuple[int, int] = (320, 220),
    legend: bool = True,
    heading: str | None = None,
) -> Markup:
    """The density of values [N] in `bins` (by default as many as N allows), against a density `curve` (x, y); `names`
    of the two. Finite values count."""
    found = np.asarray(values, np.float64).ravel()
    found = found[np.isfinite(found)]
    if not len(found):
        raise VaekitError("histogram: no finite value came; there is nothing to draw")
    ends = [found.min(), found.max()]
    if curve is not None:
        ends = [min(ends[0], np.min(curve[0])), max(ends[1], np.max(curve[0]))]
    low, high = x or (float(ends[0]), float(ends[1]))
    if high <= low:
        low, high = low - 0.5, high + 0.5
    bins = bins or int(np.clip(2.5 * len(found) ** (1 / 3), 8, 40))
    counts, edges = np.histogram(found, bins, (low, high))
    density = counts / (len(found) * (edges[1] - edges[0]))
    top = max(density.max(), np.max(curve[1]) if curve is not None else 0.0) or 1.0
    frame = Frame.around(
        *size, np.array([[low, 0.0], [high, top]]), axes=axes, x=(low, high), base=0.0, levels=False
    )
    corners = np.column_stack([np.repeat(edges, 2), np.concatenate([[0.0], np.repeat(density, 2), [0.0]])])
    edge = outline(frame.place(corners))
    middles = frame.place(np.column_stack([(edges[1:] + edges[:-1]) / 2, density]))
    shares = 100 * counts / len(found)
    said = [
        f"{a:.2f} … {b:.2f}: {share:.1f} %".replace("-", "−")
        for a, b, share in zip(edges, edges[1:], shares, strict=False)
    ]
    body = [
        frame.grid(),
        element("path", d=edge, class_="bar k0", style=f"fill:{colour_style(0)};opacity:.55"),
    ]
    if curve is not None:
        px = frame.place(np.column_stack([np.asarray(c, np.float64) for c in curve]))
        body.append(element("path", d=outline(px), class_="line k1", style="stroke:var(--warm)"))
    body.append(hot("".join(f"M{a:.1f} {b:.1f}" for a, b in middles), said))
    key = (
        legend_of([(0, names[0]), *([("warm", names[1])] if curve is not None else [])])
        if legend
        else Markup("")
    )
    return chart(title, frame, body, key, most=int(1.3 * size[0]), by="x", heading=heading)


def legend(names: Sequence[str], curve: str | None = None) -> Markup:
    """The legend alone, for the charts of a section that share one; `curve`: the name of a histogram's curve."""
    return legend_of([*enumerate(names), *([("warm", curve)] if curve else [])])
