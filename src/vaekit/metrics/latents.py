"""What a latent space is worth beside its bound: dimensions, cloud and holes, what codes tell, and what is decoded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vaekit.devices import chosen as device_of
from vaekit.errors import VaekitError
from vaekit.files import atomic, write_text
from vaekit.metrics import dimensions
from vaekit.metrics.aggregate import against_prior
from vaekit.metrics.codes import (
    Advance,
    Cloud,
    Reader,
    chosen,
    cloud,
    gaussian_like,
    mean_codes,
    spread,
    subset,
)
from vaekit.metrics.decoded import Decoder, looked_at
from vaekit.metrics.features import features_of
from vaekit.metrics.holes import holes
from vaekit.metrics.manifolds import K
from vaekit.metrics.probes import probes
from vaekit.metrics.reading import prepared, progress_bar
from vaekit.model import VAE

if TYPE_CHECKING:
    from vaekit.data import Contract, Split
    from vaekit.metrics.features import Features

SCHEMA = 3
READ = 2, 3  # versions whose names all mean what they do here; 2 lacks `dimensions` and `prior`
ROWS = 10_000  # that are encoded, of the split and of the training rows
DECODED = 5_000  # items of a set whose features are compared, and points of one whose holes are told
MOVED = 1_000  # codes whose neighbourhood is decoded


def latents(
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
    """Judge a model's latent space on a split; `train`: its training rows. What there is no number for is null.

    - `error` (`Decoder.errors`): `mean_squared` and its root, of the centre of p(x given the mean code), over `rows`.
    - `cloud` (`codes.spread`), `holes` (`holes.holes`) and `prior` (`aggregate.against_prior`): codes against the prior.
    - `dimensions` (`dimensions.dimensions`): KL, mutual information and activity of each, the rate taken apart.
    - `probes` (`probes.probes`): accuracy of k-NN and of a linear classifier on mean codes, where there are labels.
    - `features`: what items are seen with (`features.features_of`), and how well a classifier tells the split's rows.
    - `items`: sets of `n` items each against as many rows of the split (`Look.against`): training rows (`floor`, what a
      perfect model would read), `reconstructions` of those rows, `samples` decoded from the prior, `gaussian` from the
      Gaussian with the codes' mean and covariance (Ghosh et al. 2020, https://arxiv.org/abs/1903.12436), and
      `midpoints`, half-way on the line between the mean codes of two rows drawn at random, under the first one's label.
    - `smoothness` (`Decoder.smoothness`): how far items move with their codes.

    A model without latent dimensions has `items` alone. `save`: a folder that gets `latents.json` and `latents.npz`
    (squared_error [rows], `index` of the rows). torch's generators stay as they were. Raises VaekitError for an empty
    split, fewer than seven rows of either, a device that is not here, and codes that are not finite.
    """
    fewest = min(len(split), len(train))
    if fewest <= K + 1:
        raise VaekitError(
            f"{fewest} rows of the {split.name} or training split; a cloud of codes needs at least {K + 2}"
        )
    frozen, index = split.frozen(contract), chosen(len(split), ROWS, seed)
    rows = Chosen(
        judged=subset(frozen, index),
        order=np.random.default_rng(seed).permutation(len(index))[: min(fewest, DECODED)],
        taught=subset(train, chosen(len(train), ROWS, seed)).frozen(contract),
    )
    features = features_of(train, contract, progress)
    place = torch.device(device_of(device)) if device is not None else next(model.parameters()).device
    unit = "images" if contract.is_image else "rows"
    error = None
    with (
        prepared(model, place, seed),
        progress_bar(rows.work(model.latent), progress, unit, "latents") as advance,
    ):
        judge = Judge(model, contract, rows, features, condition, place, seed, advance)
        found, codes = judge.codes() if model.latent else ({}, None)
        if codes is not None:
            error = judge.errors(codes)
            found["error"] = {
                "mean_squared": float(error.mean()),
                "root_mean_squared": float(error.mean().sqrt()),
            }
            found["smoothness"] = judge.smoothness(codes)
        found |= judge.items(codes)
        if codes is not None:
            found["dimensions"] = judge.dimensions(codes)
    names = "error", "cloud", "holes", "prior", "dimensions", "probes", "features", "items", "smoothness"
    result = {
        "schema": SCHEMA, "split": split.name, "rows": len(rows.judged), "latent": model.latent, "seed": seed,
        "data_hash": frozen.hash(contract), **{name: found.get(name) for name in names},
    }  # fmt: skip
    if save is not None:
        _write(result, error, index, Path(save))
    return result


@dataclass(frozen=True)
class Chosen:
    """The rows of a judgement: those judged, `order` of those that are decoded, and the training rows."""

    judged: Split
    order: np.ndarray
    taught: Split

    def work(self, latent: int) -> int:
        """Rows that pass through a net, in all."""
        n = len(self.order)
        if not latent:
            return 3 * n
        labelled = self.judged.label is not None and self.taught.label is not None
        encoded = 2 * len(self.judged) + (len(self.taught) if labelled else 0)
        cut = min(n, dimensions.ROWS)
        return encoded + cut + 6 * n + (3 if latent == 2 else 2) * min(n, MOVED)


class Judge:
    """One pass over the rows; the caller has set eval mode, device and seed."""

    def __init__(
        self, model: VAE, contract: Contract, rows: Chosen, features: Features, condition: bool, device: torch.device,
        seed: int, advance: Advance,
    ) -> None:  # fmt: skip
        self.model, self.contract, self.rows, self.features = model, contract, rows, features
        self.seed, self.advance = seed, advance

        def reader(split: Split, index: np.ndarray | None = None, given: bool = condition) -> Reader:
            return Reader(split if index is None else subset(split, index), contract, device, given)

        self.judged, self.taught = reader(rows.judged), reader(rows.taught)
        self.few, self.moved = reader(rows.judged, rows.order), reader(rows.judged, rows.order[:MOVED])
        self.cut = reader(rows.judged, rows.order[: dimensions.ROWS])
        floor = chosen(len(rows.taught), len(rows.order), seed)
        self.floor = reader(rows.taught, floor, given=False)

    def codes(self) -> tuple[dict[str, Any], Cloud]:
        """What the codes alone tell, and the codes."""
        found = cloud(self.model, self.judged, self.advance)
        few = torch.from_numpy(self.rows.order)
        drawn, prior = found.drawn[few], found.prior[few]
        others = torch.cat([self.model.draw(len(x), c).cpu() for x, c in self.few.chunks()])
        told: dict[str, Any] = {
            "cloud": spread(found),
            "holes": holes(drawn, prior, others, gaussian_like(drawn, len(drawn))),
            "prior": against_prior(drawn, prior, self.seed),
        }
        if self.rows.judged.label is not None and self.rows.taught.label is not None:
            taught = mean_codes(self.model, self.taught, self.advance)
            told["probes"] = probes(
                taught.numpy(), self.rows.taught.label, found.mean.numpy(), self.rows.judged.label
            )
        return told, found

    def dimensions(self, codes: Cloud) -> dict[str, Any]:
        return dimensions.dimensions(self.model, self.cut, codes.mean, self.advance)

    def errors(self, codes: Cloud) -> Tensor:
        return Decoder(self.model, self.contract, self.judged).errors(codes.mean, self.advance)

    def smoothness(self, codes: Cloud) -> dict[str, Any]:
        near = codes.mean[torch.from_numpy(self.rows.order[:MOVED])]
        return Decoder(self.model, self.contract, self.moved).smoothness(near, self.seed, self.advance)

    def items(self, codes: Cloud | None) -> dict[str, Any]:
        """What decoded items look like beside real ones, and what they are looked at with."""
        decoder, n = Decoder(self.model, self.contract, self.few), len(self.rows.order)
        real = looked_at(self.features, self.few, self.advance)
        sets = {"floor": looked_at(self.features, self.floor, self.advance)}
        for name, z in self._points(codes).items():
            sets[name] = decoder.look(z, self.features, self.advance)
        label = self.rows.judged.label
        seen = {
            "kind": self.features.kind,
            "dimensions": real.features.shape[1],
            "accuracy": None if label is None else real.accuracy(label[self.rows.order]),
        }
        compared = {name: each.against(real) for name, each in sets.items()}
        return {
            "features": seen | {"confidence": real.confidence, "key": self.features.name},
            "items": {"n": n, "are": "draws" if decoder.drawn else "centres", **compared},
        }

    def _points(self, codes: Cloud | None) -> dict[str, Tensor]:
        """Sets of codes to decode, [n, D] each."""
        if codes is None:
            return {"samples": torch.cat([self.model.draw(len(x), c).cpu() for x, c in self.few.chunks()])}
        n = len(self.rows.order)
        first = torch.from_numpy(self.rows.order)
        second = first.roll(1)  # the order is drawn, so the row before is any row
        return {
            "reconstructions": codes.mean[first],
            "samples": codes.prior[first],
            "gaussian": gaussian_like(codes.drawn, n),
            "midpoints": (codes.mean[first] + codes.mean[second]) / 2,
        }


def _write(result: dict[str, Any], error: Tensor | None, index: np.ndarray, folder: Path) -> None:
    """latents.npz first: where latents.json is, it is too."""
    squared = np.empty(0) if error is None else error.numpy()
    with atomic(folder / "latents.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, index=index, squared_error=squared)
    write_text(folder / "latents.json", json.dumps(result, indent=2) + "\n")
