"""Clouds of codes: how far from the prior's, where one is and the other is not, and their picture in a plane."""

from __future__ import annotations

import warnings

import numpy as np
import torch

NEIGHBOURS = 15  # of a point, which UMAP keeps near it
COMPARED = 2000  # points: a distance matrix of four million


def distances(codes: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Earth mover's distance of codes [N, D] from draws of the prior [N, D] along each dimension [D], in standard
    deviations of the prior: how far, on average, a code would have to move."""
    moved = np.abs(np.sort(codes, 0) - np.sort(prior, 0)).mean(0)
    return moved / np.maximum(prior.std(0), 1e-12)


def outside(points: np.ndarray, cloud: np.ndarray, prior: np.ndarray) -> float:
    """The share of points [N, D] that lie where `cloud` [M, D] is not: farther from its nearest point than 99 % of the
    draws of the prior [P, D] are from theirs. 0.01 where all come from one law."""
    a, b, p = (torch.from_numpy(_spread(x)).double() for x in (points, cloud, prior))
    own = torch.cdist(p, p)
    own.fill_diagonal_(float("inf"))
    reach = torch.quantile(own.min(1).values, 0.99)
    return float((torch.cdist(a, b).min(1).values > reach).double().mean())


def _spread(points: np.ndarray) -> np.ndarray:
    """At most `COMPARED` of the points, evenly spread: rows often stand by class."""
    return points[np.linspace(0, len(points) - 1, min(len(points), COMPARED)).round().astype(np.int64)]


def smooth_density(values: np.ndarray, bins: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """A density of many values: a fine histogram under a narrow Gaussian window."""
    low, high = np.quantile(values, [0.0005, 0.9995])
    pad = 0.1 * (high - low) or 0.5
    height, edges = np.histogram(values, bins, (low - pad, high + pad), density=True)
    window = np.exp(-0.5 * (np.arange(-8, 9) / 2.5) ** 2)
    return (edges[1:] + edges[:-1]) / 2, np.convolve(height, window / window.sum(), "same")


def umap(codes: np.ndarray) -> np.ndarray | None:
    """Codes [N, D] in a plane that keeps neighbours together [N, 2] (McInnes et al. 2018,
    https://arxiv.org/abs/1802.03426). The same each time. None without umap-learn, and for very few codes."""
    if len(codes) <= NEIGHBOURS:
        return None
    try:
        from umap import UMAP
    except ImportError:
        return None

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a seed costs threads
        made = UMAP(n_neighbors=NEIGHBOURS, init="pca", n_epochs=200, random_state=0)
        return np.asarray(made.fit_transform(codes))
