"""The latent space in a report: the map of codes, the decoded grid, one dimension at a time, codes against the prior."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vaekit import pictures, walks
from vaekit.distributions import DiagonalGaussian
from vaekit.measures import active_units
from vaekit.report import charts, cloud, page, sheets
from vaekit.report.gather import Gathered, Reading
from vaekit.report.page import number

if TYPE_CHECKING:
    from PIL.Image import Image

MAPPED = 3000  # points of a map, each with its picture: more cost bytes and show no more
THUMB = 32  # pixels of such a picture
TRAVERSED, STEPS, REACH = 10, 11, 2.5
WORST = 6  # dimensions shown against the prior
DRAWS = 20_000


def latent_map(page_: page.Page, found: Gathered) -> None:
    """Mean codes as points, coloured by label."""
    wide = found.wide
    if wide is None or not found.model.latent:
        return
    words, D = found.words, found.model.latent
    known = np.flatnonzero(np.isfinite(wide.mean).all(1))
    chosen = np.sort(np.random.default_rng(found.seed).permutation(known)[:MAPPED])
    if not len(chosen):
        return
    codes, split = wide.mean[chosen], found.split(wide)
    maps: list[tuple[str, np.ndarray, tuple[str, str]]] = []
    if D == 1:
        spread = np.random.default_rng(0).random(len(codes)) * (codes.std() or 1.0)
        maps.append((words("map.one"), np.column_stack([codes[:, 0], spread]), ("z0", words("map.spread"))))
    elif D == 2:
        maps.append((words("map.two"), codes, ("z0", "z1")))
    else:
        plane, share = walks.project(torch.from_numpy(codes))
        first, second = (f"{100 * s:.0f} %" for s in share.tolist())
        axes = (words("map.principal", n=1, share=first), words("map.principal", n=2, share=second))
        maps.append((words("map.pca", D=D), plane.numpy(), axes))
        if (near := cloud.umap(codes)) is not None:
            maps.append((words("map.umap"), near, ("UMAP 1", "UMAP 2")))
    label = None if wide.rows.label is None else wide.rows.label[chosen]
    key = "condition" if found.run.condition else "labels" if label is not None else "plain"
    blocks = [page.text(words(f"map.see_{key}", split=split)), page.text(words("map.hover"), "lead")]

    def pictured(order: np.ndarray) -> Image:
        return _thumbs(found, wide, chosen[order])

    for i, (title, at, axes) in enumerate(maps):
        drawn = charts.scatter(
            at, title=title, label=label, names=[str(name) for name in found.contract.labels] or None,
            value_name=words("what.labels"), rows=wide.number[chosen],
            tip=words("tip.row", split=split, number="{}"), axes=axes, unlabelled=words("map.unlabelled"),
            thumbs=found.contract.is_image and (i > 0 or pictured),  # one sheet serves all maps
        )  # fmt: skip
        blocks.append(page.figure(drawn, title=title))
    if D > 2:
        blocks.append(page.text(words("map.flat", D=D) + (" " + words("map.near") if len(maps) > 1 else "")))
    page_.section("map", words("map.heading"), *blocks)


def _thumbs(found: Gathered, wide: Reading, index: np.ndarray) -> Image:
    """Rows as one sheet of small pictures, 50 across."""
    tiles = sheets.tiles_of(found.contract, wide.some(index).rows(slice(None)))
    return pictures.grid(sheets.shrunk(tiles, THUMB), charts.THUMBS, THUMB, gutter=0)


def grid(page_: page.Page, found: Gathered) -> None:
    """What a plane of the latent space decodes to."""
    run, words, contract, D = found.run, found.words, found.contract, found.model.latent
    if not D or (D == 1 and not contract.is_image):
        return
    side = 15 if not contract.is_image or max(contract.shape[-2:]) <= 32 else 9
    with run.looking(found.seed):
        label = 0 if run.condition else None
        c = run.conditions(1, label)
        codes = (
            run.model.draw(MAPPED, run.conditions(MAPPED, turns=True))
            if found.wide is None
            else torch.from_numpy(found.wide.mean).to(run.device)
        )
        known = codes[codes.isfinite().all(1)]
        if not len(known):
            return
        z = walks.grid(run.model.prior(c), known, side, found.answers).reshape(-1, D).float()
        x = run.decoded(z, run.conditions(len(z), label))
    how = "plane" if D > 2 else "prior" if found.answers else "codes"
    blocks = [page.text(words("grid.see")), page.text(words(f"grid.{how}"), "lead")]
    if run.condition:
        blocks.append(page.text(words("grid.condition", label=contract.labels[0]), "lead"))
    if contract.is_image:
        tips = ["(" + ", ".join(f"{v:.2f}" for v in point) + ")" for point in z.tolist()] if D <= 2 else None
        sheet = sheets.items(contract, x, words("grid.heading"), side if D > 1 else len(x), tips)
        blocks.append(page.figure(sheet, most=760))
    else:
        drawn = page.picture(run.picture_of_grid(x, side), words("grid.heading"), paper=True)
        blocks.append(page.figure(drawn, caption=words("grid.fields"), most=760))
    page_.section("grid", words("grid.heading"), *blocks)


def order_of(found: Gathered, wide: Reading) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Dimensions from the one that carries most, the KL of each in nats [D] or None, and the variance of means [D]."""
    variance = wide.mean.var(0, ddof=1)
    kl = (found.evaluation or {}).get("kl_per_dimension")
    nats = None if kl is None else np.asarray(kl, float)
    return np.argsort(-(variance if nats is None else nats), kind="stable"), nats, variance


