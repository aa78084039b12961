"""What comes out of codes: how true decoded items are to the data, how near to their rows, and how smoothly they move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vaekit.errors import VaekitError
from vaekit.measures import double
from vaekit.metrics.codes import Advance, Reader
from vaekit.metrics.frechet import frechet

if TYPE_CHECKING:
    from vaekit.data import Contract
    from vaekit.distributions import Distribution
    from vaekit.model import VAE

Eye = Callable[[Tensor], tuple[Tensor, Tensor | None]]  # as `features.Features`: x -> features, probabilities
STEP = 0.1
PAIR = ((2.0, -2.0), (2.1, -2.1))  # the two points of the plane that tutorials compare


@dataclass(frozen=True)
class Look:
    """Features [N, d] of items, and class probabilities [N, labels] where a classifier gives them."""

    features: Tensor
    probabilities: Tensor | None

    @property
    def confidence(self) -> float | None:
        """The mean over items of the probability of the likeliest label."""
        return None if self.probabilities is None else float(self.probabilities.amax(1).double().mean())

    def accuracy(self, label: np.ndarray) -> float | None:
        """How many of the items' labels [N] a classifier gets right; those below 0 are unknown and stay out."""
        known = label >= 0
        if self.probabilities is None or not known.any():
            return None
        return float((self.probabilities.argmax(1).numpy() == label)[known].mean())

    def against(self, real: Look) -> dict[str, Any]:
        """How far these items are from real ones, of which there are as many."""
        return {"frechet": frechet(self.features, real.features), "confidence": self.confidence}


def looked_at(features: Eye, reader: Reader, advance: Advance) -> Look:
    """Rows as they are."""
    seen = []
    for x, _ in reader.chunks():
        seen.append(features(x))
        advance(len(x))
    return _joined(seen)


class Decoder:
    """A model's decoder, and its items as `item` gives them: drawn where the data are bits."""

    def __init__(self, model: VAE, contract: Contract, reader: Reader) -> None:
        self.model, self.contract, self.reader = model, contract, reader
        self.drawn = contract.kind == "binary"

    def look(self, z: Tensor, features: Eye, advance: Advance) -> Look:
        """Decode z [N, D], the n-th under the condition of row n."""
        seen, start = [], 0
        for x, c in self.reader.chunks():
            p_x = self.model.decode(z[start : start + len(x)].to(x.device), c)
            seen.append(features(item(p_x, self.drawn)))
            start += len(x)
            advance(len(x))
        return _joined(seen)

    def errors(self, z: Tensor, advance: Advance) -> Tensor:
        """Squared error of the centre of p(x given z) [N], a mean over the elements of a row; on the CPU, float64.

        In model units, those of [0, 1] where grey values were scaled elsewhere. Of categories the share that is wrong.
        """
        found, start = [], 0
        for x, c in self.reader.chunks():
            centre = self.model.decode(z[start : start + len(x)].to(x.device), c).centre
            found.append(gap(centre, x, self.contract).cpu())
            start += len(x)
            advance(len(x))
        return torch.cat(found)

    def smoothness(self, z: Tensor, seed: int, advance: Advance) -> dict[str, Any]:
        """How far an item moves when its code z [N, D] does: the root mean square change of an element of the centre of
        p(x given z), in the units of `errors`, averaged over codes, each moved once in a direction of its own.

        `relative`: moved by a tenth of `sigma`, the cloud's own standard deviation (the root of its mean variance);
        `absolute`: by 0.1. `pair`: from (2, -2) to (2.1, -2.1), for D = 2.
        """
        sigma = float(z.double().var(0, correction=0).mean().sqrt())
        direction = torch.nn.functional.normalize(
            torch.randn(z.shape, generator=torch.Generator().manual_seed(seed))
        )
        found: dict[str, Any] = {"n": len(z), "sigma": sigma, "step": STEP}
        for name, step in (("relative", STEP * sigma), ("absolute", STEP)):
            found[name] = self._moved(z, z + step * direction, seed, advance)
        a, b = (torch.tensor(point).expand(len(z), -1) for point in PAIR)
        found["pair"] = self._moved(a, b, seed, advance) if z.shape[1] == 2 else None
        return found

    def _moved(self, a: Tensor, b: Tensor, seed: int, advance: Advance) -> float:
        """Mean change from the items of a to those of b, row for row."""
        total, start = 0.0, 0
        for x, c in self.reader.chunks():
            here = slice(start, start := start + len(x))
            ends = []
            for z in (a, b):
                with torch.random.fork_rng():  # a centre that is a draw takes the same noise at both ends
                    torch.manual_seed(seed)
                    ends.append(self.model.decode(z[here].to(x.device), c).centre)
            total += float(gap(ends[0], ends[1], self.contract).sqrt().sum())
            advance(len(x))
        return total / len(self.reader)


def item(p_x: Distribution, drawn: bool) -> Tensor:
    """Items [B, ...] of laws p(x given z): draws, or centres, which is what pictures show.

    Raises VaekitError where a law gives NaN or infinity, which a draw of bits would hide.
    """
    x = p_x.sample() if drawn else p_x.centre
    broken = ~(p_x.log_prob(x)[:, None] if drawn else x.flatten(1)).isfinite().all(1)
    if broken.any():
        raise VaekitError(
            f"{int(broken.sum())} of {len(x)} decoded items are not finite; the weights are broken, so load an earlier "
            "checkpoint"
        )
    return x


def gap(a: Tensor, b: Tensor, contract: Contract) -> Tensor:
    """Squared distance of items [B, ...] in model units, a mean over elements [B], float64.

    In the units of [0, 1] where grey values were scaled elsewhere. Of categories the share that differs.
    """
    off = double(a - b).flatten(1)
    if contract.kind == "categories":
        return (off.abs() > 0.5 / contract.levels).double().mean(1)
    unit = contract.divisor[0] / (contract.high - contract.low) if contract.rescaled else 1.0
    return (off * unit).square().mean(1)


def _joined(seen: list[tuple[Tensor, Tensor | None]]) -> Look:
    given = [probabilities for _, probabilities in seen if probabilities is not None]
    return Look(torch.cat([features for features, _ in seen]), torch.cat(given) if given else None)
