"""An audit for copying: the training rows nearest to samples, against those nearest to held-out rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vaekit.devices import chosen as device_of
from vaekit.errors import VaekitError
from vaekit.files import atomic, write_text
from vaekit.metrics.codes import Advance, Reader, chosen, subset
from vaekit.metrics.copying import compared, nearness, three_sample, verdict
from vaekit.metrics.decoded import item
from vaekit.metrics.features import Features, features_of, inputs
from vaekit.metrics.neighbours import Nearest
from vaekit.metrics.reading import prepared, progress_bar
from vaekit.model import VAE

if TYPE_CHECKING:
    from vaekit.data import Contract, Split

SCHEMA = 1
ROWS = 5_000  # samples, and held-out rows
NEIGHBOURS = 10
CELLS, CELL = 10, 100  # of the space, at most; held-out rows a cell
PAIRS = 12  # that are shown
Points = dict[str, Tensor]  # space -> [N, F]


def copies(
    model: VAE,
    split: Split,
    train: Split,
    contract: Contract,
    *,
    seed: int = 0,
    condition: bool = False,
    device: str | torch.device | None = None,
    progress: bool = False,
    save: str | Path | None = None,
) -> dict[str, Any]:
    """Ask whether samples repeat training rows: the object of `vaekit evaluate RUN --what copies --json`.

    As many `samples` as `rows` of the split (at most 5,000) are held against all `train_rows`, in two `spaces`: the
    `features` of a small classifier or of principal axes, and `pixels` (averaged down to 32 a side) or `columns`. A
    model that has learned the law and not the rows comes as near to them as held-out rows do. Of each space what
    `copying.compared` tells, and `three_sample`, the test of Meehan et al. 2020 over `cells` of the features.

    - `exact`: how many samples, and how many held-out rows, are a training row number for number.
    - `closest`: twelve samples with the least ratio by pixels, their nearest training and held-out row.
    - `verdict`: one sentence.

    Greys that are binarised on access are compared as greys, with the probabilities that the model decodes; data that
    are bits by draws of bits; others by the centre of p(x given z) (`items`). `save`: a folder that gets `copies.json`
    and `copies.npz` (the closest items, and of every sample distance, ratio and nearest row). torch's generators stay as
    they were. The split must have been held out: a training row is its own nearest. Raises VaekitError for fewer than
    seven rows of either, and a device that is not here.
    """
    n = min(len(split), ROWS)
    if min(n, len(train)) < 7:
        raise VaekitError(
            f"{min(n, len(train))} rows of the {split.name} or training split; an audit for copying needs at least 7"
        )
    features = features_of(train, contract, progress)
    place = torch.device(device_of(device)) if device is not None else next(model.parameters()).device
    audit = Audit.of(split, train, contract, condition, n, seed, features, place)
    unit = "images" if contract.is_image else "rows"
    with (
        prepared(model, place, seed),
        progress_bar(3 * n + len(train), progress, unit, "copies") as advance,
    ):
        made = audit.made(model, advance)
        held = audit.looked_at(audit.held, advance)
        near_made, near_held, known = audit.neighbours(made, held, advance)
        cells = audit.cells(made, held, n)
        spaces: dict[str, Any] = {}
        arrays: dict[str, np.ndarray] = {}
        for name in made.points:
            ours, theirs = audit.exactly(near_made[name], name), audit.exactly(near_held[name], name)
            spaces[name] = compared(ours, theirs)
            spaces[name]["three_sample"] = three_sample(ours[:, 0], theirs[:, 0], *cells)
            arrays |= {
                f"{name}_distance": ours[:, 0],
                f"{name}_ratio": nearness(ours),
                f"{name}_row": near_made[name].index[:, 0].numpy(),
            }
        closest = audit.closest(arrays, made, held)
        arrays |= {
            "sample": made.items[closest["sample"]],
            "train": audit.items(audit.taught, closest["train"]),
            "held_out": held.items[closest["held_out"]],
        }
    result = {
        "schema": SCHEMA, "split": split.name, "rows": n, "samples": n, "train_rows": len(train), "seed": seed,
        "data_hash": split.hash(contract),
        "items": "draws" if audit.drawn else "centres", "neighbours": near_made["features"].distances.shape[1],
        "cells": int(cells[1].max()) + 1, "features": {"kind": features.kind, "key": features.name},
        "exact": {"samples": _in(made.prints, known), "held_out": _in(held.prints, known)},
        "spaces": spaces,
        "closest": {name: values.tolist() for name, values in closest.items()},
    }  # fmt: skip
    result["verdict"] = verdict(result)
    if save is not None:
        with atomic(Path(save) / "copies.npz") as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        write_text(Path(save) / "copies.json", json.dumps(result, indent=2) + "\n")
    return result


@dataclass
class Looked:
    """Items as points of each space, as data [N, ...], and as digests of what they are, number for number."""

    points: Points
    items: np.ndarray
    prints: list[bytes] = field(default_factory=list)


@dataclass(frozen=True)
class Audit:
    """The rows of an audit and the eyes they are seen with."""

    held: Reader
    taught: Reader
    view: Contract
    drawn: bool
    features: Features
    seed: int

    @classmethod
    def of(
        cls, split: Split, train: Split, contract: Contract, condition: bool, n: int, seed: int, features: Features,
        place: torch.device,
    ) -> Audit:  # fmt: skip
        greys = contract.binarize == "dynamic" and not (split.bits or train.bits)
        view = replace(contract, kind="8-bit", binarize=None) if greys else contract
        index = chosen(len(split), n, seed)
        # the split is frozen whole, for a row's bits depend on its place
        held = subset(split if greys else split.frozen(contract), index)
        taught = train if greys else train.frozen(contract)
        return cls(
            Reader(held, view, place, condition), Reader(taught, view, place, False), view,
            contract.kind == "binary" and not greys, features, seed,
        )  # fmt: skip

    def points(self, x: Tensor) -> Points:
        """Model units [B, ...] -> the items in each space."""
        name = "pixels" if self.view.is_image else "columns"
        return {"features": self.features(x)[0], name: inputs(x, self.view).flatten(1)}

    def looked_at(self, reader: Reader, advance: Advance) -> Looked:
        return self._joined(x for x, _ in _told(reader, advance))

    def made(self, model: VAE, advance: Advance) -> Looked:
        """Samples, as many as held-out rows and under their conditions."""

        def drawn() -> Iterator[Tensor]:
            for x, c in _told(self.held, advance):
                yield item(model.decode(model.draw(len(x), c), c), self.drawn)

        return self._joined(drawn())

    def _joined(self, chunks: Iterator[Tensor]) -> Looked:
        seen, items = [], []
        for x in chunks:
            seen.append(self.points(x))
            items.append(self.view.unscale(x))
        points = {name: torch.cat([each[name] for each in seen]) for name in seen[0]}
        every = np.concatenate(items)
        return Looked(points, every, _prints(every))

    def neighbours(
        self, made: Looked, held: Looked, advance: Advance
    ) -> tuple[dict[str, Nearest], dict[str, Nearest], set[bytes]]:
        """The training rows next to samples and to held-out rows, and digests of all training rows."""
        of_made = {name: Nearest(points, NEIGHBOURS) for name, points in made.points.items()}
        of_held = {name: Nearest(points, NEIGHBOURS) for name, points in held.points.items()}
        known: set[bytes] = set()
        for x, _ in _told(self.taught, advance):
            known.update(_prints(self.view.unscale(x)))
            for name, rows in self.points(x).items():
                of_made[name].add(rows)
                of_held[name].add(rows)
        return of_made, of_held, known

    def exactly(self, near: Nearest, name: str) -> np.ndarray:
        """Distances [N, k], the first of them computed again from the row itself."""
        first = near.index[:, 0].numpy()
        rows = torch.cat([self.points(x)[name] for x, _ in self.taught.chunks(first)])
        found = near.distances.double()
        found[:, 0] = near.distance(rows)
        return found.sort(1).values.numpy()

    def cells(self, made: Looked, held: Looked, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Which cell of the features each sample and each held-out row is in: k-means of training rows."""
        from sklearn.cluster import KMeans

        some = chosen(len(self.taught), 2 * ROWS, self.seed)
        rows = torch.cat([self.points(x)["features"] for x, _ in self.taught.chunks(some)]).numpy()
        count = min(max(1, min(CELLS, n // CELL)), len(np.unique(rows, axis=0)))
        found = KMeans(count, n_init=1, random_state=0).fit(rows)
        return tuple(found.predict(each.points["features"].numpy()) for each in (made, held))

    def closest(self, arrays: dict[str, np.ndarray], made: Looked, held: Looked) -> dict[str, np.ndarray]:
        """Numbers of the samples that stand by one row most, of that training row, and of their held-out row."""
        name = next(name for name in made.points if name != "features")
        order = np.argsort(arrays[f"{name}_ratio"], kind="stable")[:PAIRS]
        nearest = Nearest(made.points[name][torch.from_numpy(order)], 1)
        nearest.add(held.points[name])
        return {
            "sample": order,
            "train": arrays[f"{name}_row"][order],
            "held_out": nearest.index[:, 0].numpy(),
            "ratio": arrays[f"{name}_ratio"][order],
        }

    def items(self, reader: Reader, index: np.ndarray) -> np.ndarray:
        """Rows of these numbers as data [N, ...]."""
        return self.view.unscale(reader.get(index)[0])


def _told(reader: Reader, advance: Advance) -> Iterator[tuple[Tensor, Tensor | None]]:
    for x, c in reader.chunks():
        yield x, c
        advance(len(x))


def _prints(items: np.ndarray) -> list[bytes]:
    return [blake2b(np.ascontiguousarray(item).tobytes(), digest_size=16).digest() for item in items]


def _in(prints: list[bytes], known: set[bytes]) -> int:
    return sum(each in known for each in prints)