def traversals(page_: page.Page, found: Gathered) -> None:
    """One dimension moved at a time, those first that carry most."""
    wide = found.wide
    if wide is None or not found.model.latent or not np.isfinite(wide.mean).all():
        return
    run, words, contract = found.run, found.words, found.contract
    order, nats, _ = order_of(found, wide)
    centre, spread = torch.from_numpy(wide.mean.mean(0)), torch.from_numpy(wide.mean.std(0))
    moves = torch.linspace(-REACH, REACH, STEPS)
    rows, tables = [], []
    for d in map(int, order[:TRAVERSED]):
        z = walks.traverse(centre, d, centre[d] + moves * spread[d])[0].to(run.device)
        with run.looking(found.seed):
            x = run.decoded(z, run.conditions(len(z), 0 if run.condition else None))
        name = f"z{d}" + (f" · {number(float(nats[d]))} {words('unit.nats')}" if nats is not None else "")
        if contract.is_image:
            tips = [f"z{d} = {value:.2f}".replace("-", "−") for value in z[:, d].tolist()]
            rows.append((name, sheets.items(contract, x, name, STEPS, tips)))
        else:
            tables.append(page.figure(sheets.heat(contract, x, None, name), title=name))
    blocks = [page.text(words("traversals.see" if nats is not None else "traversals.see_variance"))]
    if run.condition:
        blocks.append(page.text(words("grid.condition", label=contract.labels[0]), "lead"))
    if tables:
        blocks.append(page.text(words("traversals.down"), "lead"))
    blocks.append(page.figure(page.rows(rows)) if rows else page.beside(*tables[:6], least="24rem"))
    page_.section("traversals", words("traversals.heading"), *blocks)


def units(page_: page.Page, found: Gathered) -> None:
    """KL per dimension, and which dimensions are active."""
    wide = found.wide
    if wide is None or not found.model.latent or not np.isfinite(wide.mean).all():
        return
    words = found.words
    order, nats, variance = order_of(found, wide)
    active = active_units(torch.from_numpy(variance)).numpy()
    values = variance if nats is None else nats
    tips = []
    for d in order:
        told = [f"z{d}"] + ([words("units.kl", nats=number(float(nats[d]), 3))] if nats is not None else [])
        told.append(words("units.variance", value=number(float(variance[d]), 3)))
        tips.append("\n".join([*told, words("units.active" if active[d] else "units.asleep")]))
    drawn = charts.bars(
        values[order], title=words("units.heading"), names=[f"z{d}" for d in order], tips=tips, faint=~active[order],
        axes=(words("units.dimension"), words("unit.nats") if nats is not None else words("units.variance_axis")),
    )  # fmt: skip
    see = page.text(words("units.see" if nats is not None else "units.see_variance"))
    count = words("units.count", n=int(active.sum()), D=len(active))
    page_.section("units", words("units.heading"), see, page.figure(drawn, caption=count))


