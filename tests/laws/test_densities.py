"""Densities sum or integrate to one, equal torch.distributions, and sample moments equal the mean."""

import math

import pytest
import torch
from torch import distributions as td

from vaekit import MLP, PoissonLikelihood
from vaekit.distributions import (
    Bernoulli,
    Binomial,
    Categorical,
    DiagonalGaussian,
    DiscretisedLogistic,
    Laplace,
    Mixture,
    OnGrid,
    OptimalGaussian,
    PerUnit,
    Point,
    Poisson,
    kl,
)

F64 = torch.float64


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=F64)


LOGITS = tensor(-1.5, 0.3, 4.0)
MEANS, LOG_VARIANCES = tensor(-1.0, 0.2, 3.0), tensor(-1.0, 0.0, 1.2)


@pytest.mark.parametrize(
    ("ours", "theirs", "values"),
    [
        (
            DiagonalGaussian(MEANS, LOG_VARIANCES),
            td.Normal(MEANS, (LOG_VARIANCES / 2).exp()),
            tensor(-2.0, 0.1, 9.0),
        ),
        (Laplace(MEANS, LOG_VARIANCES), td.Laplace(MEANS, LOG_VARIANCES.exp()), tensor(-2.0, 0.1, 9.0)),
        (Bernoulli(LOGITS), td.Bernoulli(logits=LOGITS), tensor(0.0, 1.0, 1.0)),
        (Binomial(7, LOGITS), td.Binomial(7, logits=LOGITS), tensor(0.0, 3.0, 7.0)),
        (Poisson(LOGITS), td.Poisson(LOGITS.exp()), tensor(0.0, 3.0, 60.0)),
        (
            Categorical(torch.stack((LOGITS, -LOGITS))),
            td.Categorical(logits=torch.stack((LOGITS, -LOGITS))),
            tensor(2.0, 0.0),
        ),
    ],
    ids=lambda v: type(v).__name__,
)
def test_equals_torch_distributions(ours, theirs, values):
    torch.testing.assert_close(ours.log_prob_elements(values), theirs.log_prob(values))
    torch.testing.assert_close(ours.log_prob(values), theirs.log_prob(values).sum(-1))
    if not isinstance(theirs, td.Categorical):
        torch.testing.assert_close(ours.mean, theirs.mean)


@pytest.mark.parametrize("scale", [0.05, 0.7, 3.0, 40.0])
@pytest.mark.parametrize("location", [-3.0, 0.0, 7.3, 16.0, 25.0])
def test_discretised_logistic_sums_to_one_and_equals_the_difference_of_its_cdf(scale, location):
    law = DiscretisedLogistic(tensor(location), tensor(math.log(scale)), levels=16)
    k = torch.arange(17, dtype=F64).unsqueeze(-1)
    log_p = law.log_prob_elements(k)
    assert abs(float(log_p.exp().sum()) - 1) < 1e-10
    above = torch.sigmoid((k + 0.5 - location) / scale)
    below = torch.sigmoid((k - 0.5 - location) / scale)
    above[-1], below[0] = 1.0, 0.0
    torch.testing.assert_close(log_p.exp(), above - below, atol=1e-12, rtol=1e-9)


def test_discretised_logistic_has_a_finite_gradient_far_from_its_mean_in_fp32():
    location = torch.tensor([200.0], requires_grad=True)
    log_scale = torch.tensor(-1.0, requires_grad=True)
    DiscretisedLogistic(location, log_scale, 255).log_prob(torch.tensor([3.0])).backward()
    assert torch.isfinite(location.grad).all() and location.grad.abs().sum() > 0.1
    assert torch.isfinite(log_scale.grad)


