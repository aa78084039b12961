"""The laws: numbers in, densities out. torch and math, nothing else.

Parameters have shape `batch + event`; `event_dims` says how many trailing dimensions are one event (1 for a
latent z [..., D], 3 for an image x [..., C, H, W]). `sample(shape)` gives `shape + batch + event`; `log_prob`
sums the event, `log_prob_elements` does not. Values broadcast against parameters, so x [B, C, H, W] meets
parameters [K, B, C, H, W]. Half-precision parameters are raised to float32 on entry, so that a network may run
under bf16 autocast while every density is computed in fp32; float64 stays float64. All densities are in nats.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

LOG_2PI = math.log(2 * math.pi)


def full(tensor: Tensor) -> Tensor:
    """Raise bf16 and fp16 to float32; leave float32 and float64 as they are."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


class Distribution:
    """The contract. A law without a density (`Point`) returns None where a log-density is asked for."""

    event_dims: int
    shaped: Tensor  # a parameter of shape batch + event
    reparameterised = False

    @property
    def batch_shape(self) -> torch.Size:
        """Shape of the parameters without the event; `()` where one law serves every row."""
        return self.shaped.shape[: self.shaped.dim() - self.event_dims]

    @property
    def mean(self) -> Tensor:
        """Expectation, of shape `batch + event`."""
        raise NotImplementedError

    @property
    def centre(self) -> Tensor:
        """The value a picture shows: the mean, or the mode where values have no order."""
        return self.mean

    def sample(self, shape: tuple[int, ...] = ()) -> Tensor:
        """A draw without gradient, of shape `shape + batch + event`."""
        with torch.no_grad():
            return self.rsample(shape)

    def rsample(self, shape: tuple[int, ...] = ()) -> Tensor:
        """A draw through which gradients flow. Raises NotImplementedError where there is none."""
        raise NotImplementedError(f"{type(self).__name__} has no reparameterised draw")

    def rsample_and_log_prob(self, shape: tuple[int, ...] = ()) -> tuple[Tensor, Tensor | None]:
        """Draw and weigh in one breath: a flow never inverts what it has just computed."""
        value = self.rsample(shape)
        return value, self.log_prob(value)

    def log_prob_elements(self, value: Tensor) -> Tensor:
        """Log-density of each element, before the event is summed. NotImplementedError if it does not factorise."""
        raise NotImplementedError(f"the elements of {type(self).__name__} are not independent")

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats, event dimensions summed."""
        return self.log_prob_elements(value).flatten(-self.event_dims).sum(-1)

    def icdf(self, u: Tensor) -> Tensor:
        """Map the uniform cube u in (0, 1)^event to this law. NotImplementedError where there is no closed form."""
        raise NotImplementedError(f"{type(self).__name__} has no closed-form quantiles")

    def take(self, index: Tensor) -> Distribution:
        """The laws of rows `index` [N] of a batch [M]: a law of batch shape [N]."""
        raise NotImplementedError(f"rows of {type(self).__name__} cannot be taken")

    def detach(self) -> Distribution:
        """The same law with constant parameters (what DReG calls the stopped posterior)."""
        raise NotImplementedError(f"{type(self).__name__} cannot be detached")


class DiagonalGaussian(Distribution):
    """N(mean, exp(log_variance)), independent elements. `log_variance` broadcasts to `mean`."""

    reparameterised = True

    def __init__(self, mean: Tensor, log_variance: Tensor, event_dims: int = 1) -> None:
        self._mean, self.log_variance, self.event_dims = full(mean), full(log_variance), event_dims
        self.shaped = self._mean

    @property
    def mean(self) -> Tensor:
        return self._mean

    @property
    def stddev(self) -> Tensor:
        """Standard deviation, exp(log_variance / 2)."""
        return torch.exp(0.5 * self.log_variance)

    def _noise(self, shape: tuple[int, ...]) -> Tensor:
        return torch.randn((*shape, *self._mean.shape), dtype=self._mean.dtype, device=self._mean.device)

    def rsample(self, shape: tuple[int, ...] = ()) -> Tensor:
        return self._mean + self.stddev * self._noise(shape)

    def rsample_and_log_prob(self, shape: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
        noise = self._noise(shape)
        elements = -0.5 * (noise.square() + self.log_variance + LOG_2PI)
        return self._mean + self.stddev * noise, elements.flatten(-self.event_dims).sum(-1)

    def log_prob_elements(self, value: Tensor) -> Tensor:
        squared = (value - self._mean).square() * torch.exp(-self.log_variance)
        return -0.5 * (squared + self.log_variance + LOG_2PI)

    def icdf(self, u: Tensor) -> Tensor:
        return self._mean + self.stddev * torch.special.ndtri(u)

    def take(self, index: Tensor) -> DiagonalGaussian:
        mean, log_variance = torch.broadcast_tensors(self._mean, self.log_variance)
        return DiagonalGaussian(mean[index], log_variance[index], self.event_dims)

    def detach(self) -> DiagonalGaussian:
        return DiagonalGaussian(self._mean.detach(), self.log_variance.detach(), self.event_dims)


class Point(Distribution):
    """All mass on one value: the posterior of a plain autoencoder. It has no density, so `log_prob` is refused."""

    reparameterised = True
    log_variance = None

    def __init__(self, value: Tensor, event_dims: int = 1) -> None:
        self.value, self.event_dims = full(value), event_dims
        self.shaped = self.value

    @property
    def mean(self) -> Tensor:
        return self.value

    def rsample(self, shape: tuple[int, ...] = ()) -> Tensor:
        return self.value.expand((*shape, *self.value.shape))

    def rsample_and_log_prob(self, shape: tuple[int, ...] = ()) -> tuple[Tensor, None]:
        return self.rsample(shape), None

    def detach(self) -> Point:
        return Point(self.value.detach(), self.event_dims)


class Laplace(Distribution):
    """Laplace(mean, exp(log_scale)), independent elements."""

    reparameterised = True

    def __init__(self, mean: Tensor, log_scale: Tensor, event_dims: int = 1) -> None:
        self._mean, self.log_scale, self.event_dims = full(mean), full(log_scale), event_dims
        self.shaped = self._mean

    @property
    def mean(self) -> Tensor:
        return self._mean

    def rsample(self, shape: tuple[int, ...] = ()) -> Tensor:
        u = torch.rand((*shape, *self._mean.shape), dtype=self._mean.dtype, device=self._mean.device) - 0.5
        # 1 - 2|u| can round to 0 in float32; the floor keeps the draw finite
        tail = torch.log1p(-2 * u.abs()).clamp_min(-80.0)
        return self._mean - torch.exp(self.log_scale) * u.sign() * tail

    def log_prob_elements(self, value: Tensor) -> Tensor:
        return -(value - self._mean).abs() * torch.exp(-self.log_scale) - self.log_scale - math.log(2)


class Bernoulli(Distribution):
    """Bits with the given logits. Values in between are weighed as a cross-entropy, which is no density."""

    def __init__(self, logits: Tensor, event_dims: int = 1) -> None:
        self.logits, self.event_dims = full(logits), event_dims
        self.shaped = self.logits

    @property
    def mean(self) -> Tensor:
        return torch.sigmoid(self.logits)

    def sample(self, shape: tuple[int, ...] = ()) -> Tensor:
        with torch.no_grad():
            p = self.mean.expand((*shape, *self.logits.shape))
            return (torch.rand_like(p) < p).to(p.dtype)

    def log_prob_elements(self, value: Tensor) -> Tensor:
        return value * self.logits - F.softplus(self.logits)


class Binomial(Distribution):
    """Counts 0..total of independent bits with the given logits."""

    def __init__(self, total: int, logits: Tensor, event_dims: int = 1) -> None:
        self.total, self.logits, self.event_dims = total, full(logits), event_dims
        self.shaped = self.logits

    @property
    def mean(self) -> Tensor:
        return self.total * torch.sigmoid(self.logits)

    def sample(self, shape: tuple[int, ...] = ()) -> Tensor:
        with torch.no_grad():
            p = torch.sigmoid(self.logits).expand((*shape, *self.logits.shape))
            return torch.binomial(torch.full_like(p, self.total), p)

    def log_prob_elements(self, value: Tensor) -> Tensor:
        # the coefficient depends on x alone, so it is computed once for all K draws
        ways = math.lgamma(self.total + 1) - torch.lgamma(value + 1) - torch.lgamma(self.total - value + 1)
        return ways + value * self.logits - self.total * F.softplus(self.logits)


class Poisson(Distribution):
    """Counts with the given log-rate."""

    def __init__(self, log_rate: Tensor, event_dims: int = 1) -> None:
        self.log_rate, self.event_dims = full(log_rate), event_dims
        self.shaped = self.log_rate

    @property
    def mean(self) -> Tensor:
        return torch.exp(self.log_rate)

    def sample(self, shape: tuple[int, ...] = ()) -> Tensor:
        with torch.no_grad():
            return torch.poisson(self.mean.expand((*shape, *self.log_rate.shape)))

    def log_prob_elements(self, value: Tensor) -> Tensor:
        # three large numbers that cancel: in float32 a count of 1e6 would be off by 0.8 nats
        double = torch.float32 if value.device.type == "mps" else torch.float64
        count, log_rate = value.to(double), self.log_rate.to(double)
        log_p = count * log_rate - torch.exp(log_rate) - torch.lgamma(count + 1)
        return log_p.to(self.log_rate.dtype)


class Categorical(Distribution):
    """One of n classes an element; logits have one more, trailing dimension of size n, values are class numbers.

    `nominal` classes have no order: their centre is the mode, not the mean of the class numbers.
    """

    def __init__(self, logits: Tensor, event_dims: int = 1, nominal: bool = False) -> None:
        self.logits, self.event_dims, self.nominal = full(logits), event_dims, nominal
        self.shaped = self.logits[..., 0]

    @property
    def mean(self) -> Tensor:
        classes = torch.arange(self.logits.shape[-1], dtype=self.logits.dtype, device=self.logits.device)
        return (torch.softmax(self.logits, -1) * classes).sum(-1)

    @property
    def centre(self) -> Tensor:
        return self.logits.argmax(-1).to(self.logits.dtype) if self.nominal else self.mean

    def sample(self, shape: tuple[int, ...] = ()) -> Tensor:
        with torch.no_grad():
            logits = self.logits.expand((*shape, *self.logits.shape))
            # Gumbel-max: the arg max of logits plus Gumbel noise is a draw
            noise = torch.empty_like(logits).exponential_().log()
            return (logits - noise).argmax(-1).to(logits.dtype)

    def log_prob_elements(self, value: Tensor) -> Tensor:
        chosen = value.long().unsqueeze(-1).expand((*self.logits.shape[:-1], 1))
        return self.logits.gather(-1, chosen).squeeze(-1) - torch.logsumexp(self.logits, -1)


class DiscretisedLogistic(Distribution):
    """A logistic law rounded to the integers 0..levels; the two end bins take the tails.

    P(x) = s((x + 1/2 - mean) / scale) - s((x - 1/2 - mean) / scale), s the logistic sigmoid
    (Kingma et al. 2016, https://arxiv.org/abs/1606.04934, eq. 19 of the appendix).
    The difference is taken as s(a) s(-b) (1 - exp(b - a)), which loses nothing far from the mean.
    """

    def __init__(self, mean: Tensor, log_scale: Tensor, levels: int, event_dims: int = 1) -> None:
        self.location, self.log_scale = full(mean), full(log_scale)
        self.levels, self.event_dims = levels, event_dims
        self.shaped = self.location

    @property
    def mean(self) -> Tensor:
        """The mean of the logistic clipped to [0, levels]; the rounding adds less than 1e-4 for scales over 1/2."""
        scale = torch.exp(self.log_scale)
        return scale * (F.softplus(self.location / scale) - F.softplus((self.location - self.levels) / scale))

    def sample(self, shape: tuple[int, ...] = ()) -> Tensor:
        with torch.no_grad():
            u = torch.rand(
                (*shape, *self.location.shape), dtype=self.location.dtype, device=self.location.device
            )
            noise = torch.logit(u, eps=1e-7)
            return (self.location + torch.exp(self.log_scale) * noise).round().clamp(0, self.levels)

    def log_prob_elements(self, value: Tensor) -> Tensor:
        inverse_scale = torch.exp(-self.log_scale)
        above = (value + 0.5 - self.location) * inverse_scale
        below = (value - 0.5 - self.location) * inverse_scale
        log_cdf_above = F.logsigmoid(above)
        log_sf_below = F.logsigmoid(-below)
        inside = log_cdf_above + log_sf_below + torch.log(-torch.expm1(-inverse_scale))
        return torch.where(value <= 0, log_cdf_above, torch.where(value >= self.levels, log_sf_below, inside))


class OptimalGaussian(Distribution):
    """A Gaussian whose one variance is the closed-form optimum for the batch it is asked about.

    sigma^2 = mean of (x - mean)^2 over draws, batch and elements (Rybkin et al. 2021,
    https://arxiv.org/abs/2006.13202, eq. 6). Gradients flow through it: the loss is D log RMSE plus a constant.
    `running` keeps a moving average; once training ends (`update=False`) that is the variance used, so that
    a reported density does not depend on the batch it was computed in.
    """

    reparameterised = True
    FLOOR = 1e-10  # of the variance

    def __init__(self, mean: Tensor, running: Tensor, update: bool, event_dims: int = 1) -> None:
        self._mean, self.running, self.update, self.event_dims = full(mean), running, update, event_dims
        self.shaped = self._mean

    @property
    def mean(self) -> Tensor:
        return self._mean

    def rsample(self, shape: tuple[int, ...] = ()) -> Tensor:
        noise = torch.randn((*shape, *self._mean.shape), dtype=self._mean.dtype, device=self._mean.device)
        return self._mean + self.running.sqrt() * noise

    def log_prob_elements(self, value: Tensor) -> Tensor:
        squared = (value - self._mean).square()
        if self.update:
            variance = squared.mean().clamp_min(self.FLOOR)
            if torch.is_grad_enabled():  # a pass that only looks, such as DReG's first, counts once
                with torch.no_grad():
                    self.running.lerp_(variance.detach().to(self.running.dtype), 0.02)
        else:
            variance = self.running.to(squared.dtype)
        return -0.5 * (squared / variance + torch.log(variance) + LOG_2PI)


class OnGrid(Distribution):
    """A law over integers (data units) met by values in model units: x = integer / divisor."""

    def __init__(self, base: Distribution, divisor: float) -> None:
        self.base, self.divisor, self.event_dims = base, divisor, base.event_dims

    @property
    def batch_shape(self) -> torch.Size:
        return self.base.batch_shape

    @property
    def mean(self) -> Tensor:
        return self.base.mean / self.divisor

    @property
    def centre(self) -> Tensor:
        return self.base.centre / self.divisor

    def sample(self, shape: tuple[int, ...] = ()) -> Tensor:
        return self.base.sample(shape) / self.divisor

    def log_prob_elements(self, value: Tensor) -> Tensor:
        return self.base.log_prob_elements((value * self.divisor).round())


class PerUnit(Distribution):
    """A density over model units x = (data - offset) / divisor, given per data unit: log p - log divisor.

    The log-Jacobian of the scaling is thus inside every density that is reported.
    """

    def __init__(self, base: Distribution, log_divisor: Tensor | float) -> None:
        self.base, self.log_divisor = base, log_divisor
        self.event_dims, self.reparameterised = base.event_dims, base.reparameterised

    @property
    def batch_shape(self) -> torch.Size:
        return self.base.batch_shape

    @property
    def mean(self) -> Tensor:
        return self.base.mean

    def sample(self, shape: tuple[int, ...] = ()) -> Tensor:
        return self.base.sample(shape)

    def rsample(self, shape: tuple[int, ...] = ()) -> Tensor:
        return self.base.rsample(shape)

    def log_prob_elements(self, value: Tensor) -> Tensor:
        return self.base.log_prob_elements(value) - self.log_divisor


class Mixture(Distribution):
    """A mixture of M `components` (batch shape [M]) with the weights softmax(logits): logits [M], or [B, M] where each
    of B rows weighs the same components its own way."""

    PIECE = 1024  # draws at a time: each takes its component's covariance along, [D, D] where that is full

    def __init__(self, logits: Tensor, components: Distribution) -> None:
        self.logits, self.components, self.event_dims = full(logits), components, 1

    @property
    def batch_shape(self) -> torch.Size:
        return self.logits.shape[:-1]

    @property
    def mean(self) -> Tensor:
        return (torch.softmax(self.logits, -1).unsqueeze(-1) * self.components.mean).sum(-2)

    def sample(self, shape: tuple[int, ...] = ()) -> Tensor:
        with torch.no_grad():
            weights = torch.softmax(self.logits, -1).reshape(-1, self.logits.shape[-1])  # [B, M]
            chosen = torch.multinomial(weights, math.prod(shape), replacement=True).T.reshape(-1)  # [N B]
            draw = torch.cat([self.components.take(piece).sample() for piece in chosen.split(self.PIECE)])
            return draw.reshape(*shape, *self.batch_shape, draw.shape[-1])

    def log_prob(self, value: Tensor) -> Tensor:
        return torch.logsumexp(self._each(value) + torch.log_softmax(self.logits, -1), -1)

    def _each(self, value: Tensor) -> Tensor:
        """log N(value; component m) for value [..., D] -> [..., M].

        Written out, (z - m)^2 / v is one matrix product of (z^2, z) with (1 / v, -2 m / v): eighteen times faster
        than [..., M, D] elementwise at M = 500. It cancels, so it is done in float64, where there is float64.
        """
        if value.device.type == "mps" or not isinstance(self.components, DiagonalGaussian):
            return self.components.log_prob(value.unsqueeze(-2))
        z = value.double()
        mean, log_variance = torch.broadcast_tensors(
            self.components.mean.double(), self.components.log_variance.double()
        )
        precision = torch.exp(-log_variance)  # [M, D]
        constant = (mean.square() * precision + log_variance + LOG_2PI).sum(-1)  # [M]
        factors = torch.cat((precision, -2 * mean * precision), -1)  # [M, 2 D]
        squared = torch.cat((z.square(), z), -1) @ factors.mT  # [..., M]
        return (-0.5 * (squared + constant)).to(value.dtype)


def kl(q: Distribution, p: Distribution) -> Tensor | None:
    """KL(q, p) of each element in nats, shape `batch + event`, in closed form; None where there is none.

    Two diagonal Gaussians: Kingma and Welling 2013, https://arxiv.org/abs/1312.6114, appendix B, for any diagonal p.
    """
    if isinstance(q, DiagonalGaussian) and isinstance(p, DiagonalGaussian):
        difference = q.log_variance - p.log_variance
        squared = (q.mean - p.mean).square() * torch.exp(-p.log_variance)
        return 0.5 * (torch.exp(difference) + squared - 1 - difference)
    return None
