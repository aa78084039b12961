"""Where runs differ in numbers: what an example costs and how well it comes back, paired; holes; smoothness."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vaekit.report import charts, page, sides
from vaekit.report.numbers import bits, percent
from vaekit.report.page import Markup, number
from vaekit.report.pairs import Pair, Standing
from vaekit.report.readings import Judged
from vaekit.report.words import Words

WIDTH = 704  # pixels of a chart, and of the longest bar
SIZE = (460, 230)  # of a chart before it is scaled: small enough to be read on a phone


def bound(runs: Sequence[Judged], found: Standing | None, words: Words) -> list[Markup]:
    """What an example costs, cut into its two terms, and the differences."""
    blocks = [page.text(words("compare.bound.see")), *_costs(runs, words)]
    if found is not None:
        blocks += _pairs(found, words, "bound", 2)
    points = [run.name for run in runs if run.elbo is None]
    crossed = [run.name for run in runs if run.elbo is not None and run.law not in ("density", "probability")]
    if points:
        blocks.append(page.note(words("compare.bound.none", names=_listed(points))))
    if crossed:
        blocks.append(page.note(words("compare.bound.cross_entropy", names=_listed(crossed)), "warn"))
    if len({bits(run) for run in runs if run.elbo is not None}) > 1:
        blocks.append(page.note(words("compare.bound.apart"), "warn"))
    return blocks


def _costs(runs: Sequence[Judged], words: Words) -> list[Markup]:
    """A bar a run, as long as its cost; none where densities make that negative."""
    known = [
        (run, run.evaluation["distortion"], run.evaluation["rate"]) for run in runs if run.elbo is not None
    ]
    if any(distortion < 0 for _, distortion, _ in known):
        return []
    most, blocks = max((distortion + rate for _, distortion, rate in known), default=1.0), []
    for run, distortion, rate in known:
        first = words("loss.reconstruction" if run.latent else "compare.bound.whole")
        parts = [(first, distortion, number(distortion, 1))]
        if run.latent:
            parts.append((words("loss.kl"), rate, number(rate, 1)))
        bar = page.element("div", page.stack(parts), style=f"width:{100 * (distortion + rate) / most:.1f}%")
        title = f"{run.name}: {number(distortion + rate, 1)} {words('unit.nats')}"
        blocks.append(page.figure(bar, title=title, most=WIDTH))
    return blocks


def error(runs: Sequence[Judged], found: Standing | None, words: Words, seed: int) -> list[Markup]:
    """The same rows from every run, and the differences in squared error."""
    shown = sides.reconstructions(runs, words, seed)
    if not shown:
        return []
    blocks = [page.text(words("compare.error.see")), *shown]
    if found is not None:
        blocks += _pairs(found, words, "error", 5)
    if len({run.evaluation["data_hash"] for run in runs if run.squared_error is not None}) > 1:
        blocks.append(page.note(words("compare.error.apart"), "warn"))
    return blocks


def _pairs(found: Standing, words: Words, what: str, digits: int) -> list[Markup]:
    """Every run against the best, row by row: a chart with whiskers where there are several, and a table."""
    names, pairs = list(found.others), list(found.others.values())
    best, axis = found.best.name, words(f"compare.{what}.axis")  # "compare.bound.axis", "compare.error.axis"
    title = words(f"compare.{what}.pairs", best=best)  # "compare.bound.pairs", "compare.error.pairs"
    blocks: list[Markup] = []
    if len(pairs) > 1:
        tips = [f"{name}: {_interval(pair, digits)}" for name, pair in found.others.items()]
        chart = charts.bars(
            [pair.mean for pair in pairs], title=title, names=names, errors=[pair.half for pair in pairs], tips=tips,
            axes=("", axis), size=SIZE, most=WIDTH,
        )  # fmt: skip
        blocks.append(page.figure(chart))
    head = [
        words("compare.pairs.run"),
        axis,
        words("compare.pairs.interval"),
        words("compare.pairs.below", best=best),
    ]
    rows = []
    for name, pair in found.others.items():
        interval = _interval(pair, digits) + ("" if pair.sure else f" ({words('compare.pairs.unsure')})")
        rows.append([_unbroken(name), number(pair.mean, digits), interval, percent(1 - pair.below)])
    told = words("compare.pairs.see", n=f"{pairs[0].n:,}", best=best)
    return [page.heading(title), *blocks, page.table(head, rows), page.text(told, "lead")]


def _interval(pair: Pair, digits: int) -> str:
    return f"{number(pair.mean - pair.half, digits)} … {number(pair.mean + pair.half, digits)}"


def holes(runs: Sequence[Judged], words: Words) -> list[Markup]:
    """How far codes reach, the holes of the prior, of the cloud's own Gaussian, and of equal clouds; with dimensions."""
    known = [run for run in runs if run.latent]
    if not known:
        return []
    kinds = ("prior", "gaussian", "alike")
    names = [
        words(f"compare.holes.{kind}") for kind in kinds
    ]  # "compare.holes.prior", "compare.holes.gaussian" ...
    shares = [[_percent_of_holes(run, kind) for run in known] for kind in kinds]
    chart = charts.bars(
        np.array(shares), title=words("compare.holes.heading"), names=[run.name for run in known], series=names,
        axes=("", words("compare.holes.axis")), size=SIZE, most=WIDTH, digits=1,
    )  # fmt: skip
    titles = ("compare.pairs.run", "compare.holes.reach", "compare.table.width", "compare.table.outside")
    rows = []
    for run in known:
        cloud = run.latents["cloud"]
        ends = f"{number(min(cloud['least']), 1)} … {number(max(cloud['greatest']), 1)}"
        width = np.sqrt(np.square(cloud["standard_deviation"]).mean())
        rows.append([_unbroken(run.name), ends, number(float(width)), percent(cloud["outside"])])
    return [
        page.text(words("compare.holes.see")), page.figure(chart, caption=words("compare.holes.caption")),
        page.table([words(title) for title in titles], rows), *_growth(known, words),
    ]  # fmt: skip


