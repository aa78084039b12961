"""Every disentanglement score of codes whose answer is known: the factors themselves, an even mixture of them, noise."""

import numpy as np
import pytest

from vaekit import VaekitError
from vaekit.metrics.disentanglement import dci, judge, points
from vaekit.metrics.disentanglement.mig import mig
from vaekit.metrics.disentanglement.modularity import modularity
from vaekit.metrics.disentanglement.sap import gaps

NAMES = {"a": 8, "b": 8, "c": 8, "d": 8}
GRID = np.stack(np.unravel_index(np.arange(8**4), (8,) * 4), 1)
FACTORS = (GRID - 3.5) / np.sqrt(5.25)  # of variance 1
# each dimension is the sum or difference of all factors, in equal parts: none of them is any factor
EVEN = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2
NOISE = np.random.default_rng(3).normal(size=(8**4, 4))
CODES = {"perfect": FACTORS, "entangled": FACTORS @ EVEN, "noise": NOISE}


@pytest.fixture(scope="module")
def few_rounds():
    """Five rounds of boosting tell these apart as a hundred do, in a twentieth of the time."""
    before, dci.TREES = dci.TREES, 5
    yield
    dci.TREES = before


@pytest.fixture(scope="module")
def found(few_rounds):
    return {name: judge.scores(codes, GRID, NAMES) for name, codes in CODES.items()}


def test_the_factors_themselves_read_one(found):
    perfect = found["perfect"]
    assert perfect["factorvae"]["score"] == 1 and perfect["betavae"]["score"] > 0.999
    assert perfect["mig"]["score"] > 0.99 and perfect["modularity"]["score"] > 0.999
    assert perfect["dci"]["disentanglement"] > 0.99 and perfect["dci"]["completeness"] > 0.99
    assert perfect["dci"]["informativeness"] == 1
    assert perfect["points"] == {"train": 2731, "test": 1365} and perfect["bins"] == 20


def test_an_even_mixture_of_them_reads_low(found):
    mixed = found["entangled"]
    assert mixed["mig"]["score"] < 0.05 and mixed["sap"]["score"] < 0.05
    assert mixed["modularity"]["score"] < 0.2
    assert mixed["dci"]["disentanglement"] < 0.1 and mixed["dci"]["completeness"] < 0.1
    # a quarter is chance
    assert mixed["factorvae"]["score"] < 0.4 and mixed["betavae"]["score"] < 0.4


def test_noise_is_at_the_floor_of_each(found):
    noise = found["noise"]
    assert noise["mig"]["score"] < 0.01 and noise["sap"]["score"] < 0.02
    assert noise["dci"]["disentanglement"] < 0.1 and noise["dci"]["completeness"] < 0.1
    assert noise["dci"]["informativeness"] == pytest.approx(1 / 8, abs=0.03)
    assert noise["factorvae"]["score"] == pytest.approx(1 / 4, abs=0.05)
    assert noise["betavae"]["score"] == pytest.approx(1 / 4, abs=0.05)


def test_order_scale_and_dimensions_without_meaning_change_nothing(found, few_rounds):
    order, scale = [3, 0, 2, 1], np.array([2.0, -1.5, 0.7, 3.0])
    dead = 1e-3 * np.random.default_rng(1).normal(size=(len(GRID), 2))
    moved = np.concatenate([FACTORS[:, order] * scale + 5, dead], 1)
    again = judge.scores(moved, GRID, NAMES)
    assert again["factorvae"] == {"score": 1.0, "active": [0, 1, 2, 3]}
    assert again["mig"]["score"] == pytest.approx(found["perfect"]["mig"]["score"], abs=0.02)
    for name in ("disentanglement", "completeness", "informativeness"):
        assert again["dci"][name] > 0.99
    assert again["betavae"]["score"] > 0.999
    assert np.argmax(again["mutual_information"], axis=0).tolist() == [1, 3, 2, 0]
    mixed = judge.scores((FACTORS @ EVEN)[:, order] * 2, GRID, NAMES)
    assert mixed["mig"]["score"] == pytest.approx(found["entangled"]["mig"]["score"], abs=1e-9)
    assert mixed["modularity"]["score"] == pytest.approx(found["entangled"]["modularity"]["score"], abs=1e-9)
    assert mixed["dci"]["disentanglement"] < 0.1 and mixed["factorvae"]["score"] < 0.4


def test_sap_reads_one_less_chance_at_most(few_rounds):
    bits = np.random.default_rng(0).integers(0, 2, (3000, 3))
    result = judge.scores(bits * 4.0 - 2, bits, {"a": 2, "b": 2, "c": 2})
    assert result["sap"]["score"] == pytest.approx(0.5, abs=0.04)
    assert np.array(result["sap"]["accuracy"])[np.arange(3), np.arange(3)].tolist() == [1, 1, 1]
    assert gaps(np.array([[0.9, 0.5], [0.2, 0.5], [0.6, 0.1]])).tolist() == pytest.approx([0.3, 0.0])


