"""The model is one screen: three laws meet in a VAE, and a Trace is what one pass through it leaves behind.

Axes: z is [K, B, D] (K draws, B batch, D latent), x [B, ...] broadcasts over K, log-densities are [K, B], nats.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vaekit.distributions import Distribution, kl
from vaekit.errors import VaekitError


@dataclass
class Trace:
    """One pass: what was drawn and how each law weighs it. `log_qz` is None for a posterior without a density."""

    x: Tensor  # [B, ...]
    z: Tensor  # [K, B, D]
    q: Distribution
    p_z: Distribution
    p_x: Distribution
    log_px: Tensor  # [K, B]
    log_pz: Tensor  # [K, B]
    log_qz: Tensor | None  # [K, B]

    @property
    def log_w(self) -> Tensor:
        """The importance weight log p(x, z) - log q(z given x) [K, B]: every bound is made of it."""
        if self.log_qz is None:
            raise VaekitError(
                "this posterior has no density, so there are no importance weights; use GaussianPosterior"
            )
        return self.log_px + self.log_pz - self.log_qz

    @property
    def distortion(self) -> Tensor:
        """-log p(x given z) [B], the mean over draws."""
        return -self.log_px.mean(0)

    @property
    def kl(self) -> Tensor | None:
        """KL(q, p_z) of each latent dimension [B, D], where prior and posterior factorise; else None."""
        return kl(self.q, self.p_z)

    @property
    def rate(self) -> Tensor | None:
        """KL(q, p_z) [B]: in closed form where there is one, else the draws' estimate; None without a density."""
        if self.log_qz is None:
            return None
        elements = self.kl
        return elements.sum(-1) if elements is not None else (self.log_qz - self.log_pz).mean(0)

    @property
    def penalty(self) -> Tensor:
        """What a posterior adds to the loss [B]; zero unless it has such a term."""
        penalty = getattr(self.q, "penalty", None)
        return penalty if penalty is not None else torch.zeros_like(self.log_px[0])


class VAE(nn.Module):
    """A prior, a posterior and a likelihood (Kingma and Welling 2013, https://arxiv.org/abs/1312.6114).

    >>> from vaekit import MLP, BernoulliLikelihood, GaussianPosterior, StandardPrior
    >>> vae = VAE(StandardPrior(2), GaussianPosterior(MLP((1, 8, 8), (4,))), BernoulliLikelihood(MLP((2,), (1, 8, 8))))
    >>> vae.sample(16).shape
    torch.Size([16, 1, 8, 8])
    """

    def __init__(self, prior: nn.Module, posterior: nn.Module, likelihood: nn.Module) -> None:
        super().__init__()
        self.prior, self.posterior, self.likelihood = prior, posterior, likelihood

    @property
    def latent(self) -> int:
        """D, the number of latent dimensions."""
        return int(self.prior.latent)  # type: ignore[arg-type]

    def forward(self, x: Tensor, c: Tensor | None = None, k: int = 1) -> Trace:
        """x [B, ...] in model units, c [B, n] or None, k draws."""
        q = self.posterior(x, c)
        z, log_qz = q.rsample_and_log_prob((k,))  # [K, B, D], [K, B]
        return self.weigh(x, c, q, z, log_qz)

    def weigh(self, x: Tensor, c: Tensor | None, q: Distribution, z: Tensor, log_qz: Tensor | None) -> Trace:
        """Let prior and likelihood weigh draws z [K, B, D] of q."""
        p_z = self.prior(c)
        p_x = self.likelihood(z, c)
        return Trace(x, z, q, p_z, p_x, p_x.log_prob(x), p_z.log_prob(z), log_qz)

    def encode(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """q(z given x, c) for x [B, ...]."""
        return self.posterior(x, c)

    def decode(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        """p(x given z, c) for z [..., D]."""
        return self.likelihood(z, c)

    @torch.no_grad()
    def reconstruct(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """The centre of p(x given the mean code of x): [B, ...] -> [B, ...], model units."""
        return self.decode(self.encode(x, c).mean, c).centre

    @torch.no_grad()
    def draw(self, n: int, c: Tensor | None = None) -> Tensor:
        """n draws from the prior, [n, D]; c [n, C] where the model is conditional."""
        p_z = self.prior(c)
        return p_z.sample(() if p_z.batch_shape else (n,))

    @torch.no_grad()
    def sample(self, n: int, c: Tensor | None = None, noise: bool = False) -> Tensor:
        """n items [n, ...] in model units: the centre of p(x given z) for z from the prior, or with `noise` a draw."""
        p_x = self.decode(self.draw(n, c), c)
        return p_x.sample() if noise else p_x.centre


@torch.no_grad()
def initialise(module: nn.Module, x: Tensor, c: Tensor | None, n_data: int) -> None:
    """Let every part that defines `initialise(x, c, n_data)` start from the data, once, before step 0.

    x [B, ...] is a batch of training rows in model units, c [B, n] or None, `n_data` the number of rows in all.
    """
    for part in module.modules():
        if part is not module and hasattr(part, "initialise"):
            part.initialise(x, c, n_data)  # type: ignore[operator]
