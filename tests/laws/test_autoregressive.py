"""The autoregressive law: it sums to one over all bits, sees only what came before, and draws what it weighs; over a
latent of no dimensions the bound is log p(x)."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from vaekit import (
    ELBO,
    IWAE,
    MLP,
    VAE,
    AutoregressiveLikelihood,
    BernoulliLikelihood,
    Constant,
    DReG,
    GaussianPosterior,
    StandardPrior,
)
from vaekit.measures import mutual_information
from vaekit.nets.masked import MaskedMLP

SHAPE, FEATURES, LATENT = (1, 3, 2), 6, 3
T1 = torch.tensor(1.0, dtype=torch.float64)
EVERY = torch.tensor(list(itertools.product((0.0, 1.0), repeat=FEATURES)), dtype=torch.float64).view(
    -1, *SHAPE
)
HIDDEN = pytest.mark.parametrize("hidden", [(), (4,), (9, 5, 7)], ids=str)


def likelihood(hidden, latent=LATENT, seed=0) -> AutoregressiveLikelihood:
    torch.manual_seed(seed)
    net = MLP((latent,), SHAPE, hidden=(5,)) if latent else Constant((0,), SHAPE)
    made = AutoregressiveLikelihood(net, SHAPE, hidden, activation="tanh").double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.7 * torch.randn_like(parameter))
    return made


def fully_visible(hidden=(7,)) -> VAE:
    posterior = GaussianPosterior(Constant(SHAPE, (0,)))
    return VAE(StandardPrior(0), posterior, likelihood(hidden, latent=0)).double()


@HIDDEN
@pytest.mark.parametrize("latent", [0, LATENT])
def test_it_sums_to_one_over_all_bits(hidden, latent):
    z = torch.randn(5, latent, dtype=torch.float64)
    law = likelihood(hidden, latent)(z)
    log_p = torch.stack([law.log_prob(x) for x in EVERY])  # [2^6, 5]
    assert log_p.shape == (64, 5)
    torch.testing.assert_close(log_p.exp().sum(0), torch.ones(5, dtype=torch.float64))
    each = law.log_prob_elements(EVERY[7])
    assert each.shape == (5, *SHAPE)
    torch.testing.assert_close(each.flatten(1).sum(1), log_p[7])


@HIDDEN
@pytest.mark.parametrize("features", [1, 2, 6, 11])
def test_an_output_depends_on_the_inputs_before_it_and_on_no_other(hidden, features):
    torch.manual_seed(0)
    masked = MaskedMLP(features, hidden, "tanh").double()
    x = torch.randn(features, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(masked, x)  # [output, input]
    assert not jacobian.triu().any()
    below = torch.ones(features, features).tril(-1).bool()
    # where a layer is narrower than the row some pairs have no unit between them, but no output is left alone
    enough = all(width >= features - 1 for width in hidden)
    assert jacobian[below].all() if enough else jacobian.any(1)[1:].all()


def test_no_hidden_layer_is_one_strictly_lower_triangular_matrix():
    made = likelihood(())
    z, x = torch.randn(4, LATENT, dtype=torch.float64), EVERY[[3, 20, 41, 62]]
    logits = made.net(z).flatten(1) + x.flatten(1) @ made.masked.last.weight.tril(-1).T
    expected = -F.binary_cross_entropy_with_logits(logits, x.flatten(1), reduction="none").sum(1)
    torch.testing.assert_close(made(z).log_prob(x), expected)


@HIDDEN
def test_samples_come_as_often_as_the_law_says(hidden):
    made, n = likelihood(hidden), 40_000
    z = torch.randn(1, LATENT, dtype=torch.float64)
    torch.manual_seed(1)
    drawn = made(z).sample((n,))
    assert drawn.shape == (n, 1, *SHAPE)
    number = (drawn.view(n, FEATURES) * 2 ** torch.arange(FEATURES - 1, -1, -1)).sum(1).long()
    seen = torch.bincount(number, minlength=64) / n
    p = torch.stack([made(z).log_prob(x) for x in EVERY]).squeeze(1).exp()
    assert ((seen - p).abs() < 5 * (p * (1 - p) / n).sqrt() + 1e-4).all()


@HIDDEN
def test_the_centre_is_the_chance_of_each_bit_along_the_draw_it_belongs_to(hidden):
    law = likelihood(hidden)(torch.randn(5, LATENT, dtype=torch.float64))
    x, p = law._ancestral((2,))
    chosen = torch.where(x.bool(), p, 1 - p).log()
    torch.testing.assert_close(chosen.flatten(2).sum(2), law.log_prob(x))
    assert law.centre.shape == (5, *SHAPE) and ((law.centre > 0) & (law.centre < 1)).all()


def test_the_masked_net_runs_once_whatever_the_number_of_draws():
    made, rows = likelihood((4,)), []
    made.masked.last.register_forward_hook(lambda module, inputs, output: rows.append(output.shape))
    assert made(torch.randn(50, 3, LATENT, dtype=torch.float64)).log_prob(EVERY[:3]).shape == (50, 3)
    assert rows == [(3, FEATURES)]


def test_without_links_between_bits_it_is_bernoulli():
    made = likelihood((4,))
    z = torch.randn(2, 5, LATENT, dtype=torch.float64)
    with torch.no_grad():
        made.masked.last.weight.zero_()
    torch.testing.assert_close(
        made(z).log_prob(EVERY[:5]), BernoulliLikelihood(made.net)(z).log_prob(EVERY[:5])
    )


def test_bf16_autocast_keeps_densities_and_draws_in_fp32():
    made = likelihood((64,)).float()
    x, z = EVERY.float(), torch.randn(3, 64, LATENT)
    exact = made(z).log_prob(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        law = made(z)
        assert made.masked(x.flatten(1)).dtype == law.log_prob(x).dtype == torch.float32
        torch.testing.assert_close(
            law.log_prob(x), exact, atol=0.05, rtol=0
        )  # the hidden layer alone is rounded
        torch.manual_seed(0)
        inside = law._ancestral(())[1]
    torch.manual_seed(0)
    torch.testing.assert_close(inside, law._ancestral(())[1])


def test_the_weights_hold_no_masks():
    assert not [name for name in likelihood((4, 4)).state_dict() if "mask" in name.rpartition(".")[2]]


# -- a latent of no dimensions


def test_with_no_latent_every_weight_is_log_p_and_the_rate_is_nothing():
    vae = fully_visible()
    trace = vae(EVERY, k=7)
    assert trace.z.shape == (7, 64, 0) and trace.log_w.shape == (7, 64)
    assert not trace.rate.any() and not trace.log_w.var(0).any()
    assert float(trace.log_w[0].detach().exp().sum()) == pytest.approx(1, abs=1e-12)
    q = vae.encode(EVERY)
    assert float(mutual_information(q, q.mean, trace.log_qz[0])) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("objective", [ELBO, IWAE, DReG])
def test_with_no_latent_every_bound_is_log_p(objective):
    vae = fully_visible()
    log_p = vae(EVERY).log_px[0].mean()
    loss, terms = objective(vae, draws=4)(EVERY, None, T1)
    torch.testing.assert_close(-loss, log_p)
    assert float(terms["rate"]) == pytest.approx(0, abs=1e-12)
    loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in vae.parameters() if p.requires_grad)


def test_trained_on_a_law_of_bits_it_becomes_that_law():
    torch.manual_seed(0)
    p = torch.softmax(2 * torch.randn(64, dtype=torch.float64), 0)
    vae = fully_visible(hidden=(64,))
    optimizer = torch.optim.Adam(vae.parameters(), lr=0.02)
    for _ in range(400):
        optimizer.zero_grad()
        gap = (p * (p.log() - vae(EVERY).log_w[0])).sum()  # KL from the law, nats
        gap.backward()
        optimizer.step()
    independent = Constant((0,), SHAPE).double()
    with torch.no_grad():
        independent.bias.copy_(torch.logit((p[:, None] * EVERY.flatten(1)).sum(0)))
    best = (p * (p.log() - BernoulliLikelihood(independent)(torch.zeros(64, 0)).log_prob(EVERY))).sum()
    assert -1e-9 < float(gap.detach()) < 0.05 * float(best.detach())
