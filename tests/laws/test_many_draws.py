"""The relatives of the importance-weighted bound reduce to it, and each learner gets the gradient that is its own."""

import math

import pytest
import torch
from zoo import fits, make_vae

from vaekit import (
    CIWAE,
    IWAE,
    MIWAE,
    PIWAE,
    BernoulliLikelihood,
    FlowPrior,
    GaussianPosterior,
    HierarchicalPosterior,
    HierarchicalPrior,
    StandardPrior,
)
from vaekit.errors import VaekitError

T = torch.tensor(0.5, dtype=torch.float64)
MODELS = [
    (StandardPrior, GaussianPosterior),
    (FlowPrior, GaussianPosterior),
    (HierarchicalPrior, HierarchicalPosterior),
]


@pytest.fixture(params=MODELS, ids=lambda pair: pair[0].__name__)
def vae(request):
    return make_vae(*request.param, BernoulliLikelihood)


def gradients(objective, x, t=T, seed=3):
    """Loss, terms and gradients by name, with the noise of `seed`."""
    torch.manual_seed(seed)
    loss, terms = objective(x, None, t)
    names = dict(objective.model.named_parameters())
    found = torch.autograd.grad(loss, list(names.values()), allow_unused=True)
    return loss, terms, {n: torch.zeros(()) if g is None else g for n, g in zip(names, found, strict=True)}


def same(a, b, part=""):
    assert a.keys() == b.keys()
    return all(torch.allclose(a[n], b[n], rtol=1e-8, atol=1e-10) for n in a if n.startswith(part))


@pytest.mark.parametrize("warm_up", [0.0, 0.8])
def test_one_estimate_is_the_importance_weighted_bound(vae, warm_up):
    x = fits(vae)
    plain = gradients(IWAE(vae, 6, warm_up), x)
    for kind in (MIWAE, PIWAE):
        other = gradients(kind(vae, 6, 1, warm_up), x)
        assert other[1]["bound"].item() == pytest.approx(plain[1]["bound"].item(), abs=1e-10)
        assert other[1]["loss"].item() == pytest.approx(plain[1]["loss"].item(), abs=1e-10)
        assert same(other[2], plain[2])


def test_estimates_of_one_draw_are_the_elbo(vae):
    x = fits(vae)
    torch.manual_seed(3)
    mean = vae(x, None, 6).log_w.mean()
    loss, terms, _ = gradients(MIWAE(vae, 1, 6), x)
    assert -loss.item() == pytest.approx(mean.item(), abs=1e-10) == terms["bound"].item()


@pytest.mark.parametrize("warm_up", [0.0, 0.8])
def test_each_learner_has_its_own_bound(vae, warm_up):
    x = fits(vae)
    mixed = gradients(PIWAE(vae, 4, 3, warm_up), x)[2]
    whole, apart = gradients(IWAE(vae, 12, warm_up), x)[2], gradients(MIWAE(vae, 4, 3, warm_up), x)[2]
    assert same(mixed, whole, "prior.") and same(mixed, whole, "likelihood.")
    assert same(mixed, apart, "posterior.")
    assert not same(mixed, whole, "posterior.") and not same(mixed, apart, "likelihood.")


def test_the_combination_has_its_ends(vae):
    x = fits(vae)
    ends = gradients(CIWAE(vae, 6, 0.0), x), gradients(IWAE(vae, 6), x)
    assert same(ends[0][2], ends[1][2]) and ends[0][0].item() == pytest.approx(ends[1][0].item())
    torch.manual_seed(3)
    mean = vae(x, None, 6).log_w.mean()
    assert -gradients(CIWAE(vae, 6, 1.0), x)[0].item() == pytest.approx(mean.item(), abs=1e-10)
    torch.manual_seed(3)
    log_w = vae(x, None, 6).log_w
    some = 0.3 * mean + 0.7 * (torch.logsumexp(log_w, 0) - math.log(6)).mean()
    assert -gradients(CIWAE(vae, 6, 0.3), x)[0].item() == pytest.approx(some.item(), abs=1e-10)
    low, high = (gradients(CIWAE(vae, 6, w), x)[1]["bound"].item() for w in (1.0, 0.0))
    assert low < gradients(CIWAE(vae, 6, 0.3), x)[1]["bound"].item() < high


def test_more_draws_are_a_tighter_bound():
    vae = make_vae(StandardPrior, GaussianPosterior, BernoulliLikelihood)
    x = fits(vae)
    bounds = [
        gradients(kind, x)[1]["bound"].item()
        for kind in (MIWAE(vae, 1, 1600), MIWAE(vae, 8, 200), PIWAE(vae, 8, 200))
    ]
    assert bounds == sorted(bounds)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda vae: MIWAE(vae, estimates=0), "objective.estimates is 0"),
        (lambda vae: PIWAE(vae, draws=0), "objective.draws is 0"),
        (lambda vae: CIWAE(vae, elbo_weight=1.5), "objective.elbo_weight is 1.5"),
    ],
)
def test_bad_settings(make, says):
    vae = make_vae(StandardPrior, GaussianPosterior, BernoulliLikelihood)
    with pytest.raises(VaekitError, match=says):
        make(vae)
