"""Axes of a chart: nice ticks, data to picture coordinates, the frame that carries them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vaekit.report.page import Markup, element

STRIP = 4  # how many times as far one way points may reach before their axes are scaled apart


@dataclass(frozen=True)
class Axis:
    """Data from `low` to `high`, linear or logarithmic."""

    low: float
    high: float
    log: bool = False
    whole: bool = False  # whether only whole numbers stand on it

    def fraction(self, values: np.ndarray) -> np.ndarray:
        """Where values stand, 0 at `low` and 1 at `high`."""
        if self.log:
            with np.errstate(divide="ignore", invalid="ignore"):
                return (np.log(values) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return (values - self.low) / (self.high - self.low)

    def ticks(self, most: int = 6) -> list[float]:
        """At most about `most` round numbers inside."""
        if self.log:
            return _log_ticks(self.low, self.high, most)
        span = self.high - self.low
        rough = span / most
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= rough * (1 - 1e-9))
        step = max(step, 1.0) if self.whole else step
        first, last = math.ceil(self.low / step - 1e-6), math.floor(self.high / step + 1e-6)
        return [round(i * step, 12) for i in range(first, last + 1)]

    def words(self, ticks: Sequence[float]) -> list[str]:
        """Ticks as short as tells them apart."""
        if not len(ticks):
            return []
        if self.log:
            shown = [f"{t:,.6g}" if 1e-4 <= t < 1e6 else f"{t:.0e}" for t in ticks]
            return [word.replace("-", "−") for word in shown]
        most = max(map(abs, ticks))
        step = min((b - a for a, b in itertools.pairwise(ticks)), default=most or 1.0)
        place = math.floor(math.log10(step) + 1e-9)  # of the last digit that tells them apart
        if most >= 1e6 or 0 < most < 1e-4:
            shown = [f"{t:.{max(0, math.floor(math.log10(most) + 1e-9) - place)}e}" for t in ticks]
        else:
            shown = [f"{t:,.{max(0, -place)}f}" for t in ticks]
        return [word.replace("-", "−") for word in shown]


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    decades = math.log10(high / low)
    whole = [
        10.0**e for e in range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
    ]
    if decades > most:
        return whole[:: math.ceil(len(whole) / most)]
    if len(whole) > 3:
        return whole
    finer = [
        10.0**e * m
        for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for m in (1, 2, 5)
    ]
    found = [t for t in finer if low * (1 - 1e-9) <= t <= high * (1 + 1e-9)]
    return found if len(found) > 1 else Axis(low, high).ticks(most)


@dataclass(frozen=True)
class Frame:
    """The box data are drawn in, in a picture of width x height; `box` is left, top, right, bottom."""

    x: Axis
    y: Axis
    width: int
    height: int
    box: tuple[float, float, float, float]
    labels: tuple[str, str] = ("", "")
    names: tuple[str, ...] | None = None
    bare: bool = False
    levels: bool = True

    @classmethod
    def around(
        cls,
        width: int,
        height: int,
        cloud: np.ndarray,
        *,
        axes: tuple[str, str] = ("", ""),
        equal: bool = False,
        log: str = "",
        x: tuple[float, float] | None = None,
        y: tuple[float, float] | None = None,
        names: Sequence[str] | None = None,
        base: float | None = None,
        bare: bool = False,
        levels: bool = True,
        whole: bool = False,
    ) -> Frame:
        """A frame around points [N, 2] or the ranges that are given; `base`: a level nothing stands below (or above);
        `whole`: the first axis counts."""
        left = 8.0 if bare else 46.0 + (16 if axes[1] else 0)
        bottom = height - (8.0 if bare else 24.0 + (18 if axes[0] else 0))
        box = (left if levels or bare else 10.0, 8.0, width - 10.0, bottom)
        ranges = []
        for i, given in enumerate((x, y)):
            low, high = given or (float(cloud[:, i].min()), float(cloud[:, i].max()))
            ranges.append(_roomy(low, high, "xy"[i] in log, given is not None, base if i else None))
        if equal and not log:
            ranges = _equal(ranges, (box[2] - box[0], box[3] - box[1]))
        made = [Axis(low, high, "xy"[i] in log, whole and not i) for i, (low, high) in enumerate(ranges)]
        named = None if names is None else tuple(names)
        return cls(made[0], made[1], width, height, box, axes, named, bare, levels)

    def place(self, data: np.ndarray) -> np.ndarray:
        """Data [N, 2] -> coordinates in the picture [N, 2]."""
        left, top, right, bottom = self.box
        u, v = self.x.fraction(data[:, 0]), self.y.fraction(data[:, 1])
        return np.column_stack([left + u * (right - left), bottom - v * (bottom - top)])

    def inside(self, at: np.ndarray) -> bool:
        left, top, right, bottom = self.box
        return bool(left - 1 <= at[0] <= right + 1 and top - 1 <= at[1] <= bottom + 1)

    def clipped(self, *drawn: Markup) -> Markup:
        """What is drawn, cut off at the box: an inner picture with the same coordinates."""
        left, top, right, bottom = self.box
        width, height = right - left, bottom - top
        return element(
            "svg", *drawn, x=left, y=top, width=width, height=height, viewBox=f"{left} {top} {width} {height}"
        )

    def grid(self) -> Markup:
        """Axes, ticks, grid lines and labels; a bare frame is its box."""
        left, top, right, bottom = self.box
        if self.bare:
            return element("path", d=f"M{left} {top}V{bottom}H{right}V{top}z", class_="axis")
        drawn = []
        if self.levels:
            ticks = self.y.ticks(max(2, round((bottom - top) / 45)))
            heights = [float(self.place(np.array([[self.x.high, t]]))[0, 1]) for t in ticks]
            lines = "".join(f"M{left:.1f} {h:.1f}H{right:.1f}" for h in heights)
            drawn.append(element("path", d=lines, class_="grid"))
            for h, word in zip(heights, self.y.words(ticks), strict=True):
                drawn.append(self.text(left - 6, h, word, text_anchor="end", dy=".35em"))
        for place, word in self._bottom_ticks():
            drawn.append(element("path", d=f"M{place:.1f} {bottom:.1f}v4", class_="axis"))
            drawn.append(self.text(place, bottom + 16, word, text_anchor="middle"))
        drawn.append(element("path", d=f"M{left:.1f} {bottom:.1f}H{right:.1f}", class_="axis"))
        named = {"text_anchor": "middle", "class_": "name"}
        if self.labels[0]:
            drawn.append(self.text((left + right) / 2, self.height - 6, self.labels[0], **named))
        if self.labels[1]:
            middle = (top + bottom) / 2
            drawn.append(
                self.text(12, middle, self.labels[1], transform=f"rotate(-90 12 {middle:.1f})", **named)
            )
        return Markup("".join(drawn))

    def _bottom_ticks(self) -> list[tuple[float, str]]:
        left, _, right, _ = self.box
        if self.names is None:
            ticks = self.x.ticks(max(2, round((right - left) / 70)))
            at = [float(self.place(np.array([[t, self.y.high]]))[0, 0]) for t in ticks]
            return list(zip(at, self.x.words(ticks), strict=True))
        room = (right - left) / max(len(self.names), 1)
        longest = max((len(name) for name in self.names), default=1)
        every = max(1, math.ceil((8.0 * min(longest, 14) + 6) / room))
        every = next((e for e in (1, 2, 5, 10, 20, 25, 50, 100, 200, 500) if e >= every), every)
        chosen = range(0, len(self.names), every)
        at = self.place(np.array([[i, self.y.high] for i in chosen], float))[:, 0].tolist()
        shown = [name if len(name) <= 14 else name[:13] + "…" for name in (self.names[i] for i in chosen)]
        return list(zip(at, shown, strict=True))

    def level(self, value: float, word: str) -> Markup:
        """A dashed line across at a height, with a word on it."""
        left, _, right, _ = self.box
        (_, h), = self.place(np.array([[self.x.low, value]]))  # fmt: skip
        line = element("path", d=f"M{left:.1f} {h:.1f}H{right:.1f}", class_="level")
        return Markup(line + self.text(right, h - 5, word, text_anchor="end", style="fill:var(--warm)"))

    def text(self, x: float, y: float, words: str, **attributes: Any) -> Markup:
        return element("text", words, x=f"{x:.1f}", y=f"{y:.1f}", **attributes)


def _roomy(low: float, high: float, log: bool, given: bool, base: float | None) -> tuple[float, float]:
    """A range with a little room at its ends, never of no width."""
    if log:
        low, high = max(low, 1e-300), max(high, 1e-300)
        pad = 1.0 if given else max((high / low) ** 0.04, 1.02)
        return (low / 1.5, high * 1.5) if high / low < 1.0001 else (low / pad, high * pad)
    if high - low < 1e-12 * max(abs(low), abs(high), 1e-9):
        wide = max(abs(low) * 0.1, 0.5)
        low, high = (low, high + wide) if base is not None else (low - wide, high + wide)
    if given:
        return low, high
    pad = 0.05 * (high - low)
    below, above = base is None or low < base, base is None or high > base
    return low - pad * below, high + pad * above


def _equal(ranges: list[tuple[float, float]], room: tuple[float, float]) -> list[tuple[float, float]]:
    """Both ranges at one scale, the narrower one widened; as they are where one is STRIP times the other."""
    spans = [high - low for low, high in ranges]
    if max(spans) > STRIP * min(spans):
        return ranges
    scale = max(span / side for span, side in zip(spans, room, strict=True))
    centres = [(low + high) / 2 for low, high in ranges]
    return [(c - scale * side / 2, c + scale * side / 2) for c, side in zip(centres, room, strict=True)]
