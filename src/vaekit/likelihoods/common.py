"""What likelihoods share: the contract, the start of an output bias, and a bounded learned scale."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaekit.distributions import Distribution
from vaekit.nets.common import over_draws

FLOOR = -6.0  # of a learned log-scale, in model units


class Likelihood(nn.Module):
    """Abstract: p(x given z, c). `likelihood(z, c)`, z [..., D] -> a law over x [..., *shape].

    x is in model units, (data - offset) / divisor; the density is over the data in its own units, so a continuous
    likelihood contains the log-Jacobian of the scaling and a discrete one undoes it.
    """

    kinds: tuple[str, ...] = ()  # the kinds of data it is meant for
    continuous = False
    needs_latent = True  # whether it says anything without a code, where D = 0
    factorised = (
        True  # whether the elements of x are independent given z; else it is a model class of its own
    )
    logits = False  # whether the net gives logits, which may be rounded to bf16

    def __init__(self, net: nn.Module, initialise_bias: bool = True) -> None:
        super().__init__()
        self.net, self.initialise_bias = net, initialise_bias
        last = getattr(net, "last", None)
        if self.logits and last is not None:
            last.gives_logits = True  # nets.common.exactly reads it

    @staticmethod
    def outputs_per_element(levels: int) -> int:
        """How many numbers the net gives for each element of x."""
        return 1

    def gives_density(self, kind: str) -> bool:
        """Whether log p(x given z) is a log-density of data of this kind, and so the bound an NLL."""
        return True

    def parameters_of(self, z: Tensor, c: Tensor | None) -> Tensor:
        """The net's output for z [..., D] -> [..., *out], at least fp32."""
        return over_draws(self.net, z, c)

    def start_bias_at(self, target: Tensor) -> None:
        """Set the bias of the net's `last` layer to target [*shape] (its mean per channel for a convolution)."""
        last = getattr(self.net, "last", None)
        bias = getattr(last, "bias", None)
        if not self.initialise_bias or bias is None:
            return
        flat = target.flatten()
        value = flat if flat.shape == bias.shape else target.flatten(1).mean(1) if target.dim() == 3 else None
        if value is not None and value.shape == bias.shape:
            with torch.no_grad():
                bias.copy_(value)

    def forward(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        raise NotImplementedError


def safe_logit(p: Tensor) -> Tensor:
    """logit(p) for p kept inside [0.01, 0.99], so that a pixel never lit in training can still be learned."""
    return torch.logit(p.clamp(0.01, 0.99))


def soft_floor(raw: Tensor, floor: float = FLOOR) -> Tensor:
    """A log-scale softly bounded from below: floor + softplus(raw - floor), computed in at least fp32."""
    return floor + F.softplus(raw - floor)


def inverse_soft_floor(value: Tensor, floor: float = FLOOR) -> Tensor:
    """The raw number whose `soft_floor` is `value`."""
    above = (value - floor).clamp_min(0.1)  # nearer the floor the gradient of the raw number all but vanishes
    return floor + above + torch.log(-torch.expm1(-above))
