"""What a density fitted to codes must be: the law the codes came from, and no worse a prior than the one before."""

import numpy as np
import pytest
import torch
from torch import distributions as td

from vaekit import FullMixturePrior, WhitenedFlowPrior
from vaekit.flows import Affine, Composed, FullGaussian
from vaekit.train.density import Codes, mixture

F64 = torch.float64


def known(D: int = 2) -> FullMixturePrior:
    """A mixture of three Gaussians whose columns are correlated, and of scales far apart."""
    generator = torch.Generator().manual_seed(3)
    factors = torch.randn(3, D, D, generator=generator, dtype=F64) * 0.4 + torch.eye(D)
    scale = torch.tensor([30.0, 0.05][:D], dtype=F64)
    covariances = (factors @ factors.mT) * scale * scale[:, None]
    means = torch.tensor([[-4.0, 3.0], [0.0, -4.0], [5.0, 1.0]], dtype=F64)[:, :D] * scale
    prior = FullMixturePrior(D, 3)
    prior.become(torch.tensor([0.5, 0.2, 0.3]), means, covariances)
    return prior


def codes_of(prior, n: int, label=None, labels: int = 0) -> Codes:
    c = None if label is None else torch.eye(labels)[label]
    z = prior(c).sample(() if label is not None else (n,))
    return Codes(z.detach()[None], label, labels)


@pytest.mark.parametrize("batch", [(), (4,)])
def test_full_gaussian_equals_torch_and_draws_have_its_moments(batch):
    torch.manual_seed(0)
    mean, factor = torch.randn(*batch, 3, dtype=F64), torch.randn(*batch, 3, 3, dtype=F64).tril(-1)
    whitening = factor + torch.diag_embed(torch.rand(*batch, 3, dtype=F64) + 0.5)
    law = FullGaussian(mean, whitening)
    theirs = td.MultivariateNormal(mean, precision_matrix=whitening.mT @ whitening)
    z = torch.randn(7, *batch, 3, dtype=F64)
    torch.testing.assert_close(law.log_prob(z), theirs.log_prob(z))
    z, log_p = law.rsample_and_log_prob((40_000,))
    torch.testing.assert_close(log_p, theirs.log_prob(z))
    torch.testing.assert_close(z.mean(0), mean, atol=0.05, rtol=0.02)
    first = z.reshape(40_000, -1, 3)[:, 0]
    wanted = theirs.covariance_matrix.reshape(-1, 3, 3)[0]
    torch.testing.assert_close(first.T.cov(), wanted, atol=0.05 * float(wanted.abs().max()), rtol=0)


def test_composed_maps_invert_and_their_determinants_add():
    torch.manual_seed(0)
    a, b = (Affine(torch.randn(3, dtype=F64), torch.eye(3, dtype=F64) * s) for s in (2.0, 0.3))
    u = torch.randn(5, 3, dtype=F64)
    z, log_determinant = Composed(a, b)(u)
    back, inverse = Composed(a, b).inverse(z)
    torch.testing.assert_close(back, u)
    torch.testing.assert_close(inverse, -log_determinant)
    torch.testing.assert_close(log_determinant, torch.full((5,), -3 * np.log(2.0 * 0.3), dtype=F64))


def test_whitening_makes_a_new_flow_the_gaussian_of_the_codes():
    torch.manual_seed(0)
    mean, factor = (
        torch.tensor([40.0, -2.0, 0.1]),
        torch.tensor([[9.0, 0, 0], [0.5, 0.02, 0], [-3, 0.1, 2.0]]),
    )
    prior = WhitenedFlowPrior(3)
    prior.whiten(mean, factor @ factor.T)
    theirs = td.MultivariateNormal(mean, scale_tril=factor)
    z = theirs.sample((6,))
    torch.testing.assert_close(prior().log_prob(z), theirs.log_prob(z), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("components", [3, None])
def test_a_mixture_fitted_to_draws_of_a_mixture_finds_its_entropy(components):
    torch.manual_seed(0)
    truth = known()
    held = codes_of(truth, 4000)
    found = mixture(codes_of(truth, 8000), held, components, 0, lambda text: None)
    exact, fitted = held.log_density(truth), held.log_density(found)
    error = float((fitted - exact).std()) / len(exact) ** 0.5
    # a fit cannot beat the truth on new draws but by chance, and loses half a nat a parameter over the codes: 17 / 16,000
    assert float((fitted - exact).mean()) < 4 * error
    assert float((fitted - exact).mean()) > -0.01 - 4 * error
    assert len(found.means) >= 3


def test_labels_get_densities_of_their_own():
    torch.manual_seed(0)
    label = torch.arange(3000) % 3
    z = torch.randn(3000, 2) + 8.0 * torch.eye(3)[label][:, :2]
    codes = Codes(z[None], label, 4)  # of the fourth label there is no row
    prior = mixture(codes, codes, 2, 0, lambda text: None)
    for number, centre in enumerate(((8.0, 0.0), (0.0, 8.0), (0.0, 0.0))):
        c = torch.eye(4)[torch.full((500,), number)]
        drawn = prior(c).sample()
        torch.testing.assert_close(drawn.mean(0), torch.tensor(centre), atol=0.3, rtol=0)
    alone = mixture(Codes(z[None], None, 0), codes, 6, 0, lambda text: None)
    assert codes.log_density(prior).mean() > Codes(z[None], None, 0).log_density(alone).mean() + 0.5
    assert torch.isfinite(prior(torch.eye(4)[[3]]).log_prob(z[:1])).all()


def test_codes_that_hardly_vary_one_way_give_a_finite_density():
    torch.manual_seed(0)
    z = torch.cat((torch.randn(500, 2), torch.full((500, 1), 0.25)), 1)
    codes = Codes(z[None], None, 0)
    prior = mixture(codes, codes, 2, 0, lambda text: None)
    assert torch.isfinite(codes.log_density(prior)).all()
    assert float((prior().sample((100,))[:, 2] - 0.25).abs().max()) < 0.01
