"""What readings beside the nats left in the run's folder: samples against held-out rows, copies, factors."""

from __future__ import annotations

import zipfile
from typing import Any

import numpy as np

from vaekit.report import page, sheets
from vaekit.report.gather import Gathered, kept_reading
from vaekit.report.page import Markup, number

SCHEMA = 1  # of the readings that are understood here
PER_SET = ("precision", "recall", "density", "coverage")
SCORES = {  # of a tile: the reading, and the number in it
    "mig": ("mig", "score"), "sap": ("sap", "score"), "dci": ("dci", "disentanglement"),
    "factorvae": ("factorvae", "score"), "betavae": ("betavae", "score"), "modularity": ("modularity", "score"),
}  # fmt: skip


def _reading(found: Gathered, file: str) -> dict[str, Any] | None:
    read = kept_reading(found.run, file)
    return read if read is not None and read.get("schema") == SCHEMA else None


def quality(page_: page.Page, found: Gathered) -> None:
    """How near samples come to held-out rows, beside training rows, which are as near as can be asked."""
    read = _reading(found, "samples.json")
    if read is None:
        return
    words, sets, features = found.words, read["items"], read["features"]
    named = [name for name in ("samples", "reconstructions", "floor") if name in sets]
    columns = {"frechet": 2, "kernel": 2} | dict.fromkeys(PER_SET, 2)
    if all("fid" in sets[name] for name in named):
        columns["fid"] = 1
    head = ["", *(words(f"quality.{one}") for one in columns)]
    rows = [
        [
            words(f"quality.{name}"),
            *(number(_value(sets[name][one]), digits) for one, digits in columns.items()),
        ]
        for name in named
    ]
    kind = "classifier" if features["kind"] == "classifier" else "axes"
    by = words(f"quality.{kind}", d=features["dimensions"])
    page_.section(
        "quality", words("quality.heading"), page.text(words("quality.see")),
        page.table(head, rows),
        page.text(words("quality.judged", n=f"{sets['n']:,}", split=words(f"split.{read['split']}"), by=by), "lead"),
    )  # fmt: skip


def _value(reading: Any) -> float:
    """A number that may stand with its spread."""
    return float(reading["value"] if isinstance(reading, dict) else reading)


def copies(page_: page.Page, found: Gathered) -> None:
    """Samples that come closest to a training row, that row, and the nearest of the held-out ones."""
    read = _reading(found, "copies.json")
    if read is None:
        return
    words = found.words
    close = max(space["close"] for space in read["spaces"].values())
    tiles = [
        (f"{read['exact']['samples']:,} / {read['samples']:,}", words("copies.exact")),
        (f"{number(100 * close, 2)} %", words("copies.close")),
    ]
    page_.section(
        "copies", words("copies.heading"), page.text(words("copies.see")), page.tiles(tiles),
        page.note(f"`{read['verdict']}`"), *_closest(found),
    )  # fmt: skip


def _closest(found: Gathered) -> list[Markup]:
    """The closest items, a row a kind; nothing of data without pixels, or where they have gone."""
    assert found.run.folder is not None
    words, contract = found.words, found.contract
    try:
        with np.load(found.run.folder.path / "copies.npz") as kept:
            sets = {name: kept[name] for name in ("sample", "train", "held_out")}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return []
    if not contract.is_image or any(x.shape[1:] != contract.shape for x in sets.values()):
        return []
    named = [
        (words(f"copies.{name}"), sheets.items(contract, x, words(f"copies.{name}"), len(x)))
        for name, x in sets.items()
    ]
    return [page.figure(page.rows(named), caption=words("copies.columns"))]


def factors(page_: page.Page, found: Gathered) -> None:
    """How far latent dimensions are the factors that the data were made from."""
    read = _reading(found, "disentanglement.json")
    if read is None:
        return
    from vaekit.run.disentangling import picture

    words = found.words
    tiles: list[tuple[Any, Any]] = [
        (number(read[one][key]), words(f"factors.{name}")) for name, (one, key) in SCORES.items()
    ]
    split = words(f"split.{read['split']}")
    page_.section(
        "factors", words("factors.heading"), page.text(words("factors.see")), page.tiles(tiles),
        page.figure(page.picture(picture(read), words("factors.alt"), paper=True), caption=words("factors.map")),
        page.text(words("factors.judged", n=f"{read['rows']:,}", split=split), "lead"),
    )  # fmt: skip
