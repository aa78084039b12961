"""A comparison in a few sentences: who is best at what, and whether that could be chance."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vaekit.report import page
from vaekit.report.numbers import percent
from vaekit.report.page import Markup, number
from vaekit.report.pairs import SURE, Standing, paired
from vaekit.report.readings import Judged
from vaekit.report.words import Words


@dataclass(frozen=True)
class Trait:
    """A latent reading that runs are ranked by, at `path`; `better` 1 where higher is better, -1 where lower is."""

    key: str
    path: tuple[str, ...]
    better: int
    shown: Callable[[float], str]

    def of(self, run: Judged) -> float | None:
        """Its value, None where the run has none."""
        value = run.latents
        for name in self.path:
            value = (value or {}).get(name)  # type: ignore[assignment]
        return value  # type: ignore[return-value]

    def even(self, a: Judged, b: Judged) -> bool:
        """Whether the rows at hand cannot tell two runs apart: by their errors row by row, by what shares of so many
        rows vary, or by less than two sets of real rows are apart."""
        if self.key == "error":
            if (
                a.squared_error is None
                or b.squared_error is None
                or len(a.squared_error) != len(b.squared_error)
            ):
                return True
            return not paired(a.squared_error, b.squared_error).sure
        x, y = self.of(a), self.of(b)
        assert x is not None and y is not None
        if self.path[0] == "items":
            return abs(x - y) < a.latents["items"]["floor"]["frechet"]
        n = a.latents["probes"]["rows"] if self.path[0] == "probes" else a.latents["holes"]["n"]
        return abs(x - y) <= SURE * math.sqrt((x * (1 - x) + y * (1 - y)) / n)


TRAITS = (
    Trait("error", ("error", "root_mean_squared"), -1, lambda value: number(value, 4)),
    Trait("knn", ("probes", "knn_accuracy"), 1, percent),
    Trait("holes", ("holes", "prior", "holes"), -1, percent),
    Trait("samples", ("items", "samples", "frechet"), -1, number),
    Trait("midpoints", ("items", "midpoints", "frechet"), -1, number),
)


def short(
    runs: Sequence[Judged], bound: Standing | None, errors: Standing | None, words: Words
) -> list[Markup]:
    """The best of each, and each autoencoder against the VAE of as many dimensions."""
    lines = []
    if bound is not None and bound.best.law in ("density", "probability"):
        best, (name, pair) = bound.best, min(bound.others.items(), key=lambda other: other[1].mean)
        elbo, more = number(best.evaluation["elbo"]), f"{number(pair.mean)} ± {number(pair.half)}"
        lines.append(words("compare.short.bound", name=best.name, elbo=elbo, other=name, more=more))
        ranked = [run for run in runs if run is best or run.name in bound.others]
        tight = {run.name: nll for run in ranked if (nll := run.nll_at(best.k)) is not None}
        ahead = min(tight, key=lambda run: tight[run], default=best.name)
        if ahead != best.name:  # the ELBO had put another first
            lines.append(
                words(
                    "compare.short.tight", name=ahead, k=best.k, value=number(tight[ahead]), other=best.name
                )
            )
    for trait in TRAITS:
        known = [run for run in runs if trait.of(run) is not None]
        compare = (
            errors is not None if trait.key == "error" else trait.path[0] != "items" or _same_eyes(known)
        )
        if trait.key == "midpoints" or len(known) < 2 or not compare:
            continue
        best, second = sorted(known, key=lambda run: -trait.better * (trait.of(run) or 0.0))[:2]
        value, other = (trait.shown(trait.of(run) or 0.0) for run in (best, second))
        # of "compare.short.error", "compare.short.knn", "compare.short.holes", "compare.short.samples"
        told = words(f"compare.short.{trait.key}", name=best.name, value=value, next=second.name, other=other)
        lines.append(told + (" " + words("compare.short.chance") if trait.even(best, second) else ""))
    lines += [_duel(ae, vae, words) for ae, vae in _duels(runs)]
    return [page.element("ul", *[page.element("li", page.inline(line)) for line in lines])] if lines else []


def _same_eyes(runs: Sequence[Judged]) -> bool:
    """Whether their items were seen with the same features."""
    return len({run.latents["features"]["key"] for run in runs}) == 1


def _duels(runs: Sequence[Judged]) -> list[tuple[Judged, Judged]]:
    """An autoencoder and a VAE of as many dimensions, where there is one of each."""
    found = []
    for D in sorted({run.latent for run in runs if run.latent}):
        points, laws = (
            [run for run in runs if run.latent == D and run.has_density is has] for has in (False, True)
        )
        if len(points) == len(laws) == 1 and _same_eyes([*points, *laws]):
            found.append((points[0], laws[0]))
    return found


def _duel(ae: Judged, vae: Judged, words: Words) -> str:
    """Which of the two restores better, tells labels better, has fewer holes, truer samples and midpoints."""
    told = []
    for trait in TRAITS:
        a, b = trait.of(ae), trait.of(vae)
        if a is None or b is None:
            continue
        (ahead, value), (_, other) = (
            ((ae, a), (vae, b)) if trait.better * a >= trait.better * b else ((vae, b), (ae, a))
        )
        # of "compare.short.duel_error", "compare.short.even_error" and so on
        key = f"compare.short.{'even' if trait.even(ae, vae) else 'duel'}_{trait.key}"
        told.append(words(key, name=ahead.name, value=trait.shown(value), other=trait.shown(other)))
    return words("compare.short.duel", ae=ae.name, vae=vae.name, D=ae.latent, told="; ".join(told))