def test_what_is_made_of_a_matrix_follows_its_formula():
    entropies = np.array([2.0, 1.0])
    assert mig(np.array([[2.0, 0.0], [0.5, 0.4], [1.0, 0.1]]), entropies).tolist() == pytest.approx(
        [0.5, 0.3]
    )
    told = np.array([[3.0, 0, 0], [2.0, 1.0, 0], [1.0, 1.0, 1.0], [0, 0, 0]])
    assert modularity(told).tolist() == pytest.approx([1, 1 - 1 / 8, 0, 0])
    assert dci.disentanglement(np.eye(3)) == dci.completeness(np.eye(3)) == 1
    assert dci.disentanglement(np.full((4, 3), 0.25)) == pytest.approx(0, abs=1e-12)
    # two dimensions share a factor: each is of one factor, but the factor needs both
    shared = np.array([[0.5, 0], [0.5, 0], [0, 1.0]])
    assert dci.disentanglement(shared) == pytest.approx(1)
    assert dci.completeness(shared) == pytest.approx(1 - 0.5 * np.log(2) / np.log(3))
    assert dci.disentanglement(np.zeros((2, 2))) == 0


def test_a_dimension_votes_from_a_standard_deviation_of_a_twentieth_on(few_rounds):
    again = judge.scores(FACTORS * [1.0, 0.1, 0.06, 0.04], GRID, NAMES)["factorvae"]
    assert (
        again["active"] == [0, 1, 2] and 0.7 < again["score"] < 0.85
    )  # the fourth factor's rows vote at random


def test_a_collapsed_code_reads_nothing(few_rounds):
    result = judge.scores(np.zeros((600, 3)), GRID[:600] % 4, NAMES)
    assert result["factorvae"] == {"score": 0.0, "active": []}
    assert result["mig"]["score"] == result["modularity"]["score"] == result["sap"]["score"] == 0
    assert result["dci"]["disentanglement"] == result["dci"]["completeness"] == 0


def test_points_are_apart_and_rows_with_one_value_are_drawn_evenly():
    few = points.Points(FACTORS, GRID, seed=5)
    assert not set(few.train) & set(few.test) and len(few.train) + len(few.test) == len(GRID)
    many = points.Points(np.zeros((20_000, 2)), np.zeros((20_000, 1), np.int64), seed=5)
    assert (len(many.train), len(many.test)) == (10_000, 5_000)
    draws = np.random.default_rng(0)
    rows = draws.integers(len(GRID), size=(500, 64))
    shared = few.sharing(2, rows, draws)
    assert shared.shape == rows.shape and np.array_equal(GRID[shared, 2], GRID[rows, 2])
    counts = np.bincount(GRID[shared.ravel(), 0], minlength=8) / shared.size
    assert np.allclose(counts, 1 / 8, atol=0.01)  # the other factors go on varying
    assert np.abs(np.corrcoef(GRID[rows.ravel(), 0], GRID[shared.ravel(), 0])[0, 1]) < 0.02


def test_a_seed_repeats_itself_and_a_constant_factor_is_left_out(few_rounds):
    factors = GRID[:1000]  # the first two factors are 0 or 1 and 0 to 7 there
    codes = FACTORS[:1000] + 0.3 * NOISE[:1000]
    first, again = (judge.scores(codes, factors, NAMES, seed=4) for _ in range(2))
    other = judge.scores(codes, factors, NAMES, seed=5)
    assert first == again and first["mutual_information"] != other["mutual_information"]
    fixed = judge.scores(codes, factors * [0, 1, 1, 1], NAMES)
    assert list(fixed["factors"]) == ["b", "c", "d"] and fixed["constant"] == ["a"]
    with pytest.raises(VaekitError, match=r"^disentanglement tells factors apart, and b alone varies"):
        judge.scores(codes, factors * [0, 1, 0, 0], NAMES)


@pytest.mark.long
def test_the_whole_protocol_on_the_sprites_own_factors():
    from vaekit.data import sprites

    rows = np.random.default_rng(0).permutation(sprites.ROWS)[:15_000]
    factors = sprites.factors(rows)
    result = judge.scores((factors - factors.mean(0)) / factors.std(0), factors, sprites.FACTORS)
    assert result["points"] == {"train": 10_000, "test": 5_000}
    assert result["factorvae"]["score"] == 1 and result["betavae"]["score"] > 0.999
    assert result["dci"]["disentanglement"] > 0.99 and result["dci"]["informativeness"] > 0.99
    # forty rotations in twenty bins: log 20 / log 40 of that entropy is what bins can tell
    assert result["mig"]["gaps"][2] == pytest.approx(np.log(20) / np.log(40), abs=0.02)
    assert min(np.delete(result["mig"]["gaps"], 2)) > 0.97
