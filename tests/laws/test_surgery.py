"""The rate taken apart and the aggregate posterior against the prior, where closed forms know the answer."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from vaekit import MLP, HierarchicalPosterior
from vaekit.distributions import DiagonalGaussian, Distribution
from vaekit.measures import mutual_information
from vaekit.metrics.aggregate import against_prior
from vaekit.metrics.surgery import surgery

N = 3000


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def posteriors(means: Tensor, variance: float, pieces: int = 1) -> tuple[list[DiagonalGaussian], Tensor]:
    """q(z given x) = N(m, variance) of rows with these means [N, D], and a draw of each."""
    log_variance = torch.full_like(means, math.log(variance))
    laws = [
        DiagonalGaussian(m, v) for m, v in zip(means.chunk(pieces), log_variance.chunk(pieces), strict=True)
    ]
    return laws, means + math.sqrt(variance) * drawn(*means.shape, seed=99)


def taken_apart(means: Tensor, variance: float, pieces: int = 1) -> dict:
    laws, z = posteriors(means, variance, pieces)
    prior = DiagonalGaussian(torch.zeros(means.shape[1]).double(), torch.zeros(means.shape[1]).double())
    elements = prior.log_prob_elements(z)
    return surgery(laws, z, elements.sum(-1), elements)


def test_the_information_of_a_gaussian_channel_is_half_log_one_plus_snr():
    """z = m + noise, both Gaussian: I(m; z) = log(1 + s^2 / v) / 2 a dimension, nothing where m stands still."""
    spread = torch.tensor([1.0, 0.5, 0.0]).double()
    found = taken_apart(drawn(N, 3) * spread, 0.3)
    wanted = 0.5 * torch.log1p(spread.square() / 0.3)
    assert found["mutual_information_per_dimension"] == pytest.approx(wanted.tolist(), abs=0.04)
    assert found["mutual_information"] == pytest.approx(float(wanted.sum()), abs=0.06)
    assert found["total_correlation"] == pytest.approx(0, abs=0.03)
    assert found["at_most"] == math.log(N) and found["n"] == N


def test_the_total_correlation_of_a_gaussian_is_minus_half_the_log_determinant_of_its_correlation():
    root = torch.tensor([[1.0, 0.0], [1.2, 0.6]]).double()
    covariance = root @ root.T + 0.4 * torch.eye(2).double()
    found = taken_apart(drawn(N, 2) @ root.T, 0.4)
    scale = covariance.diagonal().rsqrt()
    correlation = covariance * scale * scale[:, None]
    assert found["total_correlation"] == pytest.approx(-0.5 * float(correlation.logdet()), abs=0.04)
    whole = 0.5 * float(covariance.trace() - 2 - covariance.logdet())
    assert found["marginal_kl"] == pytest.approx(whole, abs=0.08)
    alone = 0.5 * (covariance.diagonal() - 1 - covariance.diagonal().log())
    assert found["marginal_kl_per_dimension"] == pytest.approx(alone.tolist(), abs=0.06)


def test_the_parts_add_up_to_the_rate_without_remainder():
    found = taken_apart(drawn(200, 3) * torch.tensor([2.0, 1.0, 0.1]).double(), 0.2)
    assert found["mutual_information"] + found["marginal_kl"] == pytest.approx(found["rate"], abs=1e-9)
    apart = found["total_correlation"] + sum(found["marginal_kl_per_dimension"])
    assert apart == pytest.approx(found["marginal_kl"], abs=1e-9)


def test_rows_by_chunks_and_all_at_once_agree():
    means = drawn(300, 2)
    parts, whole = taken_apart(means, 0.5, pieces=7), taken_apart(means, 0.5)
    assert parts.keys() == whole.keys()
    for name, value in whole.items():
        assert parts[name] == pytest.approx(value, rel=1e-9), name


def test_codes_that_part_all_rows_read_log_n_and_no_more():
    found = taken_apart(torch.arange(50.0).double()[:, None] * 100, 1e-4)
    assert found["mutual_information"] == pytest.approx(math.log(50), abs=1e-9) == found["at_most"]


class Correlated(Distribution):
    """A Gaussian with one covariance for all rows: no factors."""

    def __init__(self, mean: Tensor, covariance: Tensor) -> None:
        self.law = torch.distributions.MultivariateNormal(mean, covariance)
        self.shaped, self.event_dims = mean, 1

    def log_prob(self, value: Tensor) -> Tensor:
        return self.law.log_prob(value)


def test_a_posterior_that_does_not_factorise_has_its_information_told():
    means, noise = drawn(N, 2, seed=5), torch.tensor([[0.5, 0.3], [0.3, 0.5]]).double()
    law = Correlated(means, noise)
    z = law.law.rsample()
    log_p = -0.5 * z.square().sum(-1) - math.log(2 * math.pi)
    found = surgery([law], z, log_p, None)
    wanted = 0.5 * float((torch.eye(2).double() + noise).logdet() - noise.logdet())
    assert found["mutual_information"] == pytest.approx(wanted, abs=0.06)
    assert found["mutual_information"] + found["marginal_kl"] == pytest.approx(found["rate"], abs=1e-9)
    assert found["total_correlation"] is found["mutual_information_per_dimension"] is None


def test_a_law_that_a_net_computes_is_weighed_in_small_pieces():
    """A net that reads 300 numbers of each pair of code and row holds them all, not the code's dimensions alone."""
    torch.manual_seed(0)
    posterior = HierarchicalPosterior(MLP((10,), (8 * 40,), (16,)), 40, width=64)
    q = posterior(drawn(600, 10).float())
    z, log_q = q.rsample_and_log_prob(())
    wanted = torch.stack([q.log_prob(each).double().logsumexp(0) for each in z]) - math.log(600)
    pairs = []
    hook = posterior.rest[0].net.register_forward_hook(
        lambda _, inputs, out: pairs.append(out[..., 0].numel())
    )
    try:
        with torch.no_grad():
            told = mutual_information(q, z, log_q)
            apart = surgery([q], z, log_q, None)
    finally:
        hook.remove()
    assert max(pairs) < 10_000
    exact = float((log_q.double() - wanted).mean().detach())
    assert float(told) == pytest.approx(exact, abs=1e-4) == apart["mutual_information"]


