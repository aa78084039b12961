"""Items in a report: reconstructions, the best and the worst, samples, walks between rows."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch

from vaekit import walks
from vaekit.data import in_turn
from vaekit.report import page, sheets
from vaekit.report.gather import Gathered, Reading
from vaekit.report.page import Markup, number

PAIRS, ENDS, SAMPLES, VECTORS, STEPS = 20, 10, 64, 16, 10


def reconstructions(page_: page.Page, found: Gathered) -> None:
    """Originals beside what comes back from their mean codes."""
    if found.held is None or not found.model.latent:
        return
    words = found.words
    index = in_turn(found.held.rows, PAIRS if found.contract.is_image else VECTORS, found.seed)
    see, drawn = page.text(words(f"reconstructions.see{_vectors(found)}")), _pairs(found, found.held, index)
    page_.section("reconstructions", words("reconstructions.heading"), see, drawn)


def extremes(page_: page.Page, found: Gathered) -> None:
    """The rows that come back best and worst, by -log p(x given the mean code)."""
    if found.held is None:
        return
    words, score = found.words, found.held.score
    order = np.argsort(score, kind="stable")
    order = order[np.isfinite(score[order])]
    n = min(ENDS if found.contract.is_image else VECTORS // 2, len(order) // 2)
    if not n:
        return
    key = "extremes" if found.model.latent else "likely"
    see = f"extremes.see{_vectors(found)}" if found.model.latent else "likely.see"
    blocks = [page.text(words(see, unit=found.unit))]
    for name, index in (("best", order[:n]), ("worst", order[::-1][:n])):
        blocks += [page.heading(words(f"{key}.{name}")), _pairs(found, found.held, index)]
    page_.section("extremes", words(f"{key}.heading"), *blocks)


def samples(page_: page.Page, found: Gathered) -> None:
    """Draws from the prior, decoded."""
    words, run, contract = found.words, found.run, found.contract
    blocks = [page.text(words("samples.see_fitted" if run.fitted else f"samples.see{found.kind}"))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a point posterior fits no prior is said in words
        if not contract.is_image:
            drawn = run.sample(VECTORS, seed=found.seed, noise=found.has_density)
            held = found.held
            beside = (
                None if held is None else held.some(in_turn(held.rows, VECTORS, found.seed)).rows(slice(None))
            )
            first, second = (drawn, None) if beside is None else (beside, drawn)
            caption = words("samples.vectors") if beside is not None else None
            blocks.append(
                page.figure(sheets.heat(contract, first, second, words("samples.alt")), caption=caption)
            )
        elif run.condition:
            kinds = min(len(contract.labels), 20)
            each = [run.sample(10, seed=found.seed + k, label=k) for k in range(kinds)]
            named = [
                (
                    str(contract.labels[k]),
                    sheets.items(contract, x, words("samples.of", label=contract.labels[k]), 10),
                )
                for k, x in enumerate(each)
            ]
            blocks.append(page.figure(page.rows(named), most=760))
        else:
            drawn = run.sample(SAMPLES, seed=found.seed)
            blocks.append(page.figure(sheets.items(contract, drawn, words("samples.alt"), 8), most=560))
    page_.section("samples", words("samples.heading"), *blocks)


def interpolations(page_: page.Page, found: Gathered) -> None:
    """Walks from the code of one held-out row to that of another."""
    held = found.held
    if held is None or not found.model.latent:
        return
    words, run, contract = found.words, found.run, found.contract
    straight = found.model.latent <= 2 or not found.has_density
    walk = walks.linear if straight else walks.spherical
    way = words("interpolations.linear" if straight else "interpolations.spherical")
    blocks = [page.text(words(f"interpolations.see{_vectors(found)}")), page.text(way, "lead")]
    rows, tables = [], []
    for a, b in _ends(found, held):
        z = walk(torch.from_numpy(held.mean[a]), torch.from_numpy(held.mean[b]), STEPS).to(run.device)
        with run.looking(found.seed):
            label = found.label_of(held, a) if run.condition else None
            x = run.decoded(z, run.conditions(len(z), label))
        name = words("interpolations.row", a=_name(found, held, a), b=_name(found, held, b))
        if contract.is_image:
            whole = np.concatenate([held.some([a]).rows(slice(None)), x, held.some([b]).rows(slice(None))])
            steps = [words("interpolations.step", n=i + 1, of=STEPS) for i in range(STEPS)]
            tips = [found.tip(held, a), *steps, found.tip(held, b)]
            rows.append((name, sheets.items(contract, whole, name, STEPS + 2, tips)))
        else:
            tables.append(page.figure(sheets.heat(contract, x, None, name), title=name))
    if not rows and not tables:
        return
    blocks.append(page.figure(page.rows(rows)) if rows else page.beside(*tables[:4], least="24rem"))
    page_.section("interpolations", words("interpolations.heading"), *blocks)


def _vectors(found: Gathered) -> str:
    """The ending of texts that differ for data without pixels."""
    return "" if found.contract.is_image else "_vectors"


def _ends(found: Gathered, held: Reading) -> list[tuple[int, int]]:
    """Pairs of rows: of different labels, or of the same label where the model is given it."""
    label = held.rows.label
    index = in_turn(held.rows, len(held.rows), found.seed)
    if found.run.condition and label is not None:
        pairs = []
        for kind in np.unique(label)[:5]:
            own = index[label[index] == kind]
            pairs += [(int(own[0]), int(own[1]))] if len(own) > 1 else []
        return pairs
    n = min(5, len(index) // 2)
    return [(int(index[2 * i]), int(index[2 * i + 1])) for i in range(n)]


def _name(found: Gathered, held: Reading, index: int) -> str:
    return found.label_of(held, index) or f"#{held.number[index]}"


def _pairs(found: Gathered, held: Reading, index: np.ndarray) -> Markup:
    """Originals above reconstructions, in bands; originals alone where there is no latent."""
    words, contract = found.words, found.contract
    rows = held.some(index)
    again = found.run.reconstruct(rows, seed=found.seed)[1] if found.model.latent else None
    x = rows.rows(slice(None))
    if not contract.is_image:
        caption = words("pairs.vectors") if again is not None else None
        return page.figure(sheets.heat(contract, x, again, words("pairs.alt")), caption=caption)
    tips = [
        found.tip(held, i) + "\n" + words("pairs.score", score=number(float(held.score[i]), 1)) for i in index
    ]
    across = min(10, len(index))
    named: list[tuple[str, Any] | None] = []
    for start in range(0, len(index), across):
        part = slice(start, start + across)
        named += [None] * bool(start)
        for name, items in ((words("pairs.original"), x), (words("pairs.again"), again)):
            if items is not None:
                named.append((name, sheets.items(contract, items[part], name, across, tips[part])))
    return page.figure(page.rows(named))
