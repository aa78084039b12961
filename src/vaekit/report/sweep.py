"""One recipe along the values of one setting: what a nat of rate buys, as a page, a picture and a table."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vaekit import pictures
from vaekit._version import __version__
from vaekit.data import in_turn
from vaekit.files import write_text
from vaekit.measures import Moments, active_units, double
from vaekit.report import charts, page
from vaekit.report.words import Words
from vaekit.run.inputs import subset

if TYPE_CHECKING:
    from vaekit.data import Split
    from vaekit.run import Run

ROWS = 10_000  # that a run is judged on
SHOWN = 10  # pictures a line
COLUMNS = ("value", "rate", "squared_error", "distortion", "elbo", "active_units", "latent")


@dataclass(frozen=True)
class Point:
    """A run of the sweep: `rate`, `distortion` and `elbo` in nats a row, None where there is no such number;
    `squared_error` per element as `metrics.decoded.gap` has it, of the centre of p(x given a code drawn from the
    posterior)."""

    value: str
    rate: float | None
    squared_error: float | None
    distortion: float
    elbo: float | None
    active_units: int
    latent: int


def sweep(
    runs: Mapping[str, Run],
    over: str,
    folder: Path,
    *,
    lang: str = "en",
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """Judge runs by the value they were made with; write sweep.csv, sweep.png and sweep.html (with `lang` "ko",
    sweep.ko.html) into `folder`, and return the page's path. `say` hears of each run. Raises VaekitError where a run's
    data have gone."""
    words, points = Words(lang), []
    for value, run in runs.items():
        points.append(measured(value, run))
        say(f"{over}={value}: {_said(points[-1])}")
    same = _same_law(list(runs.values()))
    write_text(folder / "sweep.csv", _table(points, same))
    lines = _lines(runs)
    pictures.save(_picture(points, lines, over), folder / "sweep.png")
    target = folder / ("sweep.html" if lang == "en" else f"sweep.{lang}.html")
    return _page(runs, points, same, lines, over, words).save(target)


def measured(value: str, run: Run) -> Point:
    """One pass over at most `ROWS` held-out rows, one draw of the code each, the same draws for every run."""
    from vaekit.metrics.decoded import gap

    rate = distortion = squared = torch.zeros((), dtype=torch.float64)
    means, rows, latent = Moments(), _judged(run), run.model.latent
    has_rate = bool(getattr(run.model.posterior, "has_density", True))
    with run.looking(0):
        for x, c in run.batches(rows):
            trace = run.model(x, c)
            distortion = distortion + double(trace.distortion).sum()
            squared = squared + gap(x, trace.p_x.centre[0], run.contract).sum()
            if trace.rate is not None:
                rate = rate + double(trace.rate).sum()
            means.add(trace.q.mean)
    n = len(rows)
    return Point(
        value=value,
        rate=float(rate) / n if has_rate else None,
        squared_error=float(squared) / n if latent else None,
        distortion=float(distortion) / n,
        elbo=-float(rate + distortion) / n if has_rate else None,
        active_units=int(active_units(means.variance).sum()),
        latent=latent,
    )


def _judged(run: Run) -> Split:
    """Held-out rows if there are any, at most `ROWS`, the same for runs on the same data."""
    splits = run.data().splits
    name = next(name for name in ("test", "valid", "train", "all") if name in splits)
    rows = run.rows(None, name)
    if len(rows) <= ROWS:
        return rows
    return subset(rows, np.sort(np.random.default_rng(0).permutation(len(rows))[:ROWS]))


def _same_law(runs: Sequence[Run]) -> bool:
    """Whether all runs measure distortion in the same nats: one likelihood, with the same settings, of the
    same kind of data."""
    laws = [(run.contract.kind, run.recipe.likelihood.kind, run.recipe.likelihood.arguments) for run in runs]
    return all(law == laws[0] for law in laws)


def _said(point: Point) -> str:
    rate = "no rate" if point.rate is None else f"rate {point.rate:.2f} nats"
    return rate if point.squared_error is None else f"{rate}, squared error {point.squared_error:.5f}"


def _table(points: Sequence[Point], same: bool) -> str:
    """sweep.csv. Distortion and ELBO are left empty where the likelihood changes along the sweep."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for point in points:
        hidden = () if same else ("distortion", "elbo")
        writer.writerow(["" if name in hidden else getattr(point, name) for name in COLUMNS])
    return text.getvalue()


@dataclass(frozen=True)
class Lines:
    """Images in [0, 1] for the pictures: rows, and by value their reconstructions and samples; none for vectors."""

    originals: np.ndarray | None
    reconstructions: Mapping[str, np.ndarray]
    samples: Mapping[str, np.ndarray]


@torch.no_grad()
def _lines(runs: Mapping[str, Run]) -> Lines:
    """The same rows and the same draws for every run. A model without a latent reconstructs nothing."""
    first = next(iter(runs.values()))
    if not first.contract.is_image:
        return Lines(None, {}, {})
    originals, again, drawn = None, {}, {}
    for value, run in runs.items():
        with run.looking(0):
            rows = _judged(run)
            x, c = next(run.batches(subset(rows, in_turn(rows, SHOWN, 0))))
            shown = run.contract.picture
            originals = shown(x) if originals is None else originals
            if run.model.latent:
                again[value] = shown(run.model.reconstruct(x, c))
            drawn[value] = shown(run.model.sample(SHOWN, run.conditions(SHOWN, turns=True)))
    return Lines(originals, again, drawn)