def against_prior(page_: page.Page, found: Gathered) -> None:
    """The codes of all rows together, drawn from the posterior, against the prior."""
    wide = found.wide
    if wide is None or not found.model.latent:
        return
    words, D = found.words, found.model.latent
    known = np.isfinite(wide.drawn).all(1) & np.isfinite(wide.prior).all(1)
    drawn, prior = wide.drawn[known], wide.prior[known]
    if len(drawn) < 10:
        return
    away = cloud.distances(drawn, prior)
    worst = np.argsort(-away, kind="stable")[:WORST] if D > WORST else np.arange(D)
    holes, off = cloud.outside(prior, drawn, prior), cloud.outside(drawn, prior, prior)
    tiles = [(f"{100 * holes:.1f} %", words("prior.holes")), (f"{100 * off:.1f} %", words("prior.off"))]
    gap = _surgery(found)
    if gap is not None:
        tiles.append((number(gap), words("prior.surgery")))
    hists = [
        charts.histogram(
            drawn[:, d], _density(found, int(d)), title=f"z{d}", names=(words("prior.codes"), words("prior.prior")),
            heading=f"z{d}", legend=False, size=(280, 180),
        )
        for d in worst
    ]  # fmt: skip
    head = [
        words("units.dimension"), words("prior.mean"), words("prior.deviation"), words("prior.prior_mean"),
        words("prior.prior_deviation"), words("prior.distance"),
    ]  # fmt: skip
    numbers = np.column_stack([drawn.mean(0), drawn.std(0), prior.mean(0), prior.std(0), away])
    table = [[f"z{d}", *map(number, numbers[d].tolist())] for d in worst]
    of = "fitted" if found.run.fitted else "point"
    see = words("prior.see" if found.has_density else f"prior.see_{of}", split=found.split(wide))
    blocks = [
        page.text(see), page.tiles(tiles),
        charts.legend([words("prior.codes")], words("prior.prior")),
        page.beside(*hists, least="15rem"), page.text(words("prior.worst" if D > WORST else "prior.all"), "lead"),
        page.table(head, table),
    ]  # fmt: skip
    page_.section("prior", words("prior.heading"), *blocks)


def _surgery(found: Gathered) -> float | None:
    """KL(q(z), p(z)) as the rate less the mutual information, nats; None where the latter ran into its ceiling."""
    read = found.evaluation or {}
    information: dict[str, Any] | None = read.get("mutual_information")
    if information is None or read.get("rate") is None or information["value"] > 0.8 * information["at_most"]:
        return None
    return float(read["rate"] - information["value"])


def _density(found: Gathered, d: int) -> tuple[np.ndarray, np.ndarray]:
    """The prior's density along a dimension: in closed form for one Gaussian, else from draws."""
    run = found.run
    with run.looking(found.seed):
        p_z = run.model.prior(run.conditions(1, 0 if run.condition else None))
        if isinstance(p_z, DiagonalGaussian) and not run.condition:
            mean, deviation = float(p_z.mean.flatten()[d]), float(p_z.stddev.expand_as(p_z.mean).flatten()[d])
            x = mean + deviation * np.linspace(-4, 4, 121)
            return x, np.exp(-0.5 * ((x - mean) / deviation) ** 2) / (deviation * math.sqrt(2 * math.pi))
        drawn = run.model.draw(DRAWS, run.conditions(DRAWS, turns=True))[:, d].float().cpu().numpy()
    return cloud.smooth_density(drawn)
