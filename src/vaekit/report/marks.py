"""The pieces of charts: dots, lines, bars' hot points, legends, and the figure that holds them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vaekit.report.axes import Frame
from vaekit.report.colours import COLOURS, VALUES, colour_style
from vaekit.report.page import Markup, element, inline


@dataclass(frozen=True)
class Series:
    """One line: x and y [N], and where there is one a band from `low` to `high` [N]. `tips` [N] stand in for the
    numbers when it is pointed at; `marks` draws its points too, `names` [N] writes beside them, `dashed` its line so."""

    name: str
    x: Any
    y: Any
    low: Any = None
    high: Any = None
    tips: Sequence[str] | None = None
    marks: bool = False
    names: Sequence[str] | None = None
    dashed: bool = False


def chart(
    title: str,
    frame: Frame,
    body: Sequence[Markup],
    key: Markup,
    *,
    most: int,
    by: str,
    heading: str | None = None,
    thumbs: bool = False,
) -> Markup:
    """A figure: heading, legend, picture. `by`: what the nearest point is measured along, "x" or "both"."""
    drawn = element(  # named by its label: a <title> inside would pop up over the page's own tip
        "svg",
        *body,
        viewBox=f"0 0 {frame.width} {frame.height}",
        role="img",
        aria_label=title,
        tabindex=0,
        data_by=by,
        data_thumbs=thumbs,
    )
    top = [element("b", inline(heading))] if heading else []
    return element("figure", *top, key, drawn, class_="chart", style=f"--most:{most}px")


def dots(
    px: np.ndarray, rows: Sequence[Any] | np.ndarray, tip: str, colour: str, size: float, key: int | str
) -> Markup:
    drawn = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in px)
    square = " square" if isinstance(key, int) and key >= COLOURS else ""
    return element(
        "path", d=drawn, class_=f"dots k{key}{square}", style=f"stroke:{colour};stroke-width:{size:.1f}", data_tip=tip,
        data_each="|".join(map(_cell, rows)) if "{}" in tip else None,
    )  # fmt: skip


def ring(frame: Frame, line: Any, word: str) -> Markup:
    """A closed line, cut off at the frame, its word where it is highest."""
    px = frame.place(np.asarray(line, np.float64))
    top = px[px[:, 1].argmin()]
    drawn = frame.clipped(element("path", d=outline(px) + "z", class_="ring"))
    named = (
        frame.text(top[0], top[1] - 4, word, text_anchor="middle", class_="ring-name")
        if frame.inside(top)
        else ""
    )
    return Markup(drawn + named)


def centres(frame: Frame, kinds: Sequence[tuple[np.ndarray, str]]) -> list[Markup]:
    """The name of each kind in the middle of its points [N, 2], where it covers no other name."""
    taken: list[tuple[float, float, float]] = []
    drawn = []
    for i, (px, name) in enumerate(kinds):
        (x, y), wide = np.median(px, axis=0).tolist(), 4.5 * len(short(name, 14)) + 1
        if all(abs(x - a) > wide + b or abs(y - c) > 13 for a, b, c in taken) or len(name) < 3:
            taken.append((x, wide, y))
            style = f"fill:{colour_style(i)}"
            drawn.append(frame.text(x, y, short(name, 14), class_=f"centre k{i}", dy=".35em", style=style))
    return drawn


def hot(places: str, tips: Sequence[str]) -> Markup:
    return element("path", d=places, class_="hot", data_tip="{}", data_each="|".join(map(_cell, tips)))


def _cell(value: Any) -> str:
    return str(value).replace("|", "¦")


def by_value(
    px: np.ndarray, rows: np.ndarray, value: np.ndarray, tip: str, name: str, size: float
) -> tuple[list[Markup], list[np.ndarray]]:
    """A path a shade, which costs fewer bytes than a colour a point; and which points each of them draws."""
    known = np.isfinite(value)
    shade = np.full(len(value), -1)
    if known.any():
        low, span = value[known].min(), float(np.ptp(value[known])) or 1.0
        shade[known] = np.minimum(((value[known] - low) / span * VALUES).astype(int), VALUES - 1)
    drawn, order = [], []
    for s in np.unique(shade):
        chosen = np.flatnonzero(shade == s)
        said = [
            f"{name} {v:.4g} · {tip.replace('{}', str(r))}".strip()
            for v, r in zip(value[chosen], rows[chosen], strict=True)
        ]
        colour = f"var(--v{s})" if s >= 0 else "var(--faint)"
        drawn.append(dots(px[chosen], said, "{}", colour, size, f"v{s}"))
        order.append(chosen)
    return drawn, order


def line_of(frame: Frame, s: Series, i: int, colour: str, digits: int, named: bool) -> list[Markup]:
    x, y = np.asarray(s.x, np.float64), np.asarray(s.y, np.float64)
    drawn = []
    if s.low is not None and s.high is not None:
        low, high = np.column_stack([x, s.low]), np.column_stack([x, s.high])
        edge = outline(frame.place(np.concatenate([high, low[::-1]]))) + "z"
        drawn.append(frame.clipped(element("path", d=edge, class_=f"band k{i}", style=f"fill:{colour}")))
    finite = np.isfinite(y) & np.isfinite(x)
    px = frame.place(np.column_stack([x, y]))
    # a run of finite points is a piece of the line; points outside the frame are clipped with it
    pieces = [px[list(part)] for good, part in itertools.groupby(range(len(x)), lambda n: finite[n]) if good]
    style = f"stroke:{colour}" + (";stroke-dasharray:5 5" if s.dashed else "")
    drawn.append(
        frame.clipped(element("path", d="".join(map(outline, pieces)), class_=f"line k{i}", style=style))
    )
    shown = [n for n in np.flatnonzero(finite).tolist() if frame.inside(px[n])]
    said = f"{s.name} · " if named and s.name else ""
    told = [f"{a:.6g}: {b:.{digits}f}".replace("-", "−") for a, b in zip(x, y, strict=True)]
    tips = s.tips or [said + one for one in told]
    if s.names is not None:
        for n in shown:
            last = px[n, 0] > 0.8 * frame.width  # its name goes to the left, where there is room
            anchor, dx = ("end", 4) if last else ("start", 8)
            name = short(s.names[n], 14)
            drawn.append(
                frame.text(px[n, 0], px[n, 1], name, text_anchor=anchor, dx=dx, dy=-8, class_="name")
            )
    if s.marks or finite.sum() == 1:
        drawn.append(dots(px[shown], [tips[n] for n in shown], "{}", colour, 6.0, i))
    else:
        drawn.append(hot("".join(f"M{px[n, 0]:.1f} {px[n, 1]:.1f}" for n in shown), [tips[n] for n in shown]))
    return drawn


def outline(px: np.ndarray) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in px)


def legend_of(entries: Sequence[tuple[int | str, str]]) -> Markup:
    items = []
    for key, name in entries:
        square = isinstance(key, int) and key >= COLOURS
        shape = (
            element("rect", x=1, y=1, width=10, height=10) if square else element("circle", cx=6, cy=6, r=5)
        )
        colour, lit = ("var(--warm)", 1) if key == "warm" else (colour_style(int(key)), key)
        dot = element("svg", shape, viewBox="0 0 12 12", style=f"fill:{colour}", aria_hidden="true")
        items.append(element("li", dot, short(name, 28), data_key=lit, tabindex=0))
    return element("ul", *items, class_="legend")


def colour_bar(low: float, high: float, name: str) -> Markup:
    shades = ",".join(f"var(--v{i})" for i in range(VALUES))
    bar = element("i", style=f"background:linear-gradient(90deg,{shades})")
    ends = [f"{end:.4g}".replace("-", "−") for end in (low, high)]
    return element(
        "div", *([element("span", name)] if name else []), ends[0], bar, ends[1], class_="bar-of-colours"
    )


def short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