def test_each_dimension_is_told_from_the_prior_as_scipy_tells_it():
    from scipy.stats import ks_2samp, wasserstein_distance

    scale = torch.tensor([1.0, 0.5, 1.0]).double()
    z, p = drawn(500, 3) * scale + torch.tensor([0.0, 0.0, 1.5]).double(), drawn(500, 3, seed=1)
    z[:, 2] = z[:, 2].round()  # ties
    found = against_prior(z, p, 0)
    for d in range(3):
        a, b = z[:, d].numpy(), p[:, d].numpy()
        assert found["kolmogorov_smirnov"][d] == pytest.approx(ks_2samp(a, b).statistic, abs=1e-12)
        assert found["wasserstein"][d] == pytest.approx(wasserstein_distance(a, b) / b.std(), rel=1e-9)
    gaps, floor = found["kolmogorov_smirnov"], found["kolmogorov_smirnov_floor"]
    assert gaps[0] < floor < gaps[1] < gaps[2]
    assert found["mmd"]["value"] > found["mmd"]["floor"] and found["mmd"]["p"] < 0.01


def test_two_clouds_of_one_law_exceed_the_floors_once_in_twenty_times():
    found = [against_prior(drawn(200, 4, seed=s), drawn(200, 4, seed=s + 500), s) for s in range(40)]
    beyond = [gap > each["kolmogorov_smirnov_floor"] for each in found for gap in each["kolmogorov_smirnov"]]
    assert 0 < np.mean(beyond) < 0.11
    assert 0 <= np.mean([each["mmd"]["value"] > each["mmd"]["floor"] for each in found]) < 0.2


def test_a_large_cloud_is_told_by_two_thousand():
    found = against_prior(drawn(2500, 2), drawn(2500, 2, seed=1), 0)
    assert (found["n"], found["mmd"]["n"]) == (2500, 2000)
