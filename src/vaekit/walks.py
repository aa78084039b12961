"""Walks through the latent space: from here to there, along one dimension, over a grid."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from vaekit.distributions import Distribution
from vaekit.errors import VaekitError


def linear(a: Tensor, b: Tensor, steps: int) -> Tensor:
    """From a [..., D] to b [..., D] in a straight line, both ends included: [steps, ..., D]."""
    t = _fractions(a, b, steps)
    return torch.lerp(a, b, t)


def spherical(a: Tensor, b: Tensor, steps: int) -> Tensor:
    """From a [..., D] to b [..., D] along the great circle, the norm changing evenly: [steps, ..., D].

    slerp (Shoemake 1985, https://doi.org/10.1145/325165.325242) of the directions. In many dimensions a
    Gaussian's mass lies on a shell, which the straight line leaves. Where a and b point the same way, or
    one of them is 0, the walk is the straight line; where they are opposite, it goes a fixed way round.
    """
    t = _fractions(a, b, steps)
    norm_a, norm_b = a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True)
    tiny = torch.finfo(a.dtype).tiny
    from_, to = a / norm_a.clamp_min(tiny), b / norm_b.clamp_min(tiny)
    # atan2 of |a - b| and |a + b| keeps its digits near 0 and near pi, where acos loses half of them
    angle = 2 * torch.atan2((from_ - to).norm(dim=-1, keepdim=True), (from_ + to).norm(dim=-1, keepdim=True))
    across = to - (from_ * to).sum(-1, keepdim=True) * from_  # the part of `to` at right angles to `from_`
    opposite = (math.pi - angle) < 1e-3
    across = torch.where(opposite, _perpendicular(from_), across)
    across = across / across.norm(dim=-1, keepdim=True).clamp_min(tiny)
    end = torch.where(opposite, torch.full_like(angle, math.pi), angle)
    turned = torch.cos(t * end) * from_ + torch.sin(t * end) * across
    walk = torch.lerp(norm_a, norm_b, t) * turned
    straight = (angle < 1e-3) | (norm_a <= tiny) | (norm_b <= tiny)
    walk = torch.where(straight, linear(a, b, steps), walk)
    # rounding must not move the ends: they are the two codes asked about
    return torch.cat((a.unsqueeze(0), walk[1:-1], b.unsqueeze(0))) if steps > 1 else walk


def traverse(z: Tensor, dimensions: int | Sequence[int], values: Tensor) -> Tensor:
    """z [D] with one dimension at a time set to each of values [S]: [len(dimensions), S, D]."""
    chosen = [dimensions] if isinstance(dimensions, int) else list(dimensions)
    if z.dim() != 1:
        raise VaekitError(f"traverse: z of shape {list(z.shape)}; expected one latent point [D]")
    wrong = [d for d in chosen if not -len(z) <= d < len(z)]
    if wrong or not chosen:
        raise VaekitError(
            f"traverse: there is no dimension {wrong[0] if wrong else chosen}; z has 0 to {len(z) - 1}"
        )
    walk = z.repeat(len(chosen), len(values), 1)
    for row, dimension in enumerate(chosen):
        walk[row, :, dimension] = values.to(walk)
    return walk


def quantiles(n: int) -> Tensor:
    """n probabilities, evenly spaced and inside (0, 1): (i + 1/2) / n, [n]."""
    if n < 1:
        raise VaekitError(f"a grid of {n} points a side has none; give at least 1")
    return (torch.arange(n) + 0.5) / n


def quantile_grid(n: int, D: int = 2) -> Tensor:
    """A picture's grid over the unit square, u [n * n, 2] inside (0, 1)^2, row by row from the top left.

    The first coordinate grows to the right, the second upwards, as axes do. D = 1 gives a line [n, 1].
    """
    if D not in (1, 2):
        raise VaekitError(f"a latent grid has 1 or 2 dimensions, not {D}; walk a plane of more with `plane`")
    u = quantiles(n)
    if D == 1:
        return u.unsqueeze(-1)
    down, right = torch.meshgrid(u.flip(0), u, indexing="ij")
    return torch.stack((right, down), -1).reshape(-1, 2)


def manifold(prior: Distribution, n: int, D: int = 2, draws: int = 10_000) -> Tensor:
    """Latent points [n * n, 2] (D = 1: [n, 1]) at even quantiles of the prior, laid out as `quantile_grid`.

    Kingma and Welling 2013, https://arxiv.org/abs/1312.6114, appendix A. A prior without `icdf` gives the
    quantiles of each dimension over `draws` draws (from torch's global generator; seed it).
    """
    u = quantile_grid(n, D)
    try:
        return prior.icdf(u.to(prior.mean))
    except NotImplementedError:
        drawn = prior.sample((draws,)).reshape(-1, D)
        return _at_quantiles(drawn, u.to(drawn))


def grid(prior: Distribution, codes: Tensor, n: int, has_density: bool) -> Tensor:
    """The latent points [n * n, D] that a decoded grid shows: at quantiles of the prior for D <= 2 ([n, 1] for D = 1),
    of the codes [N, D] themselves where a posterior without a density has no prior to answer to, and in the plane
    of the codes' first two principal directions for D > 2."""
    D = codes.shape[-1]
    if D > 2:
        return plane(codes, n)
    if not has_density:
        return _at_quantiles(codes, quantile_grid(n, D).to(codes))
    return manifold(prior, n, D)


def project(codes: Tensor, of: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Codes [N, D] on their first two principal directions, or on those `of` others [M, D]: points [N, 2] and the
    shares of variance [2].

    D = 1 gives a second coordinate of zeros. The sign of a direction makes its largest entry positive.
    """
    centre, directions, share = _principal(codes if of is None else of)
    return (codes - centre) @ directions.T, share


def plane(codes: Tensor, n: int) -> Tensor:
    """A grid [n * n, D] in the plane of the first two principal directions of codes [N, D], D >= 2.

    The nodes stand at evenly spaced quantiles of the projected codes, laid out as `quantile_grid`.
    """
    if codes.dim() != 2 or codes.shape[1] < 2 or not len(codes):
        raise VaekitError(f"plane: codes of shape {list(codes.shape)}; expected [N, D] with D at least 2")
    centre, directions, _ = _principal(codes)
    points = (codes - centre) @ directions.T
    return centre + _at_quantiles(points, quantile_grid(n).to(codes)) @ directions


def _fractions(a: Tensor, b: Tensor, steps: int) -> Tensor:
    """t from 0 to 1, shaped [steps, 1, ..., 1] to meet a and b."""
    if a.shape != b.shape or a.dim() < 1:
        raise VaekitError(
            f"a walk needs two latent points of one shape; got {list(a.shape)} and {list(b.shape)}"
        )
    if steps < 1:
        raise VaekitError(f"a walk of {steps} steps goes nowhere; give at least 1")
    return torch.linspace(0, 1, steps, dtype=a.dtype, device=a.device).reshape(-1, *[1] * a.dim())


def _perpendicular(direction: Tensor) -> Tensor:
    """A direction at right angles to a unit vector [..., D]: the axis it leans on least, made orthogonal."""
    axis = torch.zeros_like(direction).scatter(-1, direction.abs().argmin(-1, keepdim=True), 1.0)
    return axis - (axis * direction).sum(-1, keepdim=True) * direction


def _at_quantiles(points: Tensor, u: Tensor) -> Tensor:
    """The empirical quantiles u [M, D] of each column of points [N, D], interpolated: [M, D]."""
    ordered = points.sort(dim=0).values
    place = u * (len(points) - 1)  # [M, D]
    below = place.floor().long()
    above = (below + 1).clamp(max=len(points) - 1)
    return torch.lerp(ordered.gather(0, below), ordered.gather(0, above), place - below)


def _principal(codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The centre [D], two unit directions [2, D] and their shares of the variance [2]."""
    if codes.dim() != 2 or not len(codes):
        raise VaekitError(f"principal directions need codes [N, D]; got {list(codes.shape)}")
    centre = codes.mean(0)
    off = codes - centre
    values, vectors = torch.linalg.eigh((off.T @ off).double() if off.device.type != "mps" else off.T @ off)
    values, directions = values.flip(0).clamp_min(0), vectors.T.flip(0)
    share = (values / values.sum().clamp_min(torch.finfo(values.dtype).tiny))[:2]
    directions = directions[:2]
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    directions = directions * torch.where(largest < 0, -1.0, 1.0)
    if len(directions) < 2:  # D = 1
        directions = torch.cat((directions, torch.zeros_like(directions)))
        share = torch.cat((share, torch.zeros_like(share)))
    return centre, directions.to(codes.dtype), share.to(codes.dtype)
