"""How near samples come to held-out rows, by what a small network sees in them, beside how near training rows come."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vaekit.devices import chosen as device_of
from vaekit.errors import VaekitError
from vaekit.files import write_text
from vaekit.metrics.codes import Reader, chosen, mean_codes, subset
from vaekit.metrics.decoded import Decoder, Eye, Look, looked_at
from vaekit.metrics.discrepancy import kernel_distance
from vaekit.metrics.features import features_of
from vaekit.metrics.frechet import frechet, spread
from vaekit.metrics.inception import InceptionFeatures
from vaekit.metrics.manifolds import K, coverages
from vaekit.metrics.reading import prepared, progress_bar
from vaekit.model import VAE

if TYPE_CHECKING:
    from vaekit.data import Contract, Split

SCHEMA = 1
ROWS = 10_000  # items of a set


def samples(
    model: VAE,
    split: Split,
    train: Split,
    contract: Contract,
    *,
    seed: int = 0,
    condition: bool = False,
    device: str | torch.device | None = None,
    inception: str | Path | None = None,
    progress: bool = False,
    save: str | Path | None = None,
) -> dict[str, Any]:
    """Judge a model's samples: the object of `vaekit evaluate RUN --what samples --json`.

    `items` holds sets of `n` items each (at most 10,000; as many as the split and the training rows both have) against n
    rows of the split: `floor`, training rows, which a perfect model would read; `samples`, from the prior; and where
    there is a latent `reconstructions` of the floor's rows, which decoding alone tells from it. `are` says whether
    items are draws of p(x given z), as of bits, or its centres. Of each set, by `features` (`features.features_of`):

    - `frechet` (`frechet.frechet`), lower is better; of features of the tool's own, so never an FID; the floor's has its
      `frechet_spread` (`frechet.spread`), for what lies below the floor by less is no better than new data;
    - `kernel` (`discrepancy.kernel_distance`), lower is better, `value` and `spread`;
    - `precision`, `recall`, `density`, `coverage` (`manifolds.coverages`), higher is better;
    - `confidence`, of the classifier, where there is one;
    - `fid`, where `inception` is a file of the network's weights (`inception.InceptionFeatures`), whose SHA-256 the
      result then holds: the Fréchet distance by its 2,048 features. It falls with n, so it compares with an FID at the
      same n of the same rows alone.

    Features that part classes may let noise pass for an item: read `precision` with `density` and the distances.

    `save`: a folder that gets `samples.json`. torch's generators stay as they were. Raises VaekitError for an empty
    split, fewer than seven rows of either, a device that is not here, and weights that are not Inception's.
    """
    n = min(len(split), len(train), ROWS)
    if n <= K + 1:
        raise VaekitError(
            f"{n} rows of the {split.name} or training split; samples are judged by {K + 2} at least"
        )
    frozen = split.frozen(contract)
    judged = subset(frozen, chosen(len(split), n, seed))
    taught = subset(train, chosen(len(train), n, seed)).frozen(contract)
    place = torch.device(device_of(device)) if device is not None else next(model.parameters()).device
    eye = None if inception is None else InceptionFeatures(Path(inception), contract, place)
    features = features_of(train, contract, progress)
    coded = bool(model.latent)
    work = n * ((3 + coded) * (1 if eye is None else 2) + coded)
    with (
        prepared(model, place, seed),
        progress_bar(work, progress, "images" if contract.is_image else "rows", "samples") as advance,
    ):
        rows, again = Reader(judged, contract, place, condition), Reader(taught, contract, place, condition)
        codes = {"samples": torch.cat([model.draw(len(x), c).cpu() for x, c in rows.chunks()])}
        if coded:
            codes["reconstructions"] = mean_codes(model, again, advance)

        def seen(by: Eye) -> dict[str, Look]:
            found = {"rows": looked_at(by, rows, advance), "floor": looked_at(by, again, advance)}
            for name, z in codes.items():
                reader = rows if name == "samples" else again
                found[name] = Decoder(model, contract, reader).look(z, by, advance)
            return found

        sets = seen(features)
        wide = None if eye is None else seen(eye)
    real = sets.pop("rows")
    items = {name: compared(each, real, seed) for name, each in sets.items()}
    items["floor"]["frechet_spread"] = spread(sets["floor"].features, real.features, seed)
    if wide is not None:
        for name in items:
            items[name]["fid"] = frechet(wide[name].features, wide["rows"].features)
    label = judged.label
    result = {
        "schema": SCHEMA, "split": split.name, "latent": model.latent, "seed": seed,
        "data_hash": frozen.hash(contract),
        "features": {
            "kind": features.kind, "dimensions": real.features.shape[1], "key": features.name,
            "accuracy": None if label is None else real.accuracy(label), "confidence": real.confidence,
        },
        "inception": None if eye is None else eye.digest,
        "items": {"n": n, "are": "draws" if contract.kind == "binary" else "centres"} | items,
    }  # fmt: skip
    if save is not None:
        write_text(Path(save) / "samples.json", json.dumps(result, indent=2) + "\n")
    return result


def compared(made: Look, real: Look, seed: int) -> dict[str, Any]:
    """All that tells a set of items from as many real ones."""
    a, b = made.features, real.features
    distances = {"frechet": frechet(a, b), "kernel": kernel_distance(a, b, seed)}
    return distances | coverages(a, b) | {"confidence": made.confidence}
