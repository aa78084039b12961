"""What tells two sets apart, where the answer is known: kernels, neighbours' balls, the copying test."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from vaekit.metrics.copying import compared, nearness, rank_test, three_sample, verdict
from vaekit.metrics.discrepancy import (
    SCALES,
    discrepancy,
    inverse_multiquadratic,
    kernel_distance,
    permuted,
    polynomial,
)
from vaekit.metrics.manifolds import K, coverages
from vaekit.metrics.neighbours import Nearest


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# -- kernels


def test_the_discrepancy_is_the_plain_double_sum():
    a, b = drawn(7, 3), drawn(5, 3, seed=1) + 1
    for kernel in (polynomial, inverse_multiquadratic(3.0)):
        ka, kb, kab = kernel(a, a), kernel(b, b), kernel(a, b)
        wanted = sum(float(ka[i, j]) for i in range(7) for j in range(7) if i != j) / 42
        wanted += sum(float(kb[i, j]) for i in range(5) for j in range(5) if i != j) / 20
        wanted -= 2 * float(kab.mean())
        assert discrepancy(a, b, kernel) == pytest.approx(wanted, rel=1e-12)


def test_kernels_are_what_their_papers_write():
    a, b = drawn(4, 3), drawn(6, 3, seed=1)
    for i, j in ((0, 0), (3, 5)):
        assert float(polynomial(a, b)[i, j]) == pytest.approx((float(a[i] @ b[j]) / 3 + 1) ** 3)
        squared = float((a[i] - b[j]).square().sum())
        wanted = sum(2 * 3.0 * s / (2 * 3.0 * s + squared) for s in SCALES)
        assert float(inverse_multiquadratic(3.0)(a, b)[i, j]) == pytest.approx(wanted)


def test_the_discrepancy_of_shifted_gaussians_is_its_closed_form():
    """Under exp(-|a - b|^2 / 2 w): k of two unit Gaussians m apart is (w / (w + 2))^(d/2) exp(-m^2 / (2 (w + 2)))."""
    d, w, m, n = 2, 1.5, 0.8, 700

    def gaussian(a: Tensor, b: Tensor) -> Tensor:
        return torch.exp(-torch.cdist(a, b).square() / (2 * w))

    shift = torch.tensor([m, 0.0], dtype=torch.float64)
    found = [discrepancy(drawn(n, d, seed=s), drawn(n, d, seed=s + 50) + shift, gaussian) for s in range(16)]
    wanted = 2 * (w / (w + 2)) ** (d / 2) * (1 - math.exp(-(m**2) / (2 * (w + 2))))
    assert np.mean(found) == pytest.approx(wanted, abs=4 * np.std(found, ddof=1) / 4)
    assert wanted > 0.05


def test_without_bias_means_around_zero_and_sometimes_below():
    found = np.array(
        [discrepancy(drawn(40, 4, seed=s), drawn(40, 4, seed=s + 500), polynomial) for s in range(60)]
    )
    assert abs(found.mean()) < 4 * found.std() / math.sqrt(60) and (found < 0).any()


def test_the_kernel_distance_is_the_mean_over_subsets():
    """Of unit Gaussians m apart, with u = |m|^2, E (x . x' / d + 1)^3 follows from the moments of a product."""
    d, u = 8, 8 * 0.5**2
    a, b = drawn(300, d), drawn(260, d, seed=1)
    same, far = kernel_distance(a, b, 0), kernel_distance(a, b + 0.5, 0)
    assert (same["size"], same["subsets"]) == (130, 100)
    assert abs(same["value"]) < same["spread"] and far["value"] > 3 * far["spread"]
    assert far == kernel_distance(a, b + 0.5, 0) != kernel_distance(a, b + 0.5, 1)
    wanted = (1 + 3 / d) + (1 + 3 * u / d + 3 * (d + 2 * u + u**2) / d**2) - 2 * (1 + 3 * (d + u) / d**2)
    wanted += (u**3 + 3 * u * (d + 2 * u) + 6 * u) / d**3
    assert far["value"] == pytest.approx(wanted, rel=0.2)


def test_a_permutation_test_keeps_its_word():
    kernel = inverse_multiquadratic(2.0)
    a, b = drawn(100, 2), drawn(100, 2, seed=1)
    found = permuted(a, b, kernel, 0)
    assert found["value"] == pytest.approx(discrepancy(a, b, kernel), abs=1e-12)
    values = [permuted(drawn(50, 2, seed=s), drawn(50, 2, seed=s + 900), kernel, s)["p"] for s in range(60)]
    assert np.mean(np.array(values) <= 0.05) < 0.2 and 0.3 < np.mean(values) < 0.7
    far = permuted(a, b + 1, kernel, 0)
    assert far["value"] > far["floor"] > 0 and far["p"] == pytest.approx(1 / 201)
    assert found["value"] < 3 * found["floor"]


# -- balls


def test_precision_and_its_kin_are_what_a_plain_count_gives():
    from sklearn.neighbors import NearestNeighbors

    made, real, k = 1.5 * drawn(60, 3).numpy(), drawn(50, 3, seed=1).numpy(), 4
    reach = {
        name: NearestNeighbors(n_neighbors=k).fit(x).kneighbors()[0][:, -1]
        for name, x in (("made", made), ("real", real))
    }
    gaps = np.linalg.norm(made[:, None] - real[None], axis=-1)  # [made, real]
    found = coverages(torch.from_numpy(made), torch.from_numpy(real), k)
    inside = gaps <= reach["real"][None]
    assert found["precision"] == pytest.approx(inside.any(1).mean())
    assert found["recall"] == pytest.approx((gaps <= reach["made"][:, None]).any(0).mean())
    assert found["density"] == pytest.approx(inside.sum() / (k * len(made)))
    assert found["coverage"] == pytest.approx(inside.any(0).mean())
    assert 0 < found["coverage"] < 1 and 0 < found["precision"] < 1


def test_a_set_covers_itself_and_nothing_that_is_far():
    x = drawn(200, 5)
    same, far = coverages(x, x), coverages(x + 100, x)
    assert (same["precision"], same["recall"], same["coverage"], same["k"]) == (1, 1, 1, K)
    assert [far[name] for name in ("precision", "recall", "density", "coverage")] == [0, 0, 0, 0]


@pytest.mark.parametrize("d", [2, 16])
def test_two_sets_of_one_law_read_density_one_and_coverage_by_k_alone(d):
    n = 2000
    found = coverages(drawn(n, d), drawn(n, d, seed=1))
    assert found["density"] == pytest.approx(1, abs=0.06)
    assert found["coverage"] == pytest.approx(1 - 2.0**-K, abs=4 * math.sqrt(2.0**-K / n))


def test_a_mode_that_is_dropped_costs_recall_and_coverage_and_not_precision():
    centres = 20 * torch.eye(4, dtype=torch.float64)
    real = torch.cat([drawn(200, 4, seed=i) + centres[i] for i in range(4)])
    whole = torch.cat([drawn(200, 4, seed=10 + i) + centres[i] for i in range(4)])
    few = torch.cat([drawn(400, 4, seed=20 + i) + centres[i] for i in range(2)])
    kept, dropped = coverages(whole, real), coverages(few, real)
    assert dropped["precision"] > 0.9 and abs(dropped["precision"] - kept["precision"]) < 0.03
    assert kept["recall"] > 0.9 and dropped["recall"] < 0.5
    assert kept["coverage"] > 0.9 and dropped["coverage"] < 0.51
    assert dropped["density"] > 0.9


def test_noise_about_the_law_costs_precision_and_density():
    real, wide = drawn(800, 6), 3 * drawn(800, 6, seed=1)
    found = coverages(wide, real)
    assert found["precision"] < 0.3 and found["density"] < 0.2


# -- neighbours


def test_neighbours_are_those_of_all_rows_at_once():
    points, rows = drawn(30, 7).float() + 50, drawn(1000, 7, seed=1).float() + 50
    near = Nearest(points, 4)
    for block in rows.split(137):
        near.add(block)
    wanted = torch.cdist(points.double(), rows.double()).topk(4, largest=False)
    assert torch.equal(near.index, wanted.indices)
    assert torch.allclose(near.distances.double(), wanted.values, atol=1e-3)
    assert torch.allclose(near.distance(rows[near.index[:, 0]]), wanted.values[:, 0], atol=1e-4)
    assert not Nearest(points, 1).distance(points).any()
    few = Nearest(points, 4)
    few.add(rows[:2])
    assert few.distances.shape == (30, 2)


# -- copies


def test_the_rank_test_is_scipys():
    from scipy.stats import mannwhitneyu

    a, b = drawn(80).numpy(), drawn(120, seed=1).numpy() + 0.3
    share, z = rank_test(a, b)
    wanted = mannwhitneyu(a, b, method="asymptotic", use_continuity=False, alternative="greater")
    assert share == pytest.approx(1 - wanted.statistic / (80 * 120))
    from scipy.stats import norm

    assert norm.sf(-z) == pytest.approx(wanted.pvalue, rel=1e-6)
    assert rank_test(np.ones(9), np.ones(7)) == (0.5, 0)


def test_the_ratio_asks_for_a_single_row():
    assert nearness(np.array([[1.0, 2.0, 3.0], [0.0, 1.0, 1.0], [2.0, 2.0, 2.0], [0.0, 0.0, 0.0]])).tolist() == [
        0.4, 0, 1, 0,
    ]  # fmt: skip


def audited(made: Tensor, held: Tensor, train: Tensor) -> dict:
    """An audit of points [N, F] as `copies` makes it, of one space and one cell."""
    near = []
    for points in (made, held):
        each = Nearest(points.float(), 10)
        each.add(train.float())
        near.append(each.distances.double().numpy())
    rows = {tuple(row) for row in train.tolist()}
    exact = {
        name: sum(tuple(x) in rows for x in each.tolist())
        for name, each in (("samples", made), ("held_out", held))
    }
    space = compared(*near)
    one = np.zeros(len(made), int), np.zeros(len(held), int)
    space["three_sample"] = three_sample(near[0][:, 0], near[1][:, 0], *one)
    result = {"samples": len(made), "rows": len(held), "exact": exact, "spaces": {"columns": space}}
    return result | {"verdict": verdict(result)}


def test_copied_rows_are_caught_and_held_out_ones_are_not():
    d, n = 12, 500
    train, held, fresh = drawn(4000, d), drawn(n, d, seed=1), drawn(n, d, seed=2)
    honest = audited(fresh, held, train)
    space = honest["spaces"]["columns"]
    assert honest["verdict"].startswith("no sign of copies") and honest["exact"]["samples"] == 0
    assert abs(space["distance"]["z"]) < 3 and abs(space["close_z"]) < 3 and abs(space["three_sample"]) < 3

    near = train[:n] + 0.02 * drawn(n, d, seed=3)
    noisy = audited(near, held, train)
    assert "some repeat training rows" in noisy["verdict"]
    assert noisy["spaces"]["columns"]["close"] == 1 and noisy["spaces"]["columns"]["three_sample"] < -3
    assert noisy["spaces"]["columns"]["distance"]["auc"] == 1

    few = torch.cat((fresh[:-40], near[:40]))  # one in twelve: the mean distance says nothing yet
    some = audited(few, held, train)
    assert "some repeat training rows" in some["verdict"]
    assert some["spaces"]["columns"]["close"] == pytest.approx(40 / n + 0.01, abs=0.015)

    exact = audited(torch.cat((fresh[:-40], train[:40])), held, train)
    assert (
        exact["exact"] == {"samples": 40, "held_out": 0}
        and "40 of 500 samples are training rows" in exact["verdict"]
    )


def test_smooth_samples_are_near_to_all_and_no_copies():
    """Shrunk to the middle of the law, as means are, they lie nearer to training rows than held-out rows do."""
    d, n = 12, 500
    train, held = drawn(4000, d), drawn(n, d, seed=1)
    found = audited(0.5 * drawn(n, d, seed=2), held, train)
    space = found["spaces"]["columns"]
    assert space["distance"]["z"] > 3 and space["three_sample"] < -3
    assert space["close_z"] < 3 and "but by no single one" in found["verdict"]


def test_samples_off_the_data_are_no_copies():
    d, n = 12, 300
    found = audited(2 * drawn(n, d, seed=2), drawn(n, d, seed=1), drawn(2000, d))
    assert found["spaces"]["columns"]["three_sample"] > 3
    assert (
        found["verdict"] == "no sign of copies: samples lie no nearer to training rows than held-out rows do"
    )


def test_what_repeats_in_the_data_is_no_copying():
    """Of few possible rows most held-out ones are training rows too."""
    rng = torch.Generator().manual_seed(0)
    train, held, made = (torch.randint(0, 2, (n, 5), generator=rng).double() for n in (1000, 200, 200))
    found = audited(made, held, train)
    assert found["exact"] == {"samples": 200, "held_out": 200} and found["verdict"].startswith(
        "no sign of copies"
    )


def test_cells_with_too_few_points_are_left_out():
    a, b = drawn(100).numpy(), drawn(100, seed=1).numpy()
    few = np.repeat([0, 1], [95, 5])
    assert three_sample(a, b, few, few) == pytest.approx(-rank_test(a[:95], b[:95])[1])
    assert three_sample(a[:5], b, few[:5], few) is None
    halves = np.repeat([0, 1], 50)
    wanted = -(rank_test(a[:50], b[:50])[1] + rank_test(a[50:], b[50:])[1]) / 2
    assert three_sample(a, b, halves, halves) == pytest.approx(wanted)
