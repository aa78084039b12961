"""Walks through the latent space: their ends, their length, their grids."""

import math

import pytest
import torch
from sklearn.decomposition import PCA

from vaekit import walks
from vaekit.distributions import DiagonalGaussian, Mixture
from vaekit.errors import VaekitError


def test_linear_starts_at_a_ends_at_b_and_steps_evenly():
    a, b = torch.tensor([0.0, 2.0]), torch.tensor([4.0, -2.0])
    walk = walks.linear(a, b, 5)
    assert walk.tolist() == [[0, 2], [1, 1], [2, 0], [3, -1], [4, -2]]


@pytest.mark.parametrize("walk", [walks.linear, walks.spherical])
def test_ends_are_exactly_the_codes_asked_about(walk):
    torch.manual_seed(0)
    a, b = torch.randn(7, 32), 3 * torch.randn(7, 32)
    path = walk(a, b, 9)
    assert path.shape == (9, 7, 32)
    assert torch.equal(path[0], a) and torch.equal(path[-1], b)


def test_spherical_keeps_to_the_shell_and_turns_evenly():
    torch.manual_seed(1)
    a, b = torch.randn(64, dtype=torch.float64), 2 * torch.randn(64, dtype=torch.float64)
    path = walks.spherical(a, b, 11)
    torch.testing.assert_close(path.norm(dim=-1), torch.linspace(a.norm(), b.norm(), 11, dtype=torch.float64))
    unit = path / path.norm(dim=-1, keepdim=True)
    turns = torch.acos((unit[1:] * unit[:-1]).sum(-1))
    whole = torch.acos((unit[0] * unit[-1]).sum())
    torch.testing.assert_close(turns, (whole / 10).expand(10))


def test_spherical_of_a_right_angle_passes_the_diagonal():
    path = walks.spherical(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), 3)
    torch.testing.assert_close(path[1], torch.tensor([math.sqrt(0.5), math.sqrt(0.5)]))


@pytest.mark.parametrize(
    ("a", "b", "middle"),
    [
        ([1.0, 0.0], [3.0, 0.0], 2.0),  # the same direction
        ([0.0, 0.0], [0.0, 2.0], 1.0),  # from the origin
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([1.0, 1.0], [1.0, 1.0], math.sqrt(2)),
        ([1.0, 0.0], [-3.0, 0.0], 2.0),  # opposite: round the sphere, not through the origin
        ([1e-30, 0.0], [1.0, 0.0], 0.5),
    ],
)
def test_spherical_is_finite_where_no_great_circle_is_given(a, b, middle):
    a, b = torch.tensor(a), torch.tensor(b)
    path = walks.spherical(a, b, 5)
    assert path.isfinite().all()
    assert torch.equal(path[0], a) and torch.equal(path[-1], b)
    assert path[2].norm().item() == pytest.approx(middle, abs=1e-5)


def test_walks_refuse_points_of_two_lengths():
    with pytest.raises(VaekitError, match=r"\[2\] and \[3\]"):
        walks.linear(torch.zeros(2), torch.zeros(3), 4)
    with pytest.raises(VaekitError, match="0 steps"):
        walks.spherical(torch.zeros(2), torch.zeros(2), 0)


def test_traverse_changes_one_dimension_and_no_other():
    z = torch.tensor([0.1, 0.2, 0.3])
    walk = walks.traverse(z, [0, 2], torch.tensor([-1.0, 0.0, 1.0, 2.0]))
    assert walk.shape == (2, 4, 3)
    assert walk[0, :, 0].tolist() == [-1, 0, 1, 2]
    assert walk[1, :, 2].tolist() == [-1, 0, 1, 2]
    torch.testing.assert_close(walk[0, :, 1:], z[1:].expand(4, 2))
    torch.testing.assert_close(walk[1, :, :2], z[:2].expand(4, 2))
    with pytest.raises(VaekitError, match="no dimension 3; z has 0 to 2"):
        walks.traverse(z, 3, torch.zeros(2))


