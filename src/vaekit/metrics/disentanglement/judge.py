"""How far the dimensions of a latent space are the factors that the data were made from: six scores, by the protocol of
Locatello et al. 2019 (https://arxiv.org/abs/1811.12359)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vaekit.devices import chosen
from vaekit.errors import VaekitError
from vaekit.files import write_text
from vaekit.metrics.codes import Reader, mean_codes
from vaekit.metrics.disentanglement.betavae import betavae
from vaekit.metrics.disentanglement.dci import completeness, dci, disentanglement, trees
from vaekit.metrics.disentanglement.factorvae import factorvae
from vaekit.metrics.disentanglement.information import BINS, entropy, matrix
from vaekit.metrics.disentanglement.mig import mig
from vaekit.metrics.disentanglement.modularity import modularity
from vaekit.metrics.disentanglement.points import TEST, TRAIN, Advance, Points
from vaekit.metrics.disentanglement.sap import gaps, sap
from vaekit.metrics.reading import prepared, progress_bar

if TYPE_CHECKING:
    from vaekit.data import Contract, Split
    from vaekit.model import VAE

SCHEMA = 1
FEWEST = 100  # rows; from fewer, a third of which is judged, a score is chance


def judge(
    model: VAE,
    splits: Sequence[Split],
    contract: Contract,
    *,
    seed: int = 0,
    condition: bool = False,
    device: str | None = None,
    progress: bool = False,
    save: str | Path | None = None,
) -> dict[str, Any]:
    """Score the mean codes of all rows of some splits against `Split.factors`, which `contract.factors` names.

    Beside what `scores` gives: the split's name ("all" of several), `rows`, `grid` (whether these are all combinations
    of the factors), latent, seed, data_hash. `save`: a folder that gets `disentanglement.json`. torch's generators stay
    as they were. Raises VaekitError for rows without factors, fewer than 100 rows or two dimensions, fewer than two
    factors that vary, and codes that are not finite.
    """
    refuse(model, splits, contract)
    made, rows = [split.factors for split in splits if split.factors is not None], sum(map(len, splits))
    place = torch.device(chosen(device)) if device is not None else next(model.parameters()).device
    unit = "images" if contract.is_image else "rows"
    with prepared(model, place, seed), progress_bar(rows, progress, unit, "encode") as advance:
        codes = torch.cat(
            [mean_codes(model, Reader(split, contract, place, condition), advance) for split in splits]
        )
    factors, (first, *more) = np.concatenate(made), splits
    found = scores(codes.double().numpy(), factors, contract.factors, seed=seed, progress=progress)
    result = {
        "schema": SCHEMA, "split": "all" if more else first.name, "rows": rows, "source": contract.source,
        "grid": rows == math.prod(contract.factors.values()) == len(np.unique(factors, axis=0)),
        "latent": model.latent, "seed": seed, "data_hash": contract.hash if more else first.hash(contract), **found,
    }  # fmt: skip
    if save is not None:
        write_text(Path(save) / "disentanglement.json", json.dumps(result, indent=2) + "\n")
    return result


def refuse(model: VAE, splits: Sequence[Split], contract: Contract) -> None:
    """Raise VaekitError where these rows cannot be judged, or not by this model."""
    rows = sum(map(len, splits))
    if any(split.factors is None for split in splits) or not contract.factors:
        raise VaekitError(
            f"{contract.source} has no known factors, against which disentanglement is judged; give data that have, "
            "such as sprites"
        )
    if model.latent < 2:
        raise VaekitError(
            f"disentanglement compares latent dimensions, and this run has {model.latent}; train one with two or more"
        )
    if rows < FEWEST:
        raise VaekitError(f"{rows} rows are too few to judge disentanglement on; give at least {FEWEST}")


def scores(
    codes: np.ndarray, factors: np.ndarray, names: Mapping[str, int], *, seed: int = 0, progress: bool = False
) -> dict[str, Any]:
    """Codes [N, D] against the values of their factors int [N, F], from 0, called `names`; greater is better.

    `factors` that vary, with the number of their values (`constant` ones are left out); `points` fitted and judged on;
    `bins`; `mutual_information` [D, F] of bins and factors, nats, and the factors' `entropy` [F]; then a dictionary for
    each score, its number under `score` (of `dci` under the three names), with what it was made from: `mig`,
    `modularity`, `sap`, `dci`, `factorvae`, `betavae`, as their files say.
    Raises VaekitError where fewer than two factors vary.
    """
    points = Points(codes, factors, seed)
    varies = [len(np.unique(values)) > 1 for values in factors[points.train].T]
    kept = [name for name, moves in zip(names, varies, strict=True) if moves]
    if len(kept) < 2:
        what = f"{kept[0]} alone varies" if kept else "none of them varies"
        raise VaekitError(f"disentanglement tells factors apart, and {what} in these rows; give other rows")
    points = Points(codes, factors[:, varies], seed)
    binned = points.train
    information = matrix(codes[binned], points.factors[binned])
    entropies = np.array([entropy(values) for values in points.factors[binned].T])
    gap, single = mig(information, entropies), modularity(information)
    with progress_bar(work(points), progress, "steps", "score") as advance:
        votes, active = factorvae(points, advance)
        pairs = betavae(points, advance)
        alone = sap(points, _weighed(advance, 50))
        importance, told = dci(points, _weighed(advance, 50))
    return {
        "factors": {name: names[name] for name in kept},
        "constant": [name for name in names if name not in kept],
        "points": {"train": len(points.train), "test": len(points.test)},
        "bins": BINS,
        "mutual_information": information.tolist(),
        "entropy": entropies.tolist(),
        "mig": {"score": float(gap.mean()), "gaps": gap.tolist()},
        "modularity": {"score": float(single.mean()), "dimensions": single.tolist()},
        "sap": {"score": float(gaps(alone).mean()), "gaps": gaps(alone).tolist(), "accuracy": alone.tolist()},
        "dci": {
            "disentanglement": disentanglement(importance),
            "completeness": completeness(importance),
            "informativeness": float(told.mean()),
            "accuracy": told.tolist(),
            "importance": importance.tolist(),
        },
        "factorvae": {"score": votes, "active": active.tolist()},
        "betavae": {"score": pairs},
    }


def work(points: Points) -> int:
    """Steps of a bar: one a vote, and 50 a classifier of one dimension or a tree, which take about as long."""
    return 2 * (TRAIN + TEST) + 50 * (points.codes.shape[1] * points.factors.shape[1] + trees(points))


def _weighed(advance: Advance, weight: int) -> Advance:
    return lambda n: advance(n * weight)
