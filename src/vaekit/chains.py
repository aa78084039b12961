"""A law over z group by group: p(z) = p(z_1) p(z_2 given z_1) p(z_3 given z_1, z_2) ..., what hierarchies are made of."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn

from vaekit.distributions import DiagonalGaussian, Distribution, full
from vaekit.errors import VaekitError
from vaekit.nets.common import constant, over_draws, softly
from vaekit.nets.mlp import ResidualMLP


class ConditionalGaussian(nn.Module):
    """N(mean, diag(variance)) of a group of `size` dimensions, both a residual net's function of `inputs` numbers.

    The last layer starts at zero, so a new one is N(0, I). Log-variances l are b tanh(l / b), b = `bound`, in fp32; 0
    leaves them as they are.
    """

    def __init__(self, inputs: int, size: int, width: int, depth: int, bound: float = 10.0) -> None:
        super().__init__()
        self.net, self.bound = ResidualMLP((inputs,), (2 * size,), width, depth), bound
        nn.init.zeros_(self.net.last.weight)
        nn.init.zeros_(self.net.last.bias)

    def forward(self, inputs: Tensor) -> DiagonalGaussian:
        """inputs [..., n] -> a law over [..., size]."""
        mean, log_variance = full(over_draws(self.net, inputs, None)).chunk(2, -1)
        return DiagonalGaussian(mean, softly(log_variance, self.bound))


class Chain(Distribution):
    """The law of z = (z_1, ..., z_G): z_1 from `first`, each further group from a net that is given those before it.

    `given` [*batch, n] or None is what every net sees besides: features of x, or a condition.
    """

    reparameterised = True
    event_dims = 1

    def __init__(
        self, first: Distribution, rest: Sequence[nn.Module], sizes: tuple[int, ...], given: Tensor | None, *,
        constant: bool = False,
    ) -> None:  # fmt: skip
        self.first, self.rest, self.sizes, self.given, self.constant = first, rest, sizes, given, constant

    @property
    def batch_shape(self) -> torch.Size:
        return self.first.batch_shape if self.given is None else self.given.shape[:-1]

    def _next(self, net: nn.Module, above: Tensor) -> DiagonalGaussian:
        """The law of the group after `above` [..., d]."""
        inputs = above
        if self.given is not None:
            lead = torch.broadcast_shapes(above.shape[:-1], self.given.shape[:-1])
            inputs = torch.cat((above.expand(*lead, -1), self.given.expand(*lead, -1).to(above.dtype)), -1)
        return constant(net, inputs) if self.constant else net(inputs)

    @property
    def mean(self) -> Tensor:
        """The mean of each group given the means before it: the centre of the law, not its expectation."""
        z = self.first.mean
        z = z.expand(*(self.batch_shape or z.shape[:-1]), z.shape[-1])
        for net in self.rest:
            law = self._next(net, z)
            z = torch.cat((z.expand(*law.mean.shape[:-1], -1), law.mean), -1)
        return z

    def rsample(self, shape: tuple[int, ...] = ()) -> Tensor:
        return self.rsample_and_log_prob(shape)[0]

    def rsample_and_log_prob(self, shape: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
        lead = (*shape, *self.batch_shape) if not self.first.batch_shape else shape
        z, log_prob = self.first.rsample_and_log_prob(lead)
        assert log_prob is not None
        for net in self.rest:
            group, more = self._next(net, z).rsample_and_log_prob(())
            z, log_prob = torch.cat((z, group), -1), log_prob + more
        return z, log_prob

    def log_prob(self, value: Tensor) -> Tensor:
        groups = value.split(self.sizes, -1)
        total = self.first.log_prob(groups[0])
        for net, at, group in zip(self.rest, accumulate(self.sizes), groups[1:], strict=False):
            total = total + self._next(net, value[..., :at]).log_prob(group)
        return total

    def detach(self) -> Chain:
        given = None if self.given is None else self.given.detach()
        return Chain(self.first.detach(), self.rest, self.sizes, given, constant=True)


def grouped(latent: int, groups: tuple[int, ...]) -> tuple[int, ...]:
    """The sizes of groups, the top one first; two halves where none are named. Raises VaekitError."""
    groups = groups or ((latent - latent // 2, latent // 2) if latent > 1 else (latent,))
    if min(groups) < 1 or sum(groups) != latent:
        raise VaekitError(
            f"groups is {list(groups)}, {sum(groups)} dimensions in all; give sizes from 1 that add up to model.latent, "
            f"{latent}"
        )
    return groups


def conditionals(
    sizes: tuple[int, ...], given: int, width: int, depth: int, bound: float = 10.0
) -> nn.ModuleList:
    """A net for each group after the first; `given` numbers come from elsewhere."""
    above = list(accumulate(sizes))[:-1]
    return nn.ModuleList(
        ConditionalGaussian(n + given, size, width, depth, bound)
        for n, size in zip(above, sizes[1:], strict=True)
    )
