"""Hierarchies: the chain rule holds, groups see those above them alone, and a detached law keeps its value."""

import pytest
import torch

from vaekit import MLP, HierarchicalPosterior, HierarchicalPrior
from vaekit.distributions import DiagonalGaussian
from vaekit.errors import VaekitError


def moved(module, seed=0):
    torch.manual_seed(seed)
    module = module.double()
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return module


def posterior(latent=4, groups=(1, 2, 1)):
    torch.manual_seed(0)
    net = MLP((5,), (8 * latent,), hidden=(8,))
    return moved(HierarchicalPosterior(net, latent, groups, width=8))


def test_density_integrates_to_one():
    prior = moved(HierarchicalPrior(2, groups=(1, 1), width=8))
    points = torch.linspace(-9, 9, 301, dtype=torch.float64)
    grid = torch.cartesian_prod(points, points)
    mass = prior().log_prob(grid).exp().sum() * (points[1] - points[0]) ** 2
    assert mass.item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("layers", [0, 2])
def test_a_draw_weighs_what_its_density_says(layers):
    prior = moved(HierarchicalPrior(6, groups=(2, 3, 1), layers=layers, hidden=(8,), width=8))
    q = posterior()(torch.rand(3, 5, dtype=torch.float64))
    for law, shape in ((prior(), (7,)), (q, (7, 3))):
        z, log_prob = law.rsample_and_log_prob((7,))
        assert z.shape[:-1] == log_prob.shape == shape
        assert torch.allclose(law.log_prob(z), log_prob, atol=1e-10)


def test_a_new_prior_is_a_standard_gaussian():
    prior = HierarchicalPrior(5, groups=(2, 3)).double()
    z = torch.randn(9, 5, dtype=torch.float64)
    zeros = torch.zeros(5, dtype=torch.float64)
    assert torch.allclose(prior().log_prob(z), DiagonalGaussian(zeros, zeros).log_prob(z))


def test_a_group_sees_those_above_it_alone():
    law = moved(HierarchicalPrior(6, groups=(2, 3, 1), hidden=(8,), width=8))()
    z = torch.randn(6, dtype=torch.float64)
    rows = torch.autograd.functional.jacobian(
        lambda z: torch.cat([law._next(net, z[:at]).mean for net, at in zip(law.rest, (2, 5), strict=True)]),
        z,
    )
    assert (rows[:3, :2].abs() > 0).all() and (rows[:3, 2:] == 0).all()
    assert (rows[3, :5].abs() > 0).all() and rows[3, 5] == 0


def test_detached_law_has_the_value_and_no_gradient_of_its_own():
    module = posterior()
    q = module(torch.rand(3, 5, dtype=torch.float64))
    z = q.rsample((2,)).detach().requires_grad_()
    stopped = q.detach().log_prob(z)
    assert torch.equal(stopped, q.log_prob(z))
    (slope,) = torch.autograd.grad(stopped.sum(), z, retain_graph=True)
    (whole,) = torch.autograd.grad(q.log_prob(z).sum(), z, retain_graph=True)
    assert torch.allclose(slope, whole)  # z still counts, also through the nets of lower groups
    assert all(
        g is None for g in torch.autograd.grad(stopped.sum(), list(module.parameters()), allow_unused=True)
    )


def test_mean_is_that_of_each_group_given_the_means_above():
    module = posterior(3, (2, 1))
    q = module(torch.rand(4, 5, dtype=torch.float64))
    assert q.mean.shape == (4, 3)
    assert torch.equal(q.mean[:, :2], q.first.mean)
    assert torch.equal(q.mean[:, 2:], q._next(q.rest[0], q.first.mean).mean)


def test_one_bound_for_all_groups():
    net = MLP((5,), (8 * 4,), hidden=(8,))
    wild = HierarchicalPosterior(net, 4, (2, 2), width=8, log_variance_bound=1.5)
    with torch.no_grad():
        for p in wild.parameters():
            p.mul_(100.0)
    q = wild(torch.rand(3, 5))
    for law in (q.first, q._next(q.rest[0], q.first.mean)):
        assert law.log_variance.abs().max() <= 1.5


@pytest.mark.parametrize(("groups", "latent"), [((4,), 4), ((1,), 1), ((2, 2), 4)])
def test_mean_of_a_conditional_prior_has_a_row_for_each_condition(groups, latent):
    prior = HierarchicalPrior(latent, groups=groups, layers=0, condition=3)
    law = prior(torch.eye(3))
    assert law.mean.shape == (3, latent) == law.sample().shape


@pytest.mark.parametrize("groups", [(2, 3), (5, 0), (6, -2)])
def test_sizes_that_do_not_add_up(groups):
    with pytest.raises(VaekitError, match=r"add up to model\.latent, 4"):
        HierarchicalPrior(4, groups=groups)
