"""Every prior, posterior and likelihood in the folders goes together: shapes, gradients, tracing, conditions."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "laws"))
from zoo import CONDITION, LATENT, LIKELIHOODS, POSTERIORS, PRIORS, SHAPE, WITH_DENSITY, fits, make_vae

from vaekit import ELBO, IWAE, BernoulliLikelihood, DReG, FlowPrior, GaussianLikelihood, GaussianPosterior

PAIRS = [
    pytest.param(p, q, lik, id=f"{p.__name__}-{q.__name__}-{lik.__name__}")
    for p in PRIORS
    for q in POSTERIORS
    for lik in LIKELIHOODS
    if p.__name__ != "VampPrior" or q.__name__ == "GaussianPosterior"
]
T = torch.tensor(0.5, dtype=torch.float64)


def check_trace(vae, x, c, k):
    trace = vae(x, c, k)
    assert trace.z.shape == (k, len(x), LATENT)
    assert trace.log_px.shape == trace.log_pz.shape == (k, len(x))
    assert trace.distortion.shape == trace.penalty.shape == (len(x),)
    return trace


@pytest.mark.parametrize(("prior", "posterior", "likelihood"), PAIRS)
def test_shapes_gradients_and_samples(prior, posterior, likelihood):
    vae = make_vae(prior, posterior, likelihood)
    x = fits(vae)
    trace = check_trace(vae, x, None, 3)
    if posterior.has_density:
        assert trace.log_w.shape == (3, len(x)) and trace.rate.shape == (len(x),)
    objective = ELBO(vae)
    objective.initialise(x, None, 100)
    objective(x, None, T)[0].backward()
    # every parameter that the loss can reach receives a gradient; a point posterior leaves the prior alone
    missing = [n for n, p in vae.named_parameters() if p.grad is None]
    assert all(n.startswith("prior.") for n in missing) and (not missing or not posterior.has_density)
    assert all(torch.isfinite(p.grad).all() for p in vae.parameters() if p.grad is not None)
    for noise in (False, True):
        assert vae.sample(4, noise=noise).shape == (4, *SHAPE)
    assert vae.reconstruct(x).shape == x.shape


@pytest.mark.parametrize(("prior", "posterior", "likelihood"), PAIRS)
def test_conditions(prior, posterior, likelihood):
    vae = make_vae(prior, posterior, likelihood, condition=CONDITION)
    x = fits(vae)
    c = torch.eye(CONDITION, dtype=torch.float64)[torch.arange(len(x)) % CONDITION]
    check_trace(vae, x, c, 2)
    assert vae.sample(len(c), c).shape == (len(c), *SHAPE)
    assert vae.reconstruct(x, c).shape == x.shape


@pytest.mark.parametrize(("prior", "posterior", "likelihood"), PAIRS)
def test_traces_whole(prior, posterior, likelihood):
    torch._dynamo.reset()
    vae = make_vae(prior, posterior, likelihood)
    objective = ELBO(vae)
    x = fits(vae)
    compiled = torch.compile(objective, fullgraph=True, backend="aot_eager")
    torch.manual_seed(0)
    expected, _ = objective(x, None, T)
    torch.manual_seed(0)
    loss, _ = compiled(x, None, T)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("posterior", WITH_DENSITY)
@pytest.mark.parametrize("objective", [IWAE, DReG])
def test_multi_draw_objectives_trace_whole_and_give_the_same_gradient(posterior, objective):
    torch._dynamo.reset()
    vae = make_vae(FlowPrior, posterior, BernoulliLikelihood)
    wrapped = objective(vae, draws=3)
    x = fits(vae)

    def gradient(call):
        vae.zero_grad()
        torch.manual_seed(0)
        call(x, None, T)[0].backward()
        return [p.grad.clone() for p in vae.parameters()]

    torch.testing.assert_close(
        gradient(torch.compile(wrapped, fullgraph=True, backend="aot_eager")), gradient(wrapped)
    )


@pytest.mark.parametrize(
    ("likelihood", "last"),
    # a mean rounded to bf16 would be off by a grey level; a logit may be rounded
    [(GaussianLikelihood, torch.float32), (BernoulliLikelihood, torch.bfloat16)],
)
def test_bf16_autocast_keeps_densities_in_fp32(likelihood, last):
    vae = make_vae(FlowPrior, GaussianPosterior, likelihood).float()
    x = fits(vae).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        trace = vae(x, k=2)
        location = vae.likelihood.net(trace.z[0])
    assert trace.log_px.dtype == trace.log_pz.dtype == trace.log_qz.dtype == torch.float32
    assert location.dtype == last
