from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vaekit.distributions import Bernoulli, Distribution, full
from vaekit.likelihoods.common import Likelihood, safe_logit
from vaekit.nets.common import Activation
from vaekit.nets.masked import MaskedMLP


class Autoregressive(Distribution):
    """Bits in raster order, each given those before it: the logit of x_d is logits_d + masked(x)_d."""

    def __init__(self, logits: Tensor, masked: MaskedMLP, event_dims: int = 1) -> None:
        self.logits, self.masked, self.event_dims = full(logits), masked, event_dims
        self.shaped = self.logits

    @property
    def mean(self) -> Tensor:
        """Has no closed form: NotImplementedError. `centre` is there for pictures, `sample` for averages."""
        raise NotImplementedError("an autoregressive law has no mean in closed form; average samples")

    @property
    def centre(self) -> Tensor:
        """p(x_d = 1 given x_<d) along one ancestral draw: random, as a picture of such a law has to be."""
        return self._ancestral(())[1]

    def sample(self, shape: tuple[int, ...] = ()) -> Tensor:
        return self._ancestral(shape)[0]

    @torch.no_grad()
    def _ancestral(self, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """A draw and the probabilities it was drawn from, each `shape + batch + event`."""
        whole = (*shape, *self.logits.shape)
        event = math.prod(whole[len(whole) - self.event_dims :])
        logits = self.logits.expand(whole).reshape(-1, event)
        u, p = torch.rand_like(logits), torch.empty_like(logits)

        def choose(d: int, more: Tensor) -> Tensor:
            p[:, d] = torch.sigmoid(logits[:, d] + more)
            return (u[:, d] < p[:, d]).to(p.dtype)

        with torch.autocast(logits.device.type, enabled=False):
            x = self.masked.in_turn(len(logits), choose)
        return x.reshape(whole), p.reshape(whole)

    def log_prob_elements(self, value: Tensor) -> Tensor:
        """log p(x_d given x_<d). The masked net runs over `value` as it is, once for all draws of a code."""
        more = self.masked(value.flatten(-self.event_dims)).reshape(value.shape)
        return Bernoulli(self.logits + more, self.event_dims).log_prob_elements(value)


class AutoregressiveLikelihood(Likelihood):
    """p(x given z, c) = prod_d Bernoulli(x_d), each bit given those before it; logits are net(z, c) + masked(x_<d).

    `masked` is a MADE (Germain et al. 2015, https://arxiv.org/abs/1502.03509) with hidden layers of the widths in
    `hidden`, over the values of `shape` in raster order (an image's rows from the top, channel after channel);
    `hidden = []` is one strictly lower triangular matrix, as in a fully visible belief network. With `model.latent =
    0` there is nothing but this law: the rate is 0 and the bound is log p(x) itself.
    """

    kinds = ("binary",)
    needs_latent = False
    factorised = False
    logits = True

    def __init__(
        self,
        net: nn.Module,
        shape: tuple[int, ...],
        hidden: tuple[int, ...] = (500,),
        activation: Activation = "relu",
        initialise_bias: bool = True,
    ) -> None:
        super().__init__(net, initialise_bias)
        self.masked = MaskedMLP(math.prod(shape), tuple(hidden), activation)

    def gives_density(self, kind: str) -> bool:
        return kind == "binary"

    def initialise(self, x: Tensor, c: Tensor | None, n_data: int) -> None:
        self.start_bias_at(safe_logit(x.mean(0)))

    def forward(self, z: Tensor, c: Tensor | None = None) -> Autoregressive:
        logits = self.parameters_of(z, c)
        return Autoregressive(logits, self.masked, event_dims=logits.dim() - z.dim() + 1)