def _curve(points: Sequence[Point], what: str) -> tuple[list[Point], np.ndarray]:
    """The points that have a rate and `what`, in the order of their rate, and both numbers [N, 2]."""
    known = [p for p in points if p.rate is not None and getattr(p, what) is not None]
    known = [p for p in known if math.isfinite(p.rate or 0.0) and math.isfinite(getattr(p, what))]
    known.sort(key=lambda p: p.rate or 0.0)
    return known, np.array([[p.rate, getattr(p, what)] for p in known], np.float64).reshape(-1, 2)


def _picture(points: Sequence[Point], lines: Lines, over: str) -> Any:
    """sweep.png: the curve, and under it a line of reconstructions and one of samples for each value."""
    known, places = _curve(points, "squared_error")
    shown = []
    if known:
        axes = ("rate, nats", "mean squared error per element")
        shown.append(pictures.trail(places, [p.value for p in known], axes, over))
    if lines.originals is not None:
        again = {"original": lines.originals, **lines.reconstructions}
        drawn = {f"samples, {value}": x for value, x in lines.samples.items()}
        shown.append(pictures.strip([*again.values(), *drawn.values()], [*again, *drawn]))
    return pictures.stacked(shown)


def _page(
    runs: Mapping[str, Run], points: Sequence[Point], same: bool, lines: Lines, over: str, words: Words
) -> page.Page:  # fmt: skip
    first = next(iter(runs.values()))
    judged = _judged(first)
    made = page.Page(
        words("sweep.title", over=over, first=points[0].value, last=points[-1].value),
        lang=words.lang,
        lead=words(
            "sweep.lead", n=len(points), recipe=first.recipe.name.partition("/")[0], over=over,
            rows=page.number(len(judged)), split=judged.name, data=first.contract.source,
        ),
        foot=words("sweep.foot", version=__version__),
    )  # fmt: skip
    made.section("curve", words("sweep.curve.heading"), *_charts(points, same, over, words))
    made.section(
        "numbers",
        words("sweep.numbers.heading"),
        _numbers(points, same, over, words),
        page.text(words("sweep.numbers.caption")),
    )
    if lines.originals is None:
        return made
    again = {words("sweep.reconstructions.original"): lines.originals, **lines.reconstructions}
    kinds = [
        ("samples", words("sweep.samples.heading"), words("sweep.samples.caption"), lines.samples),
    ]
    if lines.reconstructions:
        heading, caption = words("sweep.reconstructions.heading"), words("sweep.reconstructions.caption")
        kinds.insert(0, ("reconstructions", heading, caption, again))
    for id, heading, caption, shown in kinds:
        tiles = [
            (value, page.picture(pictures.grid(x, len(x)), f"{heading}, {value}"))
            for value, x in shown.items()
        ]
        made.section(id, heading, page.rows(tiles), page.text(caption))
    return made


def _charts(points: Sequence[Point], same: bool, over: str, words: Words) -> list[page.Markup]:
    blocks = []
    title, caption = words("sweep.curve.title"), words("sweep.curve.caption")
    shown = [("squared_error", 5, title, words("sweep.axes.error"), caption)]
    if same:
        shown.append(
            ("distortion", 2, words("sweep.nats.title"), words("sweep.axes.nats"), _best(points, words))
        )
    for what, digits, title, axis, caption in shown:
        known, places = _curve(points, what)
        if not known:
            continue
        rate = words("sweep.axes.rate")
        tips = [
            f"{over}={p.value} · {rate} {page.number(p.rate)} · {axis} {page.number(getattr(p, what), digits)}"
            for p in known
        ]
        series = charts.Series(
            over, places[:, 0], places[:, 1], tips=tips, marks=True, names=[p.value for p in known]
        )
        drawn = charts.lines([series], title=title, axes=(rate, axis))
        blocks.append(page.figure(drawn, title=title, caption=caption))
    without = [p.value for p in points if p.rate is None]
    notes = [] if same else [page.note(words("sweep.nats.none"))]
    notes += [page.note(words("sweep.curve.no_rate", values=", ".join(without)))] if without else []
    return [page.beside(*blocks, least="20rem"), *notes]


def _best(points: Sequence[Point], words: Words) -> str:
    bounds = {p.value: p.elbo for p in points if p.elbo is not None}
    if not bounds:
        return ""
    best = max(bounds, key=lambda value: bounds[value])
    return words("sweep.nats.caption", value=best, elbo=page.number(bounds[best]))


def _numbers(points: Sequence[Point], same: bool, over: str, words: Words) -> page.Markup:
    nats = [words("sweep.axes.nats"), words("sweep.numbers.elbo")] if same else []
    head = [over, words("sweep.axes.rate"), words("sweep.axes.error"), *nats, words("sweep.numbers.active")]
    rows = [
        [
            p.value, page.number(p.rate), page.number(p.squared_error, 5),
            *([page.number(p.distortion), page.number(p.elbo)] if same else []), f"{p.active_units} / {p.latent}",
        ]
        for p in points
    ]  # fmt: skip
    return page.table(head, rows)
