"""Invertible maps with log-determinants, and the law they push a base law to."""

from __future__ import annotations

from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor, nn

from vaekit.distributions import DiagonalGaussian, Distribution, full
from vaekit.errors import VaekitError


class Map(Protocol):
    """An invertible map: u [..., D] -> z [..., D] with log |dz/du| [...], and back with log |du/dz|."""

    def __call__(self, u: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]: ...

    def inverse(self, z: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]: ...


class AffineCoupling(nn.Module):
    """One affine coupling layer on z [..., D] after a fixed permutation of its dimensions.

    The first half a passes; the second becomes b * exp(s(a, c)) + t(a, c)
    (Dinh et al. 2017, https://arxiv.org/abs/1605.08803, eq. 7-8). s is bounded by tanh to +-`bound`;
    the last layer starts at zero, so a new layer is the permutation alone.
    """

    permutation: Tensor
    inverse_permutation: Tensor

    def __init__(
        self, latent: int, hidden: tuple[int, ...], condition: int, index: int, bound: float = 3.0
    ) -> None:
        super().__init__()
        self.pass_size, self.bound = latent // 2, bound
        # a pair of layers shares a permutation, the second turned round: what passes one is moved by the other
        permutation = torch.randperm(latent, generator=torch.Generator().manual_seed(index // 2))
        if index % 2:
            permutation = permutation.flip(0)
        self.register_buffer("permutation", permutation, persistent=True)
        self.register_buffer("inverse_permutation", permutation.argsort(), persistent=True)
        sizes = [self.pass_size + condition, *hidden]
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.SiLU()]
        last = nn.Linear(sizes[-1], 2 * (latent - self.pass_size))
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.net = nn.Sequential(*layers, last)

    def _scale_and_shift(self, a: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor]:
        inputs = a if c is None else torch.cat((a, c.expand(*a.shape[:-1], c.shape[-1]).to(a.dtype)), -1)
        s, t = full(self.net(inputs)).chunk(2, -1)
        return self.bound * torch.tanh(s / self.bound), t

    def forward(self, u: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Base to latent: u [..., D] -> z [..., D] and log |dz/du| [...]."""
        a, b = u.split((self.pass_size, u.shape[-1] - self.pass_size), -1)
        s, t = self._scale_and_shift(a, c)
        z = torch.cat((a, b * torch.exp(s) + t), -1)
        return z.index_select(-1, self.inverse_permutation), s.sum(-1)

    def inverse(self, z: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latent to base: z [..., D] -> u [..., D] and log |du/dz| [...]."""
        a, b = z.index_select(-1, self.permutation).split((self.pass_size, z.shape[-1] - self.pass_size), -1)
        s, t = self._scale_and_shift(a, c)
        return torch.cat((a, (b - t) * torch.exp(-s)), -1), -s.sum(-1)


class CouplingFlow(nn.Module):
    """A chain of coupling layers; when new it only permutes the dimensions. Needs D >= 2."""

    def __init__(self, latent: int, layers: int, hidden: tuple[int, ...], condition: int = 0) -> None:
        super().__init__()
        if latent < 2:
            raise VaekitError(
                f"a coupling flow needs at least 2 latent dimensions, not {latent}; use StandardPrior"
            )
        self.layers = nn.ModuleList(AffineCoupling(latent, hidden, condition, i) for i in range(layers))

    def forward(self, u: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Base to latent with the log-determinant: [..., D] -> [..., D], [...]."""
        total = torch.zeros(u.shape[:-1], dtype=u.dtype, device=u.device)
        for layer in self.layers:
            u, log_determinant = layer(u, c)
            total = total + log_determinant
        return u, total

    def inverse(self, z: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latent to base with the log-determinant: [..., D] -> [..., D], [...]."""
        total = torch.zeros(z.shape[:-1], dtype=z.dtype, device=z.device)
        for layer in reversed(self.layers):
            z, log_determinant = layer.inverse(z, c)  # type: ignore[operator]
            total = total + log_determinant
        return z, total


class Affine:
    """z = mean + whitening^-1 u, `whitening` [..., D, D] lower triangular with a positive diagonal, mean [..., D].

    The way from latent to base is a product, for densities are asked for far more often than draws.
    """

    def __init__(self, mean: Tensor, whitening: Tensor) -> None:
        self.mean, self.whitening = mean, whitening

    def _log_determinant(self, like: Tensor) -> Tensor:
        return self.whitening.diagonal(dim1=-2, dim2=-1).log().sum(-1).expand(like.shape[:-1])

    def __call__(self, u: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Base to latent: u [..., D] -> z [..., D] and log |dz/du| [...]."""
        # one matrix serves all rows in one call; of a batch each row brings its own
        rows = u.reshape(-1, u.shape[-1]) if self.whitening.dim() == 2 else u.unsqueeze(-2)
        solved = torch.linalg.solve_triangular(self.whitening.mT, rows, upper=True, left=False)
        z = self.mean + solved.reshape(u.shape)
        return z, -self._log_determinant(z)

    def inverse(self, z: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latent to base: z [..., D] -> u [..., D] and log |du/dz| [...]."""
        if z.device.type == "mps":  # has no float64
            u = torch.einsum("...d,...ed->...e", z - self.mean, self.whitening)
        else:  # which autocast leaves alone: a density must not be rounded to bf16
            off, whitening = z.double() - self.mean.double(), self.whitening.double()
            u = torch.einsum("...d,...ed->...e", off, whitening).to(z.dtype)
        return u, self._log_determinant(u)


class Composed:
    """One map after another, the first next to the base."""

    def __init__(self, *maps: Map) -> None:
        self.maps = maps

    def __call__(self, u: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Base to latent with the log-determinant: [..., D] -> [..., D], [...]."""
        u, total = self.maps[0](u, c)
        for each in self.maps[1:]:
            u, log_determinant = each(u, c)
            total = total + log_determinant
        return u, total

    def inverse(self, z: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latent to base with the log-determinant: [..., D] -> [..., D], [...]."""
        z, total = self.maps[-1].inverse(z, c)
        for each in reversed(self.maps[:-1]):
            z, log_determinant = each.inverse(z, c)
            total = total + log_determinant
        return z, total


class Pushforward(Distribution):
    """The law of flow(u) for u from `base`: log p(z) = log base(u) + log |du/dz|."""

    reparameterised = True

    def __init__(self, base: Distribution, flow: Map, c: Tensor | None = None) -> None:
        self.base, self.flow, self.c, self.event_dims = base, flow, c, 1

    @property
    def batch_shape(self) -> torch.Size:
        return self.base.batch_shape if self.c is None else self.c.shape[:-1]

    @property
    def mean(self) -> Tensor:
        """The image of the base's mean: the centre of the law, not its expectation, which has no closed form."""
        return self.flow(self.base.mean.expand((*self.batch_shape, *self.base.mean.shape[-1:])), self.c)[0]

    def _base_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape, *self.batch_shape) if self.c is not None else shape

    def rsample(self, shape: tuple[int, ...] = ()) -> Tensor:
        return self.flow(self.base.rsample(self._base_shape(shape)), self.c)[0]

    def rsample_and_log_prob(self, shape: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
        u, log_base = self.base.rsample_and_log_prob(self._base_shape(shape))
        z, log_determinant = self.flow(u, self.c)
        assert log_base is not None
        return z, log_base - log_determinant

    def log_prob(self, value: Tensor) -> Tensor:
        u, log_determinant = self.flow.inverse(value, self.c)
        return self.base.log_prob(u) + log_determinant

    def icdf(self, u: Tensor) -> Tensor:
        """The flow's image of the base's quantiles: a map of the cube, though not dimension by dimension."""
        return self.flow(self.base.icdf(u), self.c)[0]


class FullGaussian(Pushforward):
    """N(mean, (whitening^T whitening)^-1) with any covariance, by the inverse of its Cholesky factor.

    mean [..., D]; `whitening` [..., D, D] lower triangular with a positive diagonal: whitening (z - mean) is N(0, I).
    """

    def __init__(self, mean: Tensor, whitening: Tensor) -> None:
        self.affine = Affine(full(mean), full(whitening))
        zeros = torch.zeros_like(self.affine.mean)
        super().__init__(DiagonalGaussian(zeros, zeros), self.affine)

    @property
    def mean(self) -> Tensor:
        return self.affine.mean

    def take(self, index: Tensor) -> FullGaussian:
        return FullGaussian(self.affine.mean[index], self.affine.whitening[index])

    def icdf(self, u: Tensor) -> Tensor:
        raise NotImplementedError("a Gaussian with correlations has no quantiles dimension by dimension")
