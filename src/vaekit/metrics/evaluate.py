"""How good is the model, in nats an image: ELBO, rate, distortion, importance-weighted NLL, active units."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vaekit.data import known_name
from vaekit.devices import chosen
from vaekit.errors import VaekitError
from vaekit.files import atomic, write_text
from vaekit.measures import active_units
from vaekit.metrics.ais import Annealed, Annealing, annealed, refuse
from vaekit.metrics.codes import subset
from vaekit.metrics.reading import Readings, checked, gives_density, prepared, read, rows_of
from vaekit.metrics.weighing import Precision
from vaekit.model import VAE

if TYPE_CHECKING:
    from vaekit.data import Contract, Split

# An effective sample size n says that the average of the weights has a relative variance of about 1/n, and to second
# order the bound lies half of that under log p(x) (Domke and Sheldon 2018, https://arxiv.org/abs/1808.09034, theorem 3):
# 0.05 nats at ten, and under ten the series itself says nothing. More is no proof: a posterior that misses a part of the
# truth gives weights that are alike, and annealing finds out.
FEW = 10


def evaluate(
    model: VAE,
    split: Split,
    contract: Contract,
    *,
    k: Sequence[int] = (1, 10, 100, 1000),
    draws: int | None = None,
    seed: int = 0,
    condition: bool = False,
    device: str | torch.device | None = None,
    memory: int | None = None,
    precision: Precision = "fp32",
    progress: bool = False,
    save: str | Path | None = None,
    about: Mapping[str, Any] | None = None,
    ais: Annealing | None = None,
) -> dict[str, Any]:
    """Judge a model on a split: the object that `vaekit evaluate --json` prints, in nats an image.

    `k`: the numbers of draws of the importance-weighted bounds; all read the first k draws of one stream.
    `draws`: how many draws the distortion (and a rate without closed form) is averaged over; at least max(k)
    where there is an NLL, 10 where there is none. `memory`: bytes that the decoder's widest layer may take
    at a time on each core (default 1.5 MiB on a CPU, so that it stays in the cache, 512 MiB elsewhere). `precision`:
    what draws are decoded in, "bf16" for a model that was trained in it; encoder, densities and sums are not rounded.
    `save`: a folder that gets `evaluation.json` and `per_image.npz`. `about`: what the caller knows of the model, which
    the object then says too. `ais`: anneal log p(x) of some rows, to know how far the bound lies from it, both
    decoded in fp32; what comes before is saved first.

    Draws are decoded on as many cores as torch has threads. Neither their number nor `memory` changes a draw.

    The same arguments on the same machine give the same numbers; torch's global generators stay as they were.
    Raises VaekitError for an empty split, a k below 1, a device that is not here, and a model that gives NaN.
    """
    if not len(split):
        raise VaekitError(f"the {split.name} split has no rows; nothing to evaluate")
    if draws is not None and draws < 1:
        raise VaekitError(f"draws is {draws}; give at least 1")
    frozen = split.frozen(contract)
    place = torch.device(chosen(device)) if device is not None else next(model.parameters()).device
    if ais is not None:
        refuse_annealing(model, contract, ais)
    with prepared(model, place, seed):
        seen = read(
            model, frozen, contract, k=k, draws=draws, condition=condition, device=place, memory=memory,
            precision=precision, progress=progress,
        )  # fmt: skip
    checked(seen)
    known = dict(about or {})
    refitted = str(known.get("encoder")).startswith("refitted")
    untried = ["more draws (--k)", *["--ais 100"] * (ais is None), *["--refit-encoder"] * (not refitted)]
    result = summary(model, seen, frozen, contract, seed, untried) | known
    if save is not None:
        write(result, seen, Path(save))
    if ais is None:
        return result
    with prepared(model, place, seed):
        rows = rows_of(frozen, contract, place, condition)
        found = annealed(model, rows, len(frozen), ais, seed=seed, memory=memory, progress=progress)
    best = None if seen.bounds is None else -seen.bounds[-1][found.index]
    if best is not None and precision != "fp32":
        # annealing is not rounded, so neither is what it is compared with
        some = subset(frozen, found.index)
        with prepared(model, place, seed):
            again = read(
                model, some, contract, k=seen.k[-1:], draws=None, condition=condition, device=place, memory=memory,
                precision="fp32", progress=progress,
            )  # fmt: skip
        assert again.bounds is not None
        best = -again.bounds[-1]
    result["ais"] = found.summary(ais, seen.k[-1], best)
    if save is not None:
        write(result, seen, Path(save), found)
    return result


def refuse_annealing(model: VAE, contract: Contract, ais: Annealing) -> None:
    """Raise VaekitError where log p(x) of such data cannot be annealed."""
    if not gives_density(model, contract):
        raise VaekitError(f"--ais needs a likelihood, and {_cross_entropy(model, contract)}")
    refuse(model, ais)


def summary(
    model: VAE, seen: Readings, split: Split, contract: Contract, seed: int, untried: Sequence[str]
) -> dict[str, Any]:
    """The JSON object. What the model has no number for is null, and `reason` says why. `untried`: what would tell more
    of a bound that rests on few draws."""
    dimensions = math.prod(contract.shape)
    nll = _nll(seen, exact=not model.latent)
    active = active_units(torch.from_numpy(seen.variance_of_means))
    elbo = seen.elbo
    data_hash = split.hash(contract)
    measure = measure_of(model, contract)
    return {
        "split": split.name,
        "images": len(split),
        "units": f"nats per {'image' if contract.is_image else 'row'}",
        "elbo": None if elbo is None else _number(elbo.mean()),
        "elbo_standard_error": None if elbo is None else _standard_error(elbo),
        "rate": None if seen.rate is None else _number(seen.rate.mean()),
        "distortion": _number(seen.distortion.mean()),
        "nll": nll,
        "bits_per_dimension": (
            nll[-1]["value"] / (dimensions * math.log(2))
            if nll and measure == "probability" and nll[-1]["value"] is not None
            else None
        ),
        "reason": _reason(model, seen, contract),
        "warnings": _warnings(model, nll, contract, untried),
        "active_units": int(active.sum()),
        "latent": len(active),
        "kl_per_dimension": None if seen.kl_per_dimension is None else seen.kl_per_dimension.tolist(),
        "mutual_information": (
            None
            if seen.information is None
            else {
                "value": seen.information,
                "at_most": math.log(seen.information_rows),
                "images": seen.information_rows,
            }
        ),
        "draws": seen.draws,
        "precision": seen.precision,
        "seed": seed,
        "likelihood": type(model.likelihood).__name__,
        "decoder": "factorised" if getattr(model.likelihood, "factorised", True) else "autoregressive",
        "measure": measure,
        "kind": contract.kind,
        "binarized": contract.binarize,
        "dequantized": None,  # no room adds noise to whole numbers: they are weighed as they are
        "data_hash": data_hash,
        "data_name": known_name(data_hash),
        "source": contract.source,
    }


def write(result: dict[str, Any], seen: Readings, folder: Path, more: Annealed | None = None) -> None:
    """`evaluation.json`, and `per_image.npz`: distortion, rate, elbo [N]; nll and sample sizes [k, N]; the annealed nll
    [n] of the rows `ais_rows` [n]."""
    arrays = {"distortion": seen.distortion, "k": np.array(seen.k)}
    if seen.rate is not None and seen.elbo is not None:
        arrays |= {"rate": seen.rate, "elbo": seen.elbo}
    if seen.bounds is not None and seen.effective_sample_size is not None:
        arrays |= {"nll": -seen.bounds, "effective_sample_size": seen.effective_sample_size}
    if more is not None:
        arrays |= {"ais_nll": -more.bounds, "ais_rows": more.index}
    with atomic(folder / "per_image.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    write_text(folder / "evaluation.json", json.dumps(result, indent=2) + "\n")


def measure_of(model: VAE, contract: Contract) -> str:
    """What exp(-nll) is: a "probability" of whole numbers, a "density" in the data's own units, or, of a likelihood
    that is neither for these data, a "cross-entropy". Only nats of one of them compare."""
    if not gives_density(model, contract):
        return "cross-entropy"
    continuous = not contract.discrete or getattr(model.likelihood, "continuous", False)
    return "density" if continuous else "probability"


def _nll(seen: Readings, exact: bool) -> list[dict[str, Any]] | None:
    """The bounds by k. `exact`: every draw gives log p(x) itself, however few they are."""
    if seen.bounds is None or seen.effective_sample_size is None:
        return None
    return [
        {
            "k": k,
            "value": _number(-bound.mean()),
            "standard_error": _standard_error(bound),
            "effective_sample_size": {
                "median": _number(np.median(size)),
                "p01": _number(np.quantile(size, 0.01)),
            },
            "trusted": exact or bool(np.quantile(size, 0.01) >= FEW),
        }
        for k, bound, size in zip(seen.k, seen.bounds, seen.effective_sample_size, strict=True)
    ]


def _reason(model: VAE, seen: Readings, contract: Contract) -> str | None:
    posterior = type(model.posterior).__name__
    if seen.rate is None:
        return (
            f"{posterior} has no density, so there is no rate, no bound and no NLL; distortion alone is given "
            "(--refit-encoder trains an encoder that has one)"
        )
    if not gives_density(model, contract):
        return (
            f"{_cross_entropy(model, contract)}, so there is no NLL and elbo compares with no likelihood; "
            "--binarize gives an NLL of bits"
        )
    return None


def _warnings(
    model: VAE, nll: list[dict[str, Any]] | None, contract: Contract, untried: Sequence[str]
) -> list[str]:
    """What a reader of the numbers must know, a sentence each."""
    said = []
    if nll and not nll[-1]["trusted"]:
        k, size = nll[-1]["k"], nll[-1]["effective_sample_size"]["p01"]
        some = "" if size is None else f" (effective sample size {size:.1f})"
        unit = "image" if contract.is_image else "row"
        said.append(
            f"1 {unit} in 100 rests on fewer than {FEW} of its {k:,} draws{some}, so that the NLL may be well below this "
            f"bound; {' or '.join(untried)} would tell by how much"
        )
    if contract.discrete and measure_of(model, contract) == "density":
        said.append(
            f"{type(model.likelihood).__name__} gives a density to {contract.kind} data, whole numbers without "
            "dequantisation: it can grow without limit, and compares with no NLL of a probability"
        )
    return said


def _cross_entropy(model: VAE, contract: Contract) -> str:
    return f"{type(model.likelihood).__name__} on {contract.kind} data is a cross-entropy, not a density"


def _standard_error(values: np.ndarray) -> float | None:
    """Standard error of the mean over images; None for one image."""
    return _number(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None


def _number(value: float) -> float | None:
    """A JSON number; infinities, which JSON has not, become null."""
    return float(value) if math.isfinite(value) else None