@pytest.mark.parametrize("law", [DiagonalGaussian(MEANS, LOG_VARIANCES), Laplace(MEANS, LOG_VARIANCES / 2)])
def test_continuous_densities_integrate_to_one_per_data_unit(law):
    log_divisor = torch.log(tensor(16.0, 2.0, 0.1))
    per_unit = PerUnit(law, log_divisor)
    data = (
        torch.linspace(-40, 40, 200_001, dtype=F64).unsqueeze(-1) * log_divisor.exp()
    )  # in the data's units
    density = per_unit.log_prob_elements(data / log_divisor.exp()).exp()
    torch.testing.assert_close(
        torch.trapezoid(density, data, dim=0), torch.ones(3, dtype=F64), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize(
    "base",
    [
        Binomial(16, LOGITS),
        Categorical(torch.randn(3, 17, dtype=F64, generator=torch.Generator().manual_seed(0))),
        DiscretisedLogistic(tensor(0.3, 7.0, 18.0), tensor(0.5, -1.0, 1.0), 16),
    ],
    ids=lambda v: type(v).__name__,
)
def test_laws_on_a_grid_sum_to_one_over_the_data(base):
    x = torch.arange(17, dtype=F64).unsqueeze(-1) / 16
    total = (
        OnGrid(base, 16).log_prob_elements(x.expand(17, 3)).exp().sum(0)
        if not isinstance(base, Categorical)
        else (torch.stack([OnGrid(base, 16).log_prob_elements(row.expand(3)) for row in x]).exp().sum(0))
    )
    torch.testing.assert_close(total, torch.ones(3, dtype=F64))


def test_mixture_is_the_weighted_sum_of_its_components():
    means, log_variances, logits = (
        torch.randn(4, 2, dtype=F64),
        torch.randn(4, 2, dtype=F64),
        torch.randn(4, dtype=F64),
    )
    mixture = Mixture(logits, DiagonalGaussian(means, log_variances))
    theirs = td.MixtureSameFamily(
        td.Categorical(logits=logits), td.Independent(td.Normal(means, (log_variances / 2).exp()), 1)
    )
    z = torch.randn(6, 5, 2, dtype=F64)
    torch.testing.assert_close(mixture.log_prob(z), theirs.log_prob(z))
    torch.testing.assert_close(mixture.mean, theirs.mean)


@pytest.mark.parametrize(
    "law",
    [
        DiagonalGaussian(MEANS, LOG_VARIANCES),
        Laplace(MEANS, LOG_VARIANCES),
        Bernoulli(LOGITS),
        Binomial(7, LOGITS),
        Poisson(LOGITS),
        Categorical(torch.stack((LOGITS, -LOGITS, LOGITS))),
        DiscretisedLogistic(tensor(0.3, 7.0, 18.0), tensor(0.5, -0.5, 1.0), 16),
        OnGrid(Binomial(7, LOGITS), 7),
        PerUnit(DiagonalGaussian(MEANS, LOG_VARIANCES), torch.tensor(2.0)),
        OptimalGaussian(MEANS, torch.tensor(0.5), update=False),
        Mixture(LOGITS, DiagonalGaussian(torch.stack((MEANS, -MEANS, MEANS + 1)), LOG_VARIANCES)),
        Point(MEANS),
    ],
    ids=lambda v: type(v).__name__,
)
def test_sample_moments_equal_the_mean(law):
    torch.manual_seed(0)
    draws = law.sample((40_000,))
    assert draws.shape == (40_000, 3)
    error = draws.std(0) / math.sqrt(len(draws)) + 1e-4
    assert ((draws.mean(0) - law.mean).abs() < 5 * error).all()


def test_draw_and_weight_in_one_breath_agree():
    torch.manual_seed(0)
    law = DiagonalGaussian(torch.randn(5, 3, dtype=F64), torch.randn(5, 3, dtype=F64))
    z, log_q = law.rsample_and_log_prob((7,))
    assert z.shape == (7, 5, 3)
    torch.testing.assert_close(log_q, law.log_prob(z))


def test_optimal_gaussian_is_the_best_variance_for_the_batch_and_reports_the_running_one():
    torch.manual_seed(0)
    mean, x = torch.randn(6, 4, dtype=F64), torch.randn(6, 4, dtype=F64)
    best = OptimalGaussian(mean, torch.tensor(1.0, dtype=F64), update=True).log_prob(x).sum()
    optimum = ((x - mean) ** 2).mean()
    for factor in (0.9, 1.0, 1.1):
        fixed = DiagonalGaussian(mean, (optimum * factor).log()).log_prob(x).sum()
        assert fixed <= best + 1e-9
    running = torch.tensor(2.0, dtype=F64)
    reported = OptimalGaussian(mean, running, update=False).log_prob(x)
    torch.testing.assert_close(reported, DiagonalGaussian(mean, running.log()).log_prob(x))
    assert float(running) == 2.0


def test_kl_equals_torch_and_is_none_without_closed_form():
    q = DiagonalGaussian(torch.randn(5, 3, dtype=F64), torch.randn(5, 3, dtype=F64))
    p = DiagonalGaussian(torch.randn(3, dtype=F64), torch.randn(3, dtype=F64))
    theirs = td.kl_divergence(td.Normal(q.mean, q.stddev), td.Normal(p.mean, p.stddev))
    torch.testing.assert_close(kl(q, p), theirs)
    assert kl(q, Mixture(torch.zeros(2), DiagonalGaussian(torch.zeros(2, 3), torch.zeros(2, 3)))) is None


def test_half_precision_parameters_are_weighed_in_fp32():
    logits = torch.randn(4, 784).bfloat16()
    x = (torch.rand(4, 784) < 0.5).float()
    assert Bernoulli(logits).log_prob(x).dtype == torch.float32
    torch.testing.assert_close(Bernoulli(logits).log_prob(x), Bernoulli(logits.float()).log_prob(x))


def test_poisson_in_fp32_equals_fp64_for_large_counts():
    counts = torch.tensor([1e1, 1e3, 1e5, 1e6])
    ours = Poisson(counts.log()).log_prob_elements(counts).double()
    exact = Poisson(counts.log().double()).log_prob_elements(counts.double())
    # what is left is the rounding of the log-rate itself, second order at the optimum
    torch.testing.assert_close(ours, exact, atol=1e-3, rtol=0)


def test_large_counts_can_be_learned():
    likelihood = PoissonLikelihood(MLP((2,), (3,), hidden=(4,)), divisor=2.0**22)
    x = torch.full((9, 3), 3e6) / 2**22
    likelihood.initialise(x, None, 9)
    (-likelihood(torch.randn(9, 2)).log_prob(x).mean()).backward()
    assert float(likelihood.net.last.weight.grad.abs().max()) > 0
