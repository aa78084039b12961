"""Gradients and logged numbers of the objectives."""

import math

import pytest
import torch
from test_exact_model import exact
from zoo import LATENT, fits, make_vae

from vaekit import (
    ELBO,
    IWAE,
    BernoulliLikelihood,
    DReG,
    FlowPrior,
    GaussianLikelihood,
    GaussianPosterior,
    PointPosterior,
    StandardPrior,
    VaekitError,
    VampPrior,
)

T1 = torch.tensor(1.0, dtype=torch.float64)


def gradients(objective, x, repeats: int) -> tuple[dict, dict]:
    """Mean and standard error of every parameter's gradient over `repeats` evaluations."""
    total: dict = {}
    square: dict = {}
    for _ in range(repeats):
        objective.zero_grad()
        objective(x, None, T1)[0].backward()
        for name, p in objective.model.named_parameters():
            total[name] = total.get(name, 0) + p.grad
            square[name] = square.get(name, 0) + p.grad**2
    mean = {n: s / repeats for n, s in total.items()}
    error = {n: ((square[n] / repeats - mean[n] ** 2).clamp_min(0) / repeats).sqrt() for n in mean}
    return mean, error


@pytest.mark.parametrize("prior", [StandardPrior, FlowPrior, VampPrior])
def test_dreg_and_iwae_agree_in_expectation(prior):
    vae = make_vae(prior, GaussianPosterior, BernoulliLikelihood)
    x = fits(vae)[:2]
    torch.manual_seed(3)
    a, a_error = gradients(IWAE(vae, draws=4), x, 3000)
    b, b_error = gradients(DReG(vae, draws=4), x, 3000)
    z_scores = torch.cat([((a[n] - b[n]) / (a_error[n] + b_error[n] + 1e-9)).flatten() for n in a])
    assert float(z_scores.abs().max()) < 4.5
    assert float(z_scores.square().mean()) < 1.2  # unbiased: about 1/2 to 1, not a few large ones hidden


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_dreg_and_iwae_agree_in_expectation_during_warm_up(beta):
    vae, x, _ = exact(perturb=0.3)
    x, t = x[:8].repeat(100, 1), torch.tensor(beta, dtype=torch.float64)
    torch.manual_seed(0)

    def mean(objective):
        bias = vae.posterior.net.bias
        each = torch.stack([torch.autograd.grad(objective(x, None, t)[0], bias)[0] for _ in range(100)])
        return each.mean(0), each.std(0) / 10

    (a, a_error), (b, b_error) = (mean(o(vae, draws=4, warm_up=1.0)) for o in (IWAE, DReG))
    assert float(((a - b) / (a_error**2 + b_error**2).sqrt()).abs().max()) < 4.5


def test_dreg_has_the_lower_variance_for_the_posterior():
    vae = make_vae(StandardPrior, GaussianPosterior, BernoulliLikelihood)
    x = fits(vae)[:2]
    torch.manual_seed(3)
    _, a = gradients(IWAE(vae, draws=16), x, 500)
    _, b = gradients(DReG(vae, draws=16), x, 500)
    names = [n for n in a if n.startswith("posterior")]
    assert sum(float(b[n].square().sum()) for n in names) < sum(float(a[n].square().sum()) for n in names)


def test_iwae_gradient_weighs_the_best_draw_most():
    vae = make_vae(StandardPrior, GaussianPosterior, BernoulliLikelihood)
    x = fits(vae)[:1]
    torch.manual_seed(0)
    trace = vae(x, k=5)
    (gradient,) = torch.autograd.grad(
        -(torch.logsumexp(trace.log_w, 0) - math.log(5)).mean(), trace.log_px, retain_graph=True
    )
    assert int(gradient.squeeze().argmin()) == int(trace.log_w.squeeze().argmax())
    torch.testing.assert_close(-gradient.squeeze(), torch.softmax(trace.log_w.squeeze(), 0))


@pytest.mark.parametrize("objective", [IWAE, DReG])
def test_the_logged_bound_is_the_bound(objective):
    vae = make_vae(FlowPrior, GaussianPosterior, BernoulliLikelihood)
    x = fits(vae)
    torch.manual_seed(5)
    _, terms = objective(vae, draws=6)(x, None, T1)
    torch.manual_seed(5)
    log_w = vae(x, k=6).log_w.detach()
    expected = float((torch.logsumexp(log_w, 0) - math.log(6)).mean())
    assert float(terms["bound"]) == pytest.approx(expected, abs=1e-9)
    assert float(terms["loss"]) == pytest.approx(-expected, abs=1e-9)
    assert float(terms["elbo"]) == pytest.approx(-float(terms["rate"] + terms["distortion"]), abs=1e-9)


