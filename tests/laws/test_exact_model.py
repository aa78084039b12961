"""The exact model: a linear-Gaussian VAE, whose log p(x), posterior and bounds are known in closed form.

x = W z + b + noise, z ~ N(0, I): log p(x) = log N(x; b, W W^T + s^2 I) (Tipping and Bishop 1999). With orthogonal
columns of W the true posterior is a diagonal Gaussian: precision 1 + |w_d|^2 / s^2, mean w_d.(x - b) / (s^2 + |w_d|^2).
"""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from vaekit import ELBO, IWAE, VAE, DReG, GaussianLikelihood, GaussianPosterior, StandardPrior

F, D, VARIANCE = 6, 3, 0.3
T1 = torch.tensor(1.0)


class Linear(nn.Module):
    """A given linear map, as a user's own net."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, x):
        return nn.functional.linear(x, self.weight, self.bias)


def exact(divisor: float = 1.0, perturb: float = 0.0) -> tuple[VAE, torch.Tensor, torch.Tensor]:
    """The model with its true posterior (or one that is off by `perturb`), x in model units [B, F], and log p of
    the data, x * divisor, in its own units [B]."""
    generator = torch.Generator().manual_seed(0)
    orthogonal, _ = torch.linalg.qr(torch.randn(F, D, dtype=torch.float64, generator=generator))
    norms = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    W, b = orthogonal * norms, torch.randn(F, dtype=torch.float64, generator=generator)
    encode = W.T / (VARIANCE + norms.square())[:, None]
    log_variance = -torch.log(1 + norms.square() / VARIANCE)
    weight = torch.cat((encode, torch.zeros_like(encode)))
    bias = torch.cat((-encode @ b + perturb, log_variance + perturb))
    vae = VAE(
        StandardPrior(D),
        GaussianPosterior(Linear(weight, bias), log_variance_bound=0.0),
        GaussianLikelihood(Linear(W, b), variance=VARIANCE, divisor=(divisor,)),
    ).double()
    x = torch.randn(40, F, dtype=torch.float64, generator=generator)
    covariance = W @ W.T + VARIANCE * torch.eye(F, dtype=torch.float64)
    log_p = torch.distributions.MultivariateNormal(b * divisor, covariance * divisor**2).log_prob(x * divisor)
    return vae, x, log_p


@pytest.mark.parametrize("divisor", [1.0, 16.0])
def test_every_weight_equals_log_p_with_the_true_posterior(divisor):
    vae, x, log_p = exact(divisor)
    trace = vae(x, k=9)
    torch.testing.assert_close(trace.log_w, log_p.expand(9, -1))
    # and the variance of the weights is zero
    assert float(trace.log_w.detach().var(0).max()) < 1e-20


@pytest.mark.parametrize("objective", [ELBO, IWAE, DReG])
def test_every_bound_is_tight_with_the_true_posterior(objective):
    vae, x, log_p = exact()
    _, terms = objective(vae, draws=4)(x, None, T1)
    if objective is not ELBO:
        assert float(terms["bound"]) == pytest.approx(float(log_p.mean()), abs=1e-9)
        assert float(terms["elbo"]) == pytest.approx(float(log_p.mean()), abs=1e-9)
    many = torch.stack([ELBO(vae, draws=512)(x, None, T1)[1]["elbo"] for _ in range(20)]).mean()
    assert float(many) == pytest.approx(float(log_p.mean()), abs=0.05)


def test_the_order_of_bounds_with_a_wrong_posterior():
    torch.manual_seed(0)
    vae, x, log_p = exact(perturb=0.3)
    with torch.no_grad():
        log_w = vae(x, k=65536).log_w  # [K, B]
    bounds = []
    for k in (1, 2, 8, 64, 1024):
        groups = log_w.view(-1, k, len(x))
        each = torch.logsumexp(groups, 1) - math.log(k)  # [groups, B]
        bounds.append((float(each.mean()), float(each.mean(1).std() / math.sqrt(len(each)))))
    for (low, low_error), (high, high_error) in pairwise(bounds):
        assert low <= high + 3 * (low_error + high_error)
    assert bounds[0][0] < bounds[2][0] - 0.01  # the first steps are real gains
    assert bounds[-1][0] <= float(log_p.mean()) + 3 * bounds[-1][1]
    assert bounds[-1][0] == pytest.approx(float(log_p.mean()), abs=0.01)


def test_rate_in_closed_form_is_the_expected_estimate():
    torch.manual_seed(0)
    vae, x, _ = exact(perturb=0.2)
    trace = vae(x, k=50_000)
    estimate = trace.log_qz - trace.log_pz
    error = estimate.std(0) / math.sqrt(len(estimate))
    assert ((estimate.mean(0) - trace.rate).abs() < 5 * error).all()
    torch.testing.assert_close(trace.kl.sum(-1), trace.rate)
