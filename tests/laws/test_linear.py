"""Linear nets, whose optimum is known: an autoencoder spans the plane of PCA, a VAE is probabilistic PCA."""

import math
from collections.abc import Callable

import pytest
import torch
from scipy.linalg import subspace_angles
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from vaekit import ELBO, MLP, VAE, GaussianLikelihood, GaussianPosterior, PointPosterior, StandardPrior

F, LATENT = 16, 2


@pytest.fixture(scope="module")
def x():
    """300 of scikit-learn's digits at 4x4, in [0, 1], [300, 16], float64."""
    images = torch.from_numpy(load_digits().images[:300]) / 16
    return torch.nn.functional.avg_pool2d(images, 2).flatten(1)


@pytest.fixture(scope="module")
def pca(x):
    return PCA(LATENT).fit(x.numpy())


def linear(posterior, variance) -> VAE:
    torch.manual_seed(0)
    encoder = MLP((F,), (posterior.outputs_per_latent * LATENT,), hidden=())
    decoder = MLP((LATENT,), (F,), hidden=())
    likelihood = GaussianLikelihood(decoder, variance=variance)
    return VAE(StandardPrior(LATENT), posterior(encoder), likelihood).double()


def minimise(model: VAE, loss: Callable[[], torch.Tensor], steps: int) -> None:
    """Full-batch L-BFGS."""
    solver = torch.optim.LBFGS(
        model.parameters(), max_iter=steps, tolerance_grad=1e-9, tolerance_change=0.0, history_size=40,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> torch.Tensor:
        solver.zero_grad()
        value = loss()
        value.backward()
        return value

    solver.step(closure)


@pytest.mark.parametrize("variance", [0.5, "optimal"])
def test_a_linear_autoencoder_spans_the_plane_of_pca(x, pca, variance):
    """Baldi and Hornik 1989, https://doi.org/10.1016/0893-6080(89)90014-2: there is no other minimum. The optimal
    variance makes it RMSE, whose minimum is the same."""
    model = linear(PointPosterior, variance)
    objective = ELBO(model)
    objective.initialise(x, None, len(x))
    minimise(model, lambda: objective(x, None, torch.tensor(1.0))[0], 200)
    encoder, decoder = (part.net.last.weight.detach().numpy() for part in (model.posterior, model.likelihood))
    for plane in (encoder.T, decoder):
        assert subspace_angles(plane, pca.components_.T).max() < 1e-3
    expected = torch.from_numpy(pca.inverse_transform(pca.transform(x.numpy())))
    torch.testing.assert_close(model.reconstruct(x), expected, atol=1e-3, rtol=0.0)


def exact_loss(model: VAE, x: torch.Tensor) -> torch.Tensor:
    """-ELBO without noise: under a linear decoder E_q is exact at the 2 D points mean +- sqrt(D) deviation e_i."""
    q = model.encode(x)
    corners = math.sqrt(LATENT) * torch.cat((torch.eye(LATENT), -torch.eye(LATENT))).double()  # [2D, D]
    z = q.mean + q.stddev * corners[:, None]  # [2D, B, D]
    trace = model.weigh(x, None, q, z, q.log_prob(z))
    return (trace.distortion + trace.rate).mean()


@pytest.mark.parametrize("variance", ["learned", "optimal"])
def test_a_linear_vae_is_probabilistic_pca(x, pca, variance):
    """Lucas et al. 2019, https://arxiv.org/abs/1911.02469: its bound is tight, at the maximum likelihood of Tipping
    and Bishop 1999 (https://doi.org/10.1111/1467-9868.00196): columns along the principal axes, of squared length
    eigenvalue - variance, where the variance is the mean of the eigenvalues left out."""
    model = linear(GaussianPosterior, variance)
    ELBO(model).initialise(x, None, len(x))
    minimise(model, lambda: exact_loss(model, x), 400)
    eigenvalues = torch.linalg.eigvalsh(torch.cov(x.T, correction=0)).flip(0)
    noise = eigenvalues[LATENT:].mean()
    decoder = model.likelihood.net.last.weight.detach()
    assert subspace_angles(decoder.numpy(), pca.components_.T).max() < 1e-3
    lengths = torch.diag(eigenvalues[:LATENT] - noise)
    gram = decoder.T @ decoder  # diagonal: each dimension found an axis of its own
    torch.testing.assert_close(gram.diagonal().sort(descending=True)[0].diag(), lengths, rtol=0.01, atol=0.0)
    assert gram[0, 1].abs() < 0.01 * lengths.max()

    entropy = 0.5 * (
        eigenvalues[:LATENT].log().sum() + (F - LATENT) * noise.log() + F * math.log(2 * math.pi * math.e)
    )
    above = float(exact_loss(model, x).detach() - entropy)
    assert -1e-9 < above < 1e-3  # no bound is better than the best density, and this one is as good