def _growth(runs: Sequence[Judged], words: Words) -> list[Markup]:
    """Holes against the number of dimensions, where there are several."""
    series = []
    for name, has_density in (
        (words("compare.holes.stochastic"), True),
        (words("compare.holes.plain"), False),
    ):
        chosen = sorted((run for run in runs if run.has_density is has_density), key=lambda run: run.latent)
        if len({run.latent for run in chosen}) > 1:
            holes = [_percent_of_holes(run, "prior") for run in chosen]
            tips = [f"{run.name}: {number(hole, 1)} %" for run, hole in zip(chosen, holes, strict=True)]
            series.append(charts.Series(name, [run.latent for run in chosen], holes, tips=tips, marks=True))
    if not series:
        return []
    alike = {run.latent: _percent_of_holes(run, "alike") for run in runs}
    known = sorted(alike)
    series.append(
        charts.Series(words("compare.holes.alike"), known, [alike[d] for d in known], marks=True, dashed=True)
    )
    title, axes = words("compare.holes.growth"), (words("compare.table.latent"), words("compare.holes.axis"))
    return [page.figure(charts.lines(series, title=title, axes=axes, log="x"), title=title)]


def _percent_of_holes(run: Judged, kind: str) -> float:
    return 100 * float(run.latents["holes"][kind]["holes"])


def smooth(runs: Sequence[Judged], words: Words, seed: int) -> list[Markup]:
    """How far items move with their codes."""
    known = [run for run in runs if run.latents["smoothness"]]
    if not known:
        return []
    chart = charts.bars(
        [run.latents["smoothness"]["relative"] for run in known], title=words("compare.smooth.heading"),
        names=[run.name for run in known], axes=("", words("compare.smooth.axis")), size=SIZE, most=WIDTH, digits=4,
    )  # fmt: skip
    return [page.text(words("compare.smooth.see")), page.figure(chart), *sides.near(runs, words, seed)]


def _unbroken(name: str) -> Markup:
    return page.element("span", name, style="white-space:nowrap")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
