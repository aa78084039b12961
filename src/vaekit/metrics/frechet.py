"""The Fréchet distance between two sets of features, each taken for a Gaussian."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

DEALS = 20


def frechet(a: Tensor, b: Tensor) -> float:
    """|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)) of features [N, d] and [M, d], in float64.

    Dowson and Landau 1982, https://doi.org/10.1016/0047-259X(82)90077-X, eq. 4. The trace of the root is the sum of
    the singular values of S_a^(1/2) S_b^(1/2), with the roots from eigenvalues clipped at 0: that needs no inverse, and
    stays real for fewer rows than features. It falls with N, so compare at one N, beside the distance of two sets of
    real rows. On features of the tool's own it is no FID, whose features are Inception's.
    """
    a, b = a.double(), b.double()
    off = [(x - x.mean(0)) / math.sqrt(max(len(x) - 1, 1)) for x in (a, b)]
    # of fewer rows than features: the same singular values, of a smaller matrix
    if max(len(a), len(b)) < a.shape[1]:
        cross = torch.linalg.svdvals(off[0] @ off[1].T).sum()
    else:
        roots = [_root(x.T @ x) for x in off]
        cross = torch.linalg.svdvals(roots[0] @ roots[1]).sum()
    spread = sum(x.square().sum() for x in off)  # tr S_a + tr S_b
    return float(((a.mean(0) - b.mean(0)).square().sum() + spread - 2 * cross).clamp_min(0))


def spread(a: Tensor, b: Tensor, seed: int) -> float:
    """How far the distance of two sets [N, d] of one law may be off by which rows they are: its standard deviation over
    20 ways of dealing the rows of both into two sets of N."""
    both, rng = torch.cat((a, b)), np.random.default_rng(seed)
    deals = [torch.from_numpy(rng.permutation(len(both))) for _ in range(DEALS)]
    return float(np.std([frechet(both[order[: len(a)]], both[order[len(a) :]]) for order in deals], ddof=1))


def _root(matrix: Tensor) -> Tensor:
    """The symmetric root of a symmetric matrix without negative eigenvalues [d, d]."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.T
