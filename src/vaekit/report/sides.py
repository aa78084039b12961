"""Runs side by side in pictures: latent maps on equal axes, samples, reconstructions, midpoints, two near points."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vaekit import walks
from vaekit.data import in_turn
from vaekit.report import charts, page, sheets
from vaekit.report.page import Markup, number
from vaekit.report.readings import Judged
from vaekit.report.words import Words
from vaekit.run import inputs

POINTS = 4000  # on all maps together
SHOWN, LINES = 10, 2  # pictures a line, and lines of samples
VECTORS = 12
DRAWS = 20_000
PAIR = ((2.0, -2.0), (2.1, -2.1))


def maps(runs: Sequence[Judged], words: Words, seed: int) -> list[Markup]:
    """Codes of the same rows, on one scale, and folded away each on its own; the prior's 1 and 2 sigma as circles."""
    with_codes = [run for run in runs if run.latent]
    if not with_codes:
        return []
    most = min(2000, max(300, POINTS // len(with_codes)))
    found = [_map(run, most, words, seed) for run in with_codes]
    ends = np.concatenate([part for one in found for part in (one.points, *(line for line, _ in one.rings))])
    middle, reach = (ends.max(0) + ends.min(0)) / 2, float(np.ptp(ends, axis=0).max()) * 0.53
    ranges = [(float(m - reach), float(m + reach)) for m in middle]
    charted: dict[bool, list[Markup]] = {True: [], False: []}
    for equal, blocks in charted.items():
        for run, one in zip(with_codes, found, strict=True):
            chart = charts.scatter(
                one.points, title=words("compare.maps.title", name=run.name), label=one.label, axes=one.axes,
                names=[str(name) for name in run.run.contract.labels] or None, rings=one.rings, legend=False,
                unlabelled=words("map.unlabelled"), x=ranges[0] if equal else None, y=ranges[1] if equal else None,
                rows=one.index, tip=words("tip.row", split=words(f"split.{run.rows.name}"), number="{}"),
            )  # fmt: skip
            blocks.append(page.figure(chart, title=run.name))
    names = runs[0].run.contract.labels
    blocks = [page.text(words("compare.maps.see"))]
    if names and found[0].label is not None and len(names) <= charts.KINDS:
        blocks.append(charts.legend([str(name) for name in names]))
    blocks.append(page.beside(*charted[True], least="22rem"))
    if any(run.latent > 2 for run in with_codes):
        blocks.append(page.text(words("compare.maps.pca"), "lead"))
    own = page.beside(*charted[False], least="22rem")
    return [*blocks, page.details(words("compare.maps.own"), own)]


@dataclass(frozen=True)
class Map:
    """Points [N, 2], the prior's rings, the names of the axes; labels [N] or None and numbers [N] of the rows."""

    points: np.ndarray
    rings: list[tuple[np.ndarray, str]]
    axes: tuple[str, str]
    label: np.ndarray | None
    index: np.ndarray


def _map(judged: Judged, most: int, words: Words, seed: int) -> Map:
    """The codes of a run in a plane."""
    run, D = judged.run, judged.latent
    index = np.sort(np.random.default_rng(seed).permutation(len(judged.rows))[:most])
    rows = inputs.subset(judged.rows, index)
    codes = torch.from_numpy(run.encode(rows).mean)
    with run.looking(seed):
        prior = run.model.draw(DRAWS, run.conditions(DRAWS, turns=True)).cpu()
    if D == 1:
        spread = torch.rand(len(codes), 1, generator=torch.Generator().manual_seed(0)) * prior.std()
        return Map(torch.cat((codes, spread), 1).numpy(), [], ("z0", words("map.spread")), rows.label, index)
    if D == 2:
        return Map(codes.numpy(), _rings(prior), ("z0", "z1"), rows.label, index)
    points, share = walks.project(codes)
    first, second = (f"{100 * s:.0f} %" for s in share.tolist())
    axes = words("map.principal", n=1, share=first), words("map.principal", n=2, share=second)
    return Map(points.numpy(), _rings(walks.project(prior, codes)[0]), axes, rows.label, index)


def _rings(drawn: torch.Tensor) -> list[tuple[np.ndarray, str]]:
    """Where a Gaussian with the moments of these points [N, 2] is 1 and 2 standard deviations from its mean."""
    points = drawn.double().numpy()
    root = np.linalg.cholesky(np.cov(points.T) + 1e-12 * np.eye(2))
    angle = np.linspace(0, 2 * math.pi, 73)
    circle = np.column_stack([np.cos(angle), np.sin(angle)]) @ root.T
    return [(points.mean(0) + n * circle, f"{n}σ") for n in (1, 2)]


def samples(runs: Sequence[Judged], words: Words, seed: int) -> list[Markup]:
    """Decoded draws of the prior; of a posterior without a density also of the Gaussian with its codes' moments."""
    lines: list[tuple[str, Markup]] = []
    for judged in runs:
        run = judged.run
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a point posterior fits no prior is what the page tells
            x = run.sample(_count(judged), seed=seed)
        lines.append((judged.name, _shown(judged, x, words("compare.samples.alt", name=judged.name))))
        if judged.latent and not (judged.has_density or run.fitted):
            name = words("compare.samples.own", name=judged.name)
            lines.append((name, _shown(judged, _of_gaussian(judged, seed), name)))
    return [page.text(words("compare.samples.see")), page.figure(page.rows(lines))]


def _count(judged: Judged) -> int:
    return SHOWN * LINES if judged.run.contract.is_image else VECTORS


def _of_gaussian(judged: Judged, seed: int) -> np.ndarray:
    """Decoded draws of the Gaussian with the moments of the codes."""
    from vaekit.metrics.codes import gaussian_like

    run = judged.run
    codes = torch.from_numpy(run.encode(judged.rows).mean)
    with run.looking(seed):
        z = gaussian_like(codes, _count(judged)).to(run.device)
        return run.decoded(z, run.conditions(len(z), turns=True))


def reconstructions(runs: Sequence[Judged], words: Words, seed: int) -> list[Markup]:
    """The same rows, and what comes back of them from each run."""
    lines: list[tuple[str, Markup]] = []
    for judged in runs:
        if not judged.latent:
            continue
        rows = inputs.subset(judged.rows, in_turn(judged.rows, _some(judged), seed))
        x, again = judged.run.reconstruct(rows, seed=seed)
        if not lines:
            lines.append(
                (words("compare.error.original"), _shown(judged, x, words("compare.error.original")))
            )
        lines.append((judged.name, _shown(judged, again, words("compare.error.alt", name=judged.name))))
    return [page.figure(page.rows(lines))] if lines else []


def midpoints(runs: Sequence[Judged], words: Words, seed: int) -> list[Markup]:
    """Pairs of rows of different labels, and what each run decodes half-way between their codes."""
    with_codes = [run for run in runs if run.latent]
    if not with_codes:
        return []
    lines: list[tuple[str, Markup]] = []
    ends: tuple[np.ndarray, ...] = ()
    for judged in with_codes:
        run, n = judged.run, _some(judged)
        order = in_turn(judged.rows, 2 * n, seed)
        n = len(order) // 2
        pair = [inputs.subset(judged.rows, part) for part in (order[:n], np.roll(order[n : 2 * n], 3))]
        a, b = (torch.from_numpy(run.encode(rows).mean) for rows in pair)
        ends = ends or tuple(rows.rows(slice(None)) for rows in pair)
        x = run.decode((a + b) / 2, label=pair[0].label if run.condition else None, seed=seed)
        lines.append((judged.name, _shown(judged, x, words("compare.midpoints.alt", name=judged.name))))
    first = with_codes[0]
    above, below = (
        (
            words(f"compare.midpoints.{name}"),
            _shown(first, x, words(f"compare.midpoints.{name}")),
        )  # .one, .other
        for name, x in zip(("one", "other"), ends, strict=True)
    )
    return [
        page.text(words("compare.midpoints.see")),
        page.figure(page.rows([above, None, *lines, None, below])),
    ]


def near(runs: Sequence[Judged], words: Words, seed: int) -> list[Markup]:
    """What is decoded at (2, -2) and at (2.1, -2.1), for runs with a plane of codes."""
    planes = [run for run in runs if run.latent == 2 and run.run.contract.is_image]
    if not planes:
        return []
    lines = []
    for judged in planes:
        x = judged.run.decode(PAIR, label=0 if judged.run.condition else None, seed=seed)
        moved = judged.latents["smoothness"]["pair"]
        name = words("compare.smooth.moved", name=judged.name, change=number(moved, 4))
        shown = sheets.items(judged.run.contract, x, name, 2, ["(2, −2)", "(2.1, −2.1)"], 96)
        lines.append(page.figure(shown, caption=name, most=220))
    return [page.heading(words("compare.smooth.pair")), page.beside(*lines, least="11rem")]


def _some(judged: Judged) -> int:
    return SHOWN if judged.run.contract.is_image else VECTORS


def _shown(judged: Judged, x: np.ndarray, alt: str) -> Markup:
    """Items of a run as lines of pictures, or as a heat map."""
    contract = judged.run.contract
    return sheets.items(contract, x, alt, SHOWN) if contract.is_image else sheets.heat(contract, x, None, alt)
