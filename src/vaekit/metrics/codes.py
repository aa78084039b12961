"""The cloud of codes: where rows land in the latent space, beside the prior that samples are drawn from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vaekit.data import Batches, Preparation
from vaekit.errors import VaekitError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vaekit.data import Contract, Split
    from vaekit.model import VAE

INSIDE = 0.9973  # of the prior: what lies within 3 standard deviations in one dimension
Advance = Callable[[int], None]


class Reader:
    """Rows of a split in model units, and the one-hot labels where the model is given them."""

    def __init__(self, split: Split, contract: Contract, device: torch.device, condition: bool) -> None:
        self._batches = Batches(split, contract, device, condition=condition)
        self._preparation = Preparation(contract).to(device)
        self._step = max(1, min(512, (1 << 23) // int(np.prod(contract.shape))))

    def __len__(self) -> int:
        return len(self._batches)

    def get(self, index: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """x [B, ...] in model units, c [B, n] or None."""
        raw, c = self._batches.get(index)
        return self._preparation(raw), c

    def chunks(self, order: np.ndarray | None = None) -> Iterator[tuple[Tensor, Tensor | None]]:
        """All rows, or those of `order`, at most 512 at a time."""
        order = np.arange(len(self)) if order is None else order
        for start in range(0, len(order), self._step):
            yield self.get(order[start : start + self._step])


@dataclass(frozen=True)
class Cloud:
    """Codes of N rows, on the CPU: their means, a draw of q(z given x) of each (the mean of a point posterior), and
    as many draws of the prior under the same conditions; each [N, D]."""

    mean: Tensor
    drawn: Tensor
    prior: Tensor


def chosen(n: int, most: int, seed: int) -> np.ndarray:
    """Numbers of at most so many of n rows, drawn by the seed, in order."""
    return np.arange(n) if n <= most else np.sort(np.random.default_rng(seed).permutation(n)[:most])


def subset(split: Split, index: np.ndarray) -> Split:
    """Rows of a split, copied."""
    label = None if split.label is None else split.label[index]
    return replace(split, x=split.rows(index), label=label, places=None, factors=None)


def mean_codes(model: VAE, reader: Reader, advance: Advance) -> Tensor:
    """The mean code of every row [N, D], on the CPU."""
    means = []
    for x, c in reader.chunks():
        means.append(model.encode(x, c).mean.cpu())
        advance(len(x))
    return _finite(torch.cat(means))


def cloud(model: VAE, reader: Reader, advance: Advance) -> Cloud:
    """Codes and prior draws of every row; from torch's generator, which the caller has seeded."""
    means, drawn, prior = [], [], []
    for x, c in reader.chunks():
        q = model.encode(x, c)
        means.append(q.mean.cpu())
        drawn.append(q.sample().cpu())
        prior.append(model.draw(len(x), c).cpu())
        advance(len(x))
    return Cloud(_finite(torch.cat(means)), _finite(torch.cat(drawn)), _finite(torch.cat(prior)))


def spread(found: Cloud) -> dict[str, Any]:
    """The cloud of drawn codes, the aggregate posterior, dimension by dimension, and how much of it the prior misses.

    `mean`, `standard_deviation`, `least`, `greatest` [D]. `outside`: the share of codes farther from the prior's mean,
    in the prior's standard deviations, than 99.73 % of the prior's own draws, which in one dimension is 3 of them; a
    cloud that is the prior reads 0.0027.
    """
    z, p = found.drawn.double(), found.prior.double()
    centre, sigma = p.mean(0), p.std(0, correction=0).clamp_min(1e-12)
    reach = ((p - centre) / sigma).norm(dim=1).quantile(INSIDE)
    return {
        "n": len(z),
        "mean": z.mean(0).tolist(),
        "standard_deviation": z.std(0, correction=0).tolist(),
        "least": z.amin(0).tolist(),
        "greatest": z.amax(0).tolist(),
        "outside": float((((z - centre) / sigma).norm(dim=1) > reach).double().mean()),
    }


def gaussian_like(points: Tensor, n: int) -> Tensor:
    """n draws [n, D] of the Gaussian with the mean and covariance of points [N, D], from torch's generator."""
    z = points.double()
    centre = z.mean(0)
    values, vectors = torch.linalg.eigh((z - centre).T @ (z - centre) / len(z))
    noise = torch.randn(n, z.shape[1], dtype=torch.float64)
    return (centre + noise * values.clamp_min(0).sqrt() @ vectors.T).to(points.dtype)


def _finite(codes: Tensor) -> Tensor:
    broken = ~codes.isfinite().all(1)
    if broken.any():
        raise VaekitError(
            f"the codes of {int(broken.sum())} of {len(codes)} rows are not finite; the weights are broken, so load an "
            "earlier checkpoint"
        )
    return codes