def test_quantile_grid_is_laid_out_as_a_picture():
    grid = walks.quantile_grid(3)
    assert grid.shape == (9, 2)
    torch.testing.assert_close(grid[0], torch.tensor([1 / 6, 5 / 6]))  # top left: small first, large second
    torch.testing.assert_close(grid[2], torch.tensor([5 / 6, 5 / 6]))
    torch.testing.assert_close(grid[6], torch.tensor([1 / 6, 1 / 6]))
    torch.testing.assert_close(grid[4], torch.tensor([0.5, 0.5]))
    assert ((grid > 0) & (grid < 1)).all()


def test_manifold_of_a_gaussian_stands_at_its_quantiles():
    mean, log_variance = torch.tensor([1.0, -2.0]), torch.tensor([0.0, math.log(4.0)])
    points = walks.manifold(DiagonalGaussian(mean, log_variance), 5).reshape(5, 5, 2)
    torch.testing.assert_close(points[2, 2], mean)
    normal = torch.distributions.Normal(mean, torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(normal.cdf(points[0, 0]), torch.tensor([0.1, 0.9]))


def test_manifold_of_a_mixture_falls_back_to_drawn_quantiles():
    torch.manual_seed(0)
    means = torch.tensor([[-4.0, 0.0], [4.0, 0.0]])
    prior = Mixture(torch.zeros(2), DiagonalGaussian(means, torch.zeros(2, 2)))
    points = walks.manifold(prior, 4, draws=40_000).reshape(4, 4, 2)
    across = points[0, :, 0]
    # quantiles 1/8, 3/8, 5/8, 7/8 of the mixture are the quartiles of its halves
    torch.testing.assert_close(across, torch.tensor([-4.674, -3.326, 3.326, 4.674]), atol=0.06, rtol=0)
    assert walks.manifold(DiagonalGaussian(torch.zeros(1), torch.zeros(1)), 7, D=1).shape == (7, 1)


def test_project_equals_scikit_learn_up_to_the_sign_of_a_direction():
    torch.manual_seed(3)
    codes = torch.randn(300, 6) @ torch.randn(6, 6) + 5
    points, share = walks.project(codes)
    reference = PCA(2).fit(codes.numpy())
    expected = torch.from_numpy(reference.transform(codes.numpy()))
    signs = torch.sign((points * expected).sum(0))
    torch.testing.assert_close(points, expected * signs, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(
        share, torch.from_numpy(reference.explained_variance_ratio_), atol=1e-4, rtol=1e-4
    )
    again, _ = walks.project(codes.flip(0))  # the order of the rows does not turn the picture round
    torch.testing.assert_close(again.flip(0), points, atol=1e-3, rtol=1e-3)


def test_project_of_one_dimension_and_of_one_row():
    points, share = walks.project(torch.tensor([[1.0], [3.0]]))
    assert points.tolist() == [[-1, 0], [1, 0]] and share.tolist() == [1, 0]
    points, share = walks.project(torch.ones(1, 3))
    assert points.tolist() == [[0, 0]] and share.isfinite().all()


def test_plane_lies_in_the_plane_of_the_codes():
    torch.manual_seed(4)
    flat = torch.randn(2000, 2) * torch.tensor([3.0, 1.0])
    basis = torch.linalg.qr(torch.randn(5, 2)).Q.T
    codes = flat @ basis + 2.0
    grid = walks.plane(codes, 5)
    assert grid.shape == (25, 5)
    off = grid - codes.mean(0)
    torch.testing.assert_close(off, off @ basis.T @ basis, atol=1e-3, rtol=1e-3)
    points, _ = walks.project(codes)
    corner = (grid[4] - codes.mean(0)) @ torch.linalg.pinv(codes - codes.mean(0)) @ points  # top right
    share_below = (points < corner).float().mean(0)
    torch.testing.assert_close(share_below, torch.tensor([0.9, 0.9]), atol=0.01, rtol=0)