def test_iwae_of_one_draw_is_the_elbo():
    vae = make_vae(
        FlowPrior, GaussianPosterior, BernoulliLikelihood
    )  # no closed-form rate: same draws, same number
    x = fits(vae)
    torch.manual_seed(5)
    one = IWAE(vae, draws=1)(x, None, T1)[0]
    torch.manual_seed(5)
    torch.testing.assert_close(ELBO(vae)(x, None, T1)[0], one)


def elbo_of(t: float, **options) -> dict[str, float]:
    vae = make_vae(StandardPrior, GaussianPosterior, BernoulliLikelihood)
    torch.manual_seed(0)
    _, terms = ELBO(vae, **options)(fits(vae), None, torch.tensor(t, dtype=torch.float64))
    return {name: float(value) for name, value in terms.items()}


def test_beta_warm_up_and_weight():
    plain = elbo_of(1.0)
    assert plain["loss"] == pytest.approx(plain["distortion"] + plain["rate"])
    assert plain["elbo"] == pytest.approx(-plain["loss"])
    heavy = elbo_of(1.0, beta=4.0, distortion_weight=3.0)
    assert heavy["loss"] == pytest.approx(3 * plain["distortion"] + 4 * plain["rate"])
    assert heavy["elbo"] == pytest.approx(plain["elbo"])  # the bound does not depend on the weights
    half = elbo_of(0.05, warm_up=0.1)
    assert half["loss"] == pytest.approx(plain["distortion"] + 0.5 * plain["rate"])
    assert elbo_of(0.025, warm_up=0.1, schedule="cosine")["beta"] == pytest.approx(
        0.5 * (1 - math.cos(math.pi / 4))
    )
    cyclical = [
        elbo_of(t, warm_up=0.5, schedule="cyclical", cycles=4)["beta"]
        for t in (0.0, 0.0625, 0.125, 0.26, 1.0)
    ]
    assert cyclical == pytest.approx([0, 0.5, 1, 0.08, 1])


def test_free_bits_act_on_each_dimension_and_capacity_on_the_total():
    plain = elbo_of(1.0)
    generous = elbo_of(1.0, free_bits=50.0)
    assert generous["loss"] == pytest.approx(plain["distortion"] + 50.0 * LATENT)
    vae = make_vae(StandardPrior, GaussianPosterior, BernoulliLikelihood)
    torch.manual_seed(0)
    per_dimension = vae(fits(vae)).kl.mean(0)
    floor = float(per_dimension.median())
    expected = per_dimension.clamp_min(floor).sum()
    assert elbo_of(1.0, free_bits=floor)["loss"] == pytest.approx(plain["distortion"] + float(expected))
    squeezed = elbo_of(0.5, capacity=8.0, beta=10.0)
    assert squeezed["beta"] == 10.0
    rates = vae(fits(vae)).rate
    assert squeezed["loss"] == pytest.approx(plain["distortion"] + 10 * float((rates - 4.0).abs().mean()))


def test_capacity_does_not_punish_the_noise_of_a_sampled_rate():
    torch.manual_seed(0)
    vae = make_vae(FlowPrior, GaussianPosterior, BernoulliLikelihood)
    x = fits(vae).repeat(400, 1, 1, 1)
    rate = float(vae(x, k=200).rate.mean())
    loss, terms = ELBO(vae, capacity=rate)(x, None, T1)
    assert float(loss - terms["distortion"]) < 0.1  # on average the rate is at its capacity


def test_the_optimal_variance_moves_once_a_step():
    moved = []
    for objective in (IWAE, DReG):
        vae, x, _ = exact()
        net = vae.likelihood.net
        vae.likelihood = GaussianLikelihood(net, variance="optimal").double()
        torch.manual_seed(0)
        objective(vae, draws=4)(x, None, T1)
        moved.append(float(vae.likelihood.running_variance))
    assert moved[0] == pytest.approx(moved[1]) and moved[0] != 1.0


def test_free_bits_without_a_factorised_kl_act_on_the_total_and_say_so():
    vae = make_vae(FlowPrior, GaussianPosterior, BernoulliLikelihood)
    objective = ELBO(vae, free_bits=30.0)
    with pytest.warns(UserWarning, match="does not factorise"):
        objective.initialise(fits(vae), None, 5)
    loss, terms = objective(fits(vae), None, T1)
    assert float(loss) == pytest.approx(float(terms["distortion"]) + 30.0 * LATENT)


def test_a_point_posterior_has_no_rate_and_no_importance_weights():
    vae = make_vae(StandardPrior, PointPosterior, BernoulliLikelihood)
    loss, terms = ELBO(vae)(fits(vae), None, T1)
    assert set(terms) == {"loss", "distortion"} and float(loss) == pytest.approx(float(terms["distortion"]))
    with pytest.raises(VaekitError, match="no density"):
        _ = vae(fits(vae)).log_w
    with pytest.raises(VaekitError, match="needs a posterior with a density"):
        IWAE(vae)
    with pytest.raises(VaekitError, match="needs a posterior with a density"):
        VampPrior(vae.posterior, LATENT, (1, 3, 2))
