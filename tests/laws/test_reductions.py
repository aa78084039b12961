"""One part reduces to another where theory says so."""

import pytest
import torch
from zoo import LATENT, SHAPE, make_vae, some_data

from vaekit import (
    MLP,
    BernoulliLikelihood,
    BinomialLikelihood,
    CategoricalLikelihood,
    GaussianLikelihood,
    GaussianPosterior,
    MixturePrior,
    StandardPrior,
    VampPrior,
)
from vaekit.likelihoods.gaussian import variance_of_r_loss_factor


def test_vamp_with_one_pseudo_input_is_the_posterior_of_that_input():
    torch.manual_seed(0)
    posterior = GaussianPosterior(MLP(SHAPE, (2 * LATENT,), hidden=(8,))).double()
    vamp = VampPrior(posterior, LATENT, SHAPE, components=1).double()
    z = torch.randn(4, 5, LATENT, dtype=torch.float64)
    torch.testing.assert_close(vamp().log_prob(z), posterior(vamp.pseudo_inputs).log_prob(z))


def test_vamp_is_the_mean_of_posteriors_and_its_weights_belong_to_the_posterior():
    vae = make_vae(VampPrior, GaussianPosterior, BernoulliLikelihood)
    z = torch.randn(5, LATENT, dtype=torch.float64)
    each = vae.posterior(vae.prior.pseudo_inputs).log_prob(z.unsqueeze(1))  # [5, M]
    torch.testing.assert_close(vae.prior().log_prob(z), each.exp().mean(1).log())
    assert [n for n, _ in vae.prior.named_parameters()] == ["pseudo_inputs"]


def test_mixture_of_alike_components_is_one_gaussian():
    prior = MixturePrior(LATENT, components=5)
    with torch.no_grad():
        prior.means.zero_()
    z = torch.randn(6, LATENT)
    torch.testing.assert_close(prior().log_prob(z), StandardPrior(LATENT)().log_prob(z))


def test_binomial_of_one_is_bernoulli_and_categorical_of_two_too():
    torch.manual_seed(0)
    net = MLP((LATENT,), SHAPE, hidden=(8,)).double()
    z = torch.randn(2, 5, LATENT, dtype=torch.float64)
    x = some_data(binary=True)
    bits = BernoulliLikelihood(net)(z).log_prob(x)
    torch.testing.assert_close(BinomialLikelihood(net, 1)(z).log_prob(x), bits)

    class TwoLogits(torch.nn.Module):
        def forward(self, z):
            logits = net(z)
            return torch.cat((torch.zeros_like(logits), logits), 1)

    torch.testing.assert_close(CategoricalLikelihood(TwoLogits(), 1)(z).log_prob(x), bits)


@pytest.mark.parametrize("factor", [10.0, 1000.0])
def test_r_loss_factor_is_a_gaussian_of_the_variance_it_means_up_to_a_constant(factor):
    torch.manual_seed(0)
    elements = 6
    net = MLP((LATENT,), SHAPE, hidden=(8,)).double()
    likelihood = GaussianLikelihood(net, variance=variance_of_r_loss_factor(factor, elements)).double()
    z = torch.randn(5, LATENT, dtype=torch.float64)
    x = some_data()
    tutorial = factor * (x - net(z)).square().flatten(1).mean(1)
    difference = -likelihood(z).log_prob(x) - tutorial
    torch.testing.assert_close(difference, difference[0].expand(5))
    assert variance_of_r_loss_factor(1000, 784) == pytest.approx(0.392)
