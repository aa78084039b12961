"""Real data from the path alone: what each is taken for, and the hashes that published numbers rest on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vaekit import VaekitError
from vaekit.data import known_name, open_data

REAL = Path(__file__).parents[2].parent / "shared" / "data"
needs_real = pytest.mark.skipif(not REAL.exists(), reason=f"real data are not at {REAL}")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VAEKIT_CACHE", str(tmp_path / "cache"))


def test_digits():
    contract = open_data("digits").contract
    line = "digits: 1,797 images 1x8x8, grey levels 0..16 (binomial), 10 labels, split 1437/180/180 by seed 0"
    assert contract.line().startswith(line)
    assert (contract.levels, contract.divisor, contract.labels) == (16, (16.0,), tuple("0123456789"))


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    data, known = open_data("digits", whole=True), load_digits()
    assert np.array_equal(data.train.x[:, 0], known.images) and np.array_equal(data.train.label, known.target)


@needs_real
@pytest.mark.parametrize(
    ("source", "shape", "kind", "labels", "rows"),
    [
        ("mnist", (1, 28, 28), "8-bit", 10, (50_000, 10_000, 10_000)),
        ("fashion-mnist", (1, 28, 28), "8-bit", 10, (50_000, 10_000, 10_000)),
        ("binarized-mnist", (1, 28, 28), "binary", 0, (50_000, 10_000, 10_000)),
        ("faces/orl", (1, 112, 92), "8-bit", 40, (320, 40, 40)),
        ("faces/frey.npy", (1, 28, 20), "8-bit", 0, (1573, 196, 196)),
        ("uci-binary/dna.npz", (180,), "binary", 0, (1400, 600, 1186)),
        ("uci-binary/mushrooms.npz", (112,), "binary", 0, (2000, 500, 5624)),
    ],
)
def test_opens_from_the_path_alone(source, shape, kind, labels, rows):
    contract = open_data(REAL / source).contract
    assert (contract.shape, contract.kind, len(contract.labels)) == (shape, kind, labels)
    assert tuple(contract.rows.values()) == rows


@needs_real
def test_cifar_zip_has_ten_classes_in_two_splits():
    data = open_data(REAL / "cifar10-jpg.zip", limit=60)
    assert (data.contract.shape, data.contract.kind) == ((3, 32, 32), "colour")
    assert len(data.contract.labels) == 10 and data.contract.labels[0] == "airplane"
    assert data.contract.rows == {"train": 60, "valid": 60, "test": 60}
    assert len(np.unique(data.test.label)) == 10


@needs_real
@pytest.mark.long
def test_cifar_zip_whole():
    contract = open_data(REAL / "cifar10-jpg.zip").contract
    assert contract.rows == {"train": 45_000, "valid": 5_000, "test": 10_000}


@needs_real
@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("mnist", "MNIST test, dynamically binarised"),
        ("fashion-mnist", "Fashion-MNIST test, dynamically binarised"),
    ],
)
def test_evaluation_bits_are_the_published_ones(source, name):
    data = open_data(REAL / source, binarize="dynamic")
    assert known_name(data.test.hash(data.contract)).startswith(name)
    assert data.contract.kind == "binary"


@needs_real
def test_mnist_validation_is_the_last_ten_thousand():
    data = open_data(REAL / "mnist", binarize="dynamic")
    whole = open_data(REAL / "mnist", whole=True)
    assert np.array_equal(data.valid.x, whole.train.x[50_000:])
    assert np.array_equal(data.valid.label, whole.train.label[50_000:])


@needs_real
def test_static_mnist_is_larochelles():
    data = open_data(REAL / "binarized-mnist")
    for name, split in data.splits.items():
        assert known_name(split.hash(data.contract)) == f"static MNIST {name}"


@needs_real
@pytest.mark.parametrize(("name", "rows"), [("dna", 1186), ("mushrooms", 5624)])
def test_uci_rows_are_known_by_their_hash(name, rows, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VAEKIT_DATA", str(REAL))
    data = open_data(name)
    assert data.contract.source == name
    assert known_name(data.test.hash(data.contract)) == f"UCI {name} test, {rows:,} rows"


@needs_real
def test_static_mnist_by_name_keeps_its_splits(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VAEKIT_DATA", str(REAL))
    data = open_data("static-mnist")
    assert data.contract.shape == (1, 28, 28) and data.contract.source == "static-mnist"
    assert known_name(data.test.hash(data.contract)) == "static MNIST test"


@pytest.mark.parametrize("name", ["static-mnist", "dna", "mushrooms"])
def test_bits_that_nobody_fetches_say_where_to_put_them(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VAEKIT_DATA", raising=False)
    with pytest.raises(VaekitError, match=rf"^{name} is not on this machine.*npz.*VAEKIT_DATA"):
        open_data(name)


@needs_real
def test_names_find_their_files_in_the_data_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VAEKIT_DATA", str(REAL))
    contract = open_data("fashion-mnist", limit=10).contract
    assert contract.source == "fashion-mnist" and "Ankle boot" in contract.labels
