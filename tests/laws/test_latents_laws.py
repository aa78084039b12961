"""The readings of a latent space, where the answer is known: moments, closed forms, clouds made by hand."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor, nn

from vaekit.data import Contract, Split
from vaekit.likelihoods import GaussianLikelihood
from vaekit.metrics.codes import Cloud, Reader, gaussian_like, spread
from vaekit.metrics.decoded import Decoder
from vaekit.metrics.frechet import frechet
from vaekit.metrics.frechet import spread as frechet_spread
from vaekit.metrics.holes import holes
from vaekit.metrics.manifolds import K
from vaekit.metrics.probes import probes
from vaekit.model import VAE
from vaekit.posteriors import PointPosterior
from vaekit.priors import StandardPrior


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_moments(mean: Tensor, covariance: Tensor, n: int, seed: int) -> Tensor:
    """n rows with exactly this mean and covariance."""
    x = drawn(n, len(mean), seed=seed)
    x = x - x.mean(0)
    whitened = torch.linalg.solve_triangular(torch.linalg.cholesky(x.T @ x / (n - 1)), x.T, upper=False).T
    return mean + whitened @ torch.linalg.cholesky(covariance).T


def test_the_frechet_distance_is_its_closed_form():
    d = 5
    roots = [drawn(d, d, seed=seed) for seed in (1, 2)]
    covariances = [root @ root.T + 0.1 * torch.eye(d, dtype=torch.float64) for root in roots]
    means = [drawn(d, seed=3), drawn(d, seed=4)]
    a, b = (
        with_moments(m, S, 40 + i, seed=5 + i)
        for i, (m, S) in enumerate(zip(means, covariances, strict=True))
    )
    cross = sqrtm((covariances[0] @ covariances[1]).numpy()).real.trace()
    wanted = (
        (means[0] - means[1]).square().sum() + covariances[0].trace() + covariances[1].trace() - 2 * cross
    )
    assert frechet(a, b) == pytest.approx(float(wanted), rel=1e-9)
    assert frechet(a, b) == pytest.approx(frechet(b, a), rel=1e-9)


def test_the_frechet_distance_of_commuting_gaussians_is_that_of_their_deviations():
    a = with_moments(torch.zeros(2).double(), torch.diag(torch.tensor([1.0, 4.0])).double(), 30, 0)
    b = with_moments(torch.tensor([3.0, 0.0]).double(), torch.diag(torch.tensor([9.0, 0.25])).double(), 50, 1)
    assert frechet(a, b) == pytest.approx(9 + (1 - 3) ** 2 + (2 - 0.5) ** 2, rel=1e-9)


@pytest.mark.parametrize(("n", "d"), [(200, 4), (10, 64)])
def test_the_frechet_distance_of_a_moved_copy_is_the_move(n, d):
    x, move = drawn(n, d), drawn(d, seed=1)
    assert frechet(x, x) == pytest.approx(0, abs=1e-9 * d)
    assert frechet(x, x.flip(0) + move) == pytest.approx(float(move.square().sum()), rel=1e-9)


def test_the_spread_is_that_of_distances_between_fresh_sets():
    n, d = 300, 4
    fresh = [frechet(drawn(n, d, seed=2 * i), drawn(n, d, seed=2 * i + 1)) for i in range(60)]
    found = np.mean([frechet_spread(drawn(n, d, seed=i), drawn(n, d, seed=900 + i), i) for i in range(5)])
    assert found == pytest.approx(np.std(fresh), rel=0.4)
    assert frechet_spread(drawn(n, d), drawn(n, d, seed=1), 0) == frechet_spread(
        drawn(n, d), drawn(n, d, seed=1), 0
    )


def between(draws: Tensor, codes: Tensor) -> dict[str, float]:
    """Holes of draws against codes."""
    return holes(codes, draws, codes, draws)["prior"]


def test_holes_are_what_a_plain_count_gives():
    from sklearn.neighbors import NearestNeighbors

    codes, draws = 2 * drawn(60, 3).numpy(), drawn(50, 3, seed=1).numpy()
    reach = NearestNeighbors(n_neighbors=K).fit(draws).kneighbors()[0][:, -1]
    gaps = np.linalg.norm(draws[:, None] - codes[None], axis=-1)  # [draws, codes]
    near = gaps <= reach[:, None]
    found = between(torch.from_numpy(draws), torch.from_numpy(codes))
    assert found == pytest.approx(
        {"holes": 1 - near.any(1).mean(), "missed": 1 - near.any(0).mean()}, abs=1e-12
    )
    assert 0 < found["holes"] < 1 and 0 < found["missed"] < 1


@pytest.mark.parametrize("d", [1, 2, 32])
def test_equal_clouds_read_two_to_the_minus_k_in_any_dimension(d):
    """Of the K nearest among 2 n points of one law each is a code with probability 1/2 (Naeem et al. 2020, lemma 1)."""
    n = 2000
    found = between(drawn(n, d), drawn(n, d, seed=1))["holes"]
    assert found == pytest.approx(2.0**-K, abs=4 * math.sqrt(2.0**-K / n))


def test_a_cloud_has_no_holes_against_itself_and_is_all_hole_against_another():
    here, there = drawn(500, 2), drawn(500, 2, seed=1) + 100
    assert between(here, here) == {"holes": 0, "missed": 0}
    assert between(here, there) == {"holes": 1, "missed": 1}
    # half of the codes are never reached
    assert between(here, torch.cat((here, there))) == {"holes": 0, "missed": 0.5}


def test_codes_strewn_over_a_wide_space_do_not_fill_the_prior():
    """Each of them is so far from the next that a ball around it holds the whole prior, and no draw meets a code."""
    assert between(drawn(500, 32), 6 * drawn(500, 32, seed=1))["holes"] == 1


def test_a_ring_of_codes_leaves_a_hole_in_the_prior():
    """Radius 2 to 3: of a plane Gaussian 1 - exp(-2) lies inside it, where no code is."""
    n = 3000
    u = torch.rand(2, n, generator=torch.Generator().manual_seed(0))
    angle = 2 * math.pi * u[0]
    ring = ((2 + u[1]) * torch.stack((angle.cos(), angle.sin()))).T
    prior, others = drawn(n, 2), drawn(n, 2, seed=1)
    found = holes(ring, prior, others, gaussian_like(ring, n))
    inner = float(
        (prior.norm(dim=1) < 1.7).double().mean()
    )  # where no draw's fifth neighbour is so far as the ring
    assert found["prior"]["holes"] >= inner > 0.7
    assert found["alike"]["holes"] < 0.06 and found["alike"]["missed"] < 0.05
    assert found["gaussian"]["holes"] > 0.1  # a Gaussian of the ring's own scale falls into it as well
    assert found["n"] == n and found["k"] == K


def test_a_cloud_twice_as_wide_as_the_prior_lies_outside_it_as_far_as_gaussians_do():
    n, law = 40_000, torch.distributions.Normal(0.0, 1.0)
    p, z = drawn(n, 1), drawn(n, 1, seed=1)
    wide = spread(Cloud(z, 2 * z, p))
    share = 2 * float(law.cdf(torch.tensor(-1.5)))
    assert wide["outside"] == pytest.approx(
        share, abs=4 * math.sqrt(share / n) + 0.01
    )  # and the quantile's own error
    assert spread(Cloud(z, z, p))["outside"] == pytest.approx(0.0027, abs=0.002)
    shifted = spread(Cloud(z, 0.1 * z + 10, p))
    assert shifted["outside"] == 1
    assert shifted["mean"][0] == pytest.approx(10, abs=0.01)
    assert shifted["standard_deviation"][0] == pytest.approx(0.1, abs=0.002)
    assert shifted["least"][0] < 9.7 and shifted["greatest"][0] > 10.3


def test_the_gaussian_of_a_cloud_has_its_moments():
    root = drawn(3, 3, seed=1)
    points = with_moments(torch.tensor([1.0, -2.0, 5.0]).double(), root @ root.T, 300, 0)
    torch.manual_seed(0)
    like = gaussian_like(points, 200_000)
    assert torch.allclose(like.mean(0), points.mean(0), atol=0.03)
    assert torch.allclose(torch.cov(like.T), torch.cov(points.T), atol=0.05)
    flat = gaussian_like(
        torch.stack((torch.arange(9.0), torch.zeros(9))).T, 50
    )  # a line: no covariance across
    assert flat[:, 1].abs().max() < 1e-5 and flat[:, 0].std() > 1


def test_neighbours_see_what_a_line_cannot_part():
    rng = np.random.default_rng(0)
    corners = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])
    which = np.arange(800) % 4
    codes = (corners[which] + rng.normal(0, 0.1, (800, 2))) * [
        1,
        1000,
    ]  # standardised, or the second would rule
    crossed = np.isin(which, (0, 3)).astype(np.int64)
    found = probes(codes[:600], crossed[:600], codes[600:], crossed[600:])
    assert found["knn_accuracy"] == 1 and found["linear_accuracy"] < 0.7 and found["commonest"] == 0.5
    side = (which < 2).astype(np.int64)
    side[-20:] = -1  # of unknown label: not judged
    found = probes(codes[:600], side[:600], codes[600:], side[600:])
    assert found["linear_accuracy"] == 1 and (found["train_rows"], found["rows"]) == (600, 180)
    assert probes(codes, np.zeros(800, np.int64), codes, side) is None


class Linear(nn.Module):
    """z -> W z."""

    def __init__(self, W: Tensor) -> None:
        super().__init__()
        self.W = nn.Parameter(W)

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        return z.flatten(1) @ self.W.T


def linear(W: Tensor, n: int, contract: Contract | None = None) -> tuple[Decoder, Tensor]:
    """A decoder x = W z over n rows that are W z with z of deviation 3, and these z."""
    F, D = W.shape
    contract = contract or Contract("rows", (F,), "real", -9, 9, 0, (0.0,), (1.0,), "float32")
    z = 3 * drawn(n, D).float()
    model = VAE(
        StandardPrior(D),
        PointPosterior(Linear(torch.linalg.pinv(W))),
        GaussianLikelihood(Linear(W), variance=1.0),
    )
    x = contract.unscale(z @ W.T).reshape(n, *contract.shape)
    model.requires_grad_(False)
    return Decoder(model, contract, Reader(Split(x, None, "test"), contract, torch.device("cpu"), False)), z


def test_a_step_of_an_isometry_moves_its_items_as_far():
    F, D = 12, 2
    W = torch.linalg.qr(drawn(F, D)).Q.float()
    decoder, z = linear(W, 700)
    found = decoder.smoothness(z, 0, lambda n: None)
    assert found["sigma"] == pytest.approx(float(z.double().var(0, correction=0).mean().sqrt()))
    assert found["absolute"] == pytest.approx(0.1 / math.sqrt(F), rel=1e-4)
    assert found["relative"] == pytest.approx(0.1 * found["sigma"] / math.sqrt(F), rel=1e-4)
    assert found["pair"] == pytest.approx(math.sqrt(2) * 0.1 / math.sqrt(F), rel=1e-4)
    stretched, _ = linear(5 * W, 700)
    assert stretched.smoothness(z, 0, lambda n: None)["absolute"] == pytest.approx(
        5 * found["absolute"], rel=1e-4
    )
    assert (
        linear(drawn(F, 3).float(), 9)[0].smoothness(drawn(9, 3).float(), 0, lambda n: None)["pair"] is None
    )


def test_the_error_is_the_squared_distance_an_element():
    decoder, z = linear(drawn(6, 2).float(), 700)
    assert decoder.errors(z, lambda n: None).max() < 1e-9
    off = decoder.errors(z + torch.tensor([0.5, 0.0]), lambda n: None)
    wanted = 0.25 * decoder.model.likelihood.net.W[:, 0].square().mean()
    assert off.shape == (700,) and torch.allclose(off, wanted.double().expand(700), atol=1e-5)


def test_grey_values_scaled_elsewhere_are_measured_on_the_same_ruler():
    """On [-1, 1] an error is twice that on [0, 1]; both are told in [0, 1]."""
    W = 0.05 * drawn(16, 2).float()
    plain = Contract("grey", (1, 4, 4), "8-bit", 0, 255, 255, (0.0,), (255.0,), "uint8")
    signed = Contract("grey", (1, 4, 4), "8-bit", 0, 255, 255, (127.5,), (127.5,), "uint8")
    assert signed.rescaled and not plain.rescaled
    moved = []
    for contract in (plain, signed):
        net = nn.Sequential(nn.Flatten(-1), Linear(W), nn.Unflatten(1, (1, 4, 4)))
        model = VAE(StandardPrior(2), PointPosterior(nn.Identity()), GaussianLikelihood(net, variance=1.0))
        model.requires_grad_(False)
        reader = Reader(
            Split(np.zeros((5, 1, 4, 4), np.uint8), None, "test"), contract, torch.device("cpu"), False
        )
        moved.append(
            Decoder(model, contract, reader).smoothness(drawn(5, 2).float(), 0, lambda n: None)["pair"]
        )
    assert moved[0] == pytest.approx(2 * moved[1], rel=1e-6)
