"""The table of a comparison: a column a run, a row a number, the best of each marked."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from vaekit.report import page
from vaekit.report.page import Markup, element, inline, number
from vaekit.report.readings import Judged
from vaekit.report.told import spent
from vaekit.report.words import Words


@dataclass(frozen=True)
class Line:
    """A number of every run, None where it has none. `better`: -1 where lower is better, 1 where higher is, 0 where
    neither; `alike`: what runs must share for their numbers to be held against each other."""

    name: str
    values: Sequence[float | None]
    shown: Callable[[float], str]
    better: int = 0
    alike: Sequence[object] = ()

    def best(self) -> set[int]:
        """The columns to mark: the best of two numbers or more, that compare and are not all told alike."""
        known = {
            i: value for i, value in enumerate(self.values) if value is not None and math.isfinite(value)
        }
        if not self.better or len(known) < 2 or (self.alike and len({self.alike[i] for i in known}) > 1):
            return set()
        told = {i: self.shown(value) for i, value in known.items()}
        top = told[max(known, key=lambda i: self.better * known[i])]
        return {i for i, one in told.items() if one == top} if len(set(told.values())) > 1 else set()


def numbers(runs: Sequence[Judged], words: Words) -> list[Markup]:
    """The table, and folded away what each number is."""
    how = page.details(words("compare.numbers.how"), page.text(_how(runs, words)))
    return [page.text(words("compare.numbers.see")), table(runs, words), how]


def table(runs: Sequence[Judged], words: Words) -> Markup:
    """Everything, in groups. A row where no run has a number is left out."""
    groups: list[tuple[str, Iterable[Line | tuple[str, list[str]]]]] = [
        (words("compare.table.model"), _model(runs, words)),
        (words("compare.table.bound"), _bound(runs, words)),
        (words("compare.table.rows"), _rows(runs, words)),
        (words("compare.table.codes"), _codes(runs, words)),
        (words("compare.table.items"), _items(runs, words)),
        (words("compare.table.smooth"), _smooth(runs, words)),
    ]
    body = []
    for name, lines in groups:
        shown = [row for line in lines if (row := _row(line)) is not None]
        if shown:
            head = element("th", name, colspan=len(runs) + 1, scope="colgroup", class_="group")
            body += [element("tr", head), *shown]
    top = [element("th"), *[element("th", run.name, scope="col", class_="n") for run in runs]]
    whole = element(
        "table", element("thead", element("tr", *top)), element("tbody", *body), class_="compared"
    )
    return element("div", whole, class_="scroll")


def _row(line: Line | tuple[str, list[str]]) -> Markup | None:
    if isinstance(line, tuple):
        cells = [inline(cell) for cell in line[1]]
        name = line[0]
    else:
        if all(value is None for value in line.values):
            return None
        name, best = line.name, line.best()
        cells = [
            element("strong", shown) if i in best else shown
            for i, shown in enumerate(
                page.escape(number(v) if v is None else line.shown(v)) for v in line.values
            )
        ]
    return element(
        "tr", element("th", inline(name), scope="row"), *[element("td", cell, class_="n") for cell in cells]
    )


def _fixed(digits: int) -> Callable[[float], str]:
    return lambda value: number(float(value), digits)


def percent(value: float) -> str:
    """A share."""
    return f"{number(100 * value, 1)} %"


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _of(runs: Sequence[Judged], *path: str) -> list[Any]:
    """A latent reading of every run, by the names on the way to it; None where a run has none."""
    found: list[Any] = []
    for run in runs:
        value: Any = run.latents
        for name in path:
            value = None if value is None else value.get(name)
        found.append(value)
    return found


def _model(runs: Sequence[Judged], words: Words) -> Iterable[Line | tuple[str, list[str]]]:
    facts = [run.run.info() for run in runs]
    for name in ("prior", "posterior", "likelihood", "objective"):
        kinds = [f"`{fact[name].partition(' ')[0].removesuffix(name.capitalize())}`" for fact in facts]
        if len(set(kinds)) > 1:
            codeless = name in (
                "prior",
                "posterior",
            )  # laws of codes, which a run without a latent has none of
            shown = [
                kind if run.latent or not codeless else "–" for run, kind in zip(runs, kinds, strict=True)
            ]
            yield words(f"compare.table.{name}"), shown
    yield Line(words("compare.table.latent"), [run.latent for run in runs], _whole)
    yield Line(words("compare.table.parameters"), [fact["parameters"] for fact in facts], _whole)
    yield Line(words("compare.table.epochs"), [fact.get("epochs") for fact in facts], _whole)
    yield Line(words("compare.table.time"), [seconds(run) for run in runs], lambda value: spent(value, words))


def seconds(run: Judged) -> float | None:
    """How long it trained."""
    lines = run.run.metrics() if run.run.folder is not None else []
    spent_by_epoch = [(line.get("time") or {}).get("seconds") or 0.0 for line in lines]
    return sum(spent_by_epoch) if lines else None


def bits(run: Judged) -> object:
    """What runs share whose nats compare: the rows as they are judged, and the kind of law."""
    return run.evaluation["data_hash"], run.law


def _bound(runs: Sequence[Judged], words: Words) -> Iterable[Line]:
    kinds = [bits(run) for run in runs]
    k = runs[0].k
    read = [run.evaluation for run in runs]
    yield Line(words("compare.table.elbo"), [one["elbo"] for one in read], _fixed(2), 1, kinds)
    yield Line(words("compare.table.distortion"), [one["distortion"] for one in read], _fixed(2))
    yield Line(words("compare.table.rate"), [one["rate"] for one in read], _fixed(2))
    yield Line(words("compare.table.nll", k=k), [run.nll_at(k) for run in runs], _fixed(2), -1, kinds)
    active = [one["active_units"] if one["latent"] else None for one in read]
    yield Line(words("compare.table.active"), active, _whole)


def _rows(runs: Sequence[Judged], words: Words) -> Iterable[Line]:
    same = [run.evaluation["data_hash"] for run in runs]
    errors = _of(runs, "error", "root_mean_squared")
    yield Line(words("compare.table.error"), errors, _fixed(4), -1, same)
    yield Line(words("compare.table.knn"), _of(runs, "probes", "knn_accuracy"), percent, 1)
    yield Line(words("compare.table.linear"), _of(runs, "probes", "linear_accuracy"), percent, 1)


def _codes(runs: Sequence[Judged], words: Words) -> Iterable[Line]:
    spreads = _of(runs, "cloud", "standard_deviation")
    widths = [None if one is None else math.sqrt(sum(s * s for s in one) / len(one)) for one in spreads]
    yield Line(words("compare.table.width"), widths, _fixed(2))
    yield Line(words("compare.table.outside"), _of(runs, "cloud", "outside"), percent, -1)
    for key in ("prior", "gaussian", "alike"):
        better = 0 if key == "alike" else -1
        yield Line(words(f"compare.table.holes_{key}"), _of(runs, "holes", key, "holes"), percent, better)
        if key == "prior":
            yield Line(words("compare.table.missed"), _of(runs, "holes", key, "missed"), percent, better)
    yield Line(words("compare.table.mmd"), _of(runs, "prior", "mmd", "value"), _fixed(4))
    yield Line(words("compare.table.mmd_floor"), _of(runs, "prior", "mmd", "floor"), _fixed(4))


def _items(runs: Sequence[Judged], words: Words) -> Iterable[Line]:
    keys = _of(runs, "features", "key")
    for name in ("reconstructions", "samples", "gaussian", "midpoints", "floor"):
        better, values = 0 if name == "floor" else -1, _of(runs, "items", name, "frechet")
        yield Line(words(f"compare.table.frechet_{name}"), values, _fixed(2), better, keys)
    for name in ("samples", "midpoints", "floor"):
        yield Line(
            words(f"compare.table.confidence_{name}"),
            _of(runs, "items", name, "confidence"),
            percent,
            0,
            keys,
        )


def _smooth(runs: Sequence[Judged], words: Words) -> Iterable[Line]:
    for name in ("relative", "absolute", "pair"):
        yield Line(words(f"compare.table.smooth_{name}"), _of(runs, "smoothness", name), _fixed(4))


def _how(runs: Sequence[Judged], words: Words) -> str:
    """What every number of the table is, with the n's behind it."""
    read = next((run.latents for run in runs if run.latent), runs[0].latents)
    features, accuracy = read["features"], read["features"]["accuracy"]
    parts = [words("compare.how.bound", k=runs[0].k)]
    if read["error"] is not None:
        parts.append(words("compare.how.error", n=f"{read['rows']:,}"))
    if read["probes"] is not None:
        parts.append(words("compare.how.probes", n=f"{read['probes']['train_rows']:,}"))
    if read["holes"] is not None:
        parts.append(words("compare.how.holes", n=f"{read['holes']['n']:,}"))
    if read.get("prior") is not None:  # which readings of an older version lack
        parts.append(words("compare.how.mmd", n=f"{read['prior']['mmd']['n']:,}"))
    parts.append(words("compare.how.frechet", n=f"{read['items']['n']:,}"))
    if accuracy is not None:
        parts.append(words("compare.how.classifier", d=features["dimensions"], accuracy=percent(accuracy)))
    elif features["kind"] != "classifier":
        parts.append(words("compare.how.axes", d=features["dimensions"]))
    parts.append(words("compare.how.draws" if read["items"]["are"] == "draws" else "compare.how.centres"))
    if read["smoothness"] is not None:
        parts.append(words("compare.how.smooth", n=f"{read['smoothness']['n']:,}"))
    return "\n\n".join(parts)
