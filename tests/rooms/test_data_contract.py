"""The contract: units there and back, what it refuses, its JSON; splits, frozen bits and batches."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import torch

from vaekit.data import Batches, Contract, Preparation, open_data, permutation
from vaekit.errors import VaekitError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (60, 5, 4), np.uint8)
SOURCES = {
    "binary": (GREY > 99).astype(np.uint8),
    "binary of 255": (GREY > 99) * np.uint8(255),
    "levels": GREY % 17,
    "8-bit": GREY,
    "colour": RNG.integers(0, 256, (60, 3, 5, 4), np.uint8),
    "real images": RNG.normal(3, 5, (60, 1, 5, 4)),
    "real": RNG.normal([0, 100, -3], [1e-3, 20, 4], (60, 3)),
    "counts": RNG.poisson([1, 40, 300], (60, 3)),
    "categories": RNG.integers(0, 4, (60, 3)),
}


@pytest.mark.parametrize("name", SOURCES)
def test_units_there_and_back_and_json(name):
    kind = "categories" if name == "categories" else None
    data = open_data(SOURCES[name], kind=kind, whole=True)
    contract, stored = data.contract, np.asarray(data.train.x)
    x = contract.scale(torch.from_numpy(stored))
    assert x.dtype == torch.float32 and x.shape == stored.shape
    assert torch.equal(Preparation(contract)(torch.from_numpy(stored)), x)
    back = contract.unscale(x)
    assert back.dtype == stored.dtype == np.dtype(contract.dtype)
    if contract.discrete:
        assert np.array_equal(back, stored) and x.min() >= 0
    else:
        assert np.allclose(back, stored, rtol=1e-5, atol=1e-6)
        assert abs(float(x.mean())) < 1e-3 and abs(float(x.std(correction=0)) - 1) < 1e-3
    if kind is None and not name.startswith(("real", "counts")):
        assert x.max() == 1
    contract.check(stored, "the same rows")
    assert Contract.from_dict(json.loads(json.dumps(contract.to_dict()))) == contract
    if contract.is_image:
        picture = contract.picture(x)
        assert picture.shape == stored.shape and picture.min() >= 0 and picture.max() <= 1


def test_draws_of_several_batch_axes_come_back_too():
    contract = open_data(SOURCES["real"]).contract
    x = torch.randn(2, 7, 3)
    assert np.allclose(contract.scale(torch.from_numpy(contract.unscale(x))), x, atol=1e-4)


def test_unscale_rounds_and_clips():
    contract = open_data(GREY).contract
    x = torch.tensor([-0.5, 0.5019, 1.7]).reshape(3, 1, 1, 1).expand(3, 1, 5, 4)
    assert contract.unscale(x)[:, 0, 0, 0].tolist() == [0, 128, 255]


def test_real_columns_are_standardised_from_training_rows_alone():
    data = open_data({"train": SOURCES["real"], "valid": SOURCES["real"] + 50, "test": SOURCES["real"]})
    assert np.allclose(data.contract.offset, SOURCES["real"].mean(0), rtol=1e-5)
    assert np.allclose(data.contract.divisor, SOURCES["real"].std(0), rtol=1e-4)


def test_a_constant_column_keeps_unit_scale():
    x = np.column_stack([np.full(40, 7.0), RNG.normal(size=40)])
    assert open_data(x).contract.divisor[0] == 1.0


def test_counts_scale_is_a_power_of_two():
    divisor = open_data(SOURCES["counts"]).contract.divisor
    assert divisor == (512.0,)


@pytest.mark.parametrize(
    ("base", "new", "message"),
    [
        ("levels", GREY, "0 to 255 outside 0..16"),
        ("8-bit", GREY[:, :3], "rows are 1x3x4, but array has 1x5x4"),
        ("8-bit", GREY - 5.5, "not whole numbers"),
        ("8-bit", np.where(GREY > 250, np.nan, GREY), "holds NaN"),
        ("binary", GREY, "outside 0..1"),
        ("counts", RNG.normal(size=(9, 3)), "not whole numbers"),
        ("real", SOURCES["real"] * 1e6, "are they in other units"),
        ("real", RNG.normal(size=(9, 4)), "rows are 4 values, but array has 3 values"),
    ],
)
def test_new_data_outside_the_contract_are_refused(base, new, message):
    contract = open_data(SOURCES[base]).contract
    with pytest.raises(VaekitError, match=message):
        open_data(new, contract=contract, whole=True)


def test_new_data_are_brought_to_the_contract():
    contract = open_data(GREY).contract
    for new in (
        GREY[:2] / np.float32(255),
        GREY[:2].reshape(2, 20),
        GREY[:2, None].astype(float),
        GREY[:2, ..., None],
    ):
        data = open_data(new, contract=contract, whole=True)
        assert np.array_equal(data.train.x[:, 0], GREY[:2]) and data.train.x.dtype == np.uint8
    bits = open_data(SOURCES["binary of 255"]).contract
    assert open_data(SOURCES["binary"], contract=bits, whole=True).train.x.max() == 255


def test_labels_follow_the_contract_by_name():
    contract = open_data((GREY, np.array(list("abc"))[np.arange(60) % 3])).contract
    new = open_data((GREY[:3], np.array(["c", "a", "?"])), contract=contract, whole=True)
    assert new.train.label.tolist() == [2, 0, -1]


def test_split_is_the_datas_own():
    one, two, other = open_data(GREY), open_data(GREY), open_data(GREY, seed=1)
    assert one.contract.rows == {"train": 48, "valid": 6, "test": 6}
    assert np.array_equal(one.test.x, two.test.x) and not np.array_equal(one.test.x, other.test.x)
    rows = [row.tobytes() for split in one.splits.values() for row in split.rows(slice(None))]
    assert sorted(rows) == sorted(row.tobytes() for row in GREY)
    assert open_data(GREY, valid=0.25).contract.rows["valid"] == 15


def test_split_names():
    data = open_data({"train": GREY, "valid": GREY[:9]})
    assert data.split("validation") is data.valid
    with pytest.raises(VaekitError, match="has no test split; it has train, valid"):
        data.split("test")
    with pytest.raises(VaekitError, match="did you mean 'train'"):
        data.split("trian")
    with pytest.raises(VaekitError, match="their own validation"):
        open_data({"train": GREY, "valid": GREY[:9]}, valid=0.1)


def test_limit_is_a_split():
    data = open_data(GREY, limit=5)
    assert data.contract.rows == {"train": 5, "valid": 5, "test": 5}
    assert any("at most 5 rows" in n for n in data.contract.preparation)


def test_frozen_bits_are_the_protocols():
    data = open_data(GREY, binarize="dynamic")
    contract, test = data.contract, data.test
    bits = np.random.RandomState(0).random_sample((6, 20)) < test.x.reshape(6, 20) / 255
    frozen = test.frozen(contract)
    assert np.array_equal(frozen.x.reshape(6, 20), bits * 255)
    assert test.hash(contract) == hashlib.sha256(np.packbits(bits, axis=None).tobytes()).hexdigest()
    assert frozen.hash(contract) == test.hash(contract) and frozen.frozen(contract) is frozen
    static = open_data(GREY, binarize="static")
    assert static.test.hash(static.contract) == test.hash(contract)


@pytest.mark.parametrize("source", ["8-bit", "levels"])
def test_dynamic_bits_are_fresh_and_frozen_ones_are_left_alone(source):
    data = open_data(SOURCES[source], binarize="dynamic")
    prepare = Preparation(data.contract)
    grey = torch.from_numpy(np.asarray(data.train.x))
    torch.manual_seed(0)
    draws = torch.stack([prepare(grey) for _ in range(400)])
    assert set(draws.unique().tolist()) == {0.0, 1.0} and not torch.equal(draws[0], draws[1])
    assert (draws.mean(0) - grey / data.contract.high).abs().max() < 0.13  # five standard errors
    frozen = torch.from_numpy(data.test.frozen(data.contract).x)
    assert torch.equal(prepare(frozen), frozen / data.contract.high)


def test_binarize_is_for_greys():
    with pytest.raises(VaekitError, match="add --grey"):
        open_data(SOURCES["colour"], binarize="dynamic")
    assert open_data(SOURCES["colour"], binarize="dynamic", grey=True).contract.kind == "binary"
    already = open_data(SOURCES["binary"], binarize="dynamic").contract
    assert already.binarize is None and any("binary already" in n for n in already.preparation)
    with pytest.raises(VaekitError, match="did you mean 'dynamic'"):
        open_data(GREY, binarize="dynamical")


def test_size_of_arrays():
    data = open_data(GREY, size=3)
    assert data.contract.shape == (1, 3, 3) and data.train.x.dtype == np.uint8
    with pytest.raises(VaekitError, match="vectors have no size"):
        open_data(SOURCES["real"], size=8)
    with pytest.raises(VaekitError, match="8 pixels"):
        open_data(GREY, size="8 pixels")


def test_batches_gather_rows_and_one_hot_labels(tmp_path):
    label = np.arange(60) % 3
    np.savez(tmp_path / "a.npz", x=GREY, y=label)
    data = open_data(tmp_path / "a.npz", whole=True)
    index = np.array([5, 0, 5, 59])
    for resident in (None, 0):
        batches = Batches(data.train, data.contract, "cpu", condition=True, resident_bytes=resident)
        raw, c = batches.get(index)
        assert len(batches) == 60 and raw.dtype == torch.uint8
        assert np.array_equal(raw[:, 0], GREY[index]) and c.argmax(1).tolist() == label[index].tolist()
        assert torch.equal(batches.get(torch.from_numpy(index))[0], raw)
    assert Batches(data.train, data.contract, "cpu", condition=False).get(index)[1] is None


def test_batches_of_a_memory_map_in_channels_last(tmp_path):
    x = RNG.integers(0, 256, (40, 5, 4, 3), np.uint8)
    np.save(tmp_path / "a.npy", x)
    data = open_data(tmp_path / "a.npy", whole=True)
    assert isinstance(data.train.x, np.memmap)
    for resident in (None, 0):
        raw, _ = Batches(data.train, data.contract, "cpu", condition=False, resident_bytes=resident).get(
            np.array([7, 3])
        )
        assert np.array_equal(raw, x[[7, 3]].transpose(0, 3, 1, 2))
    assert np.array_equal(np.load(tmp_path / "a.npy"), x)


def test_rows_of_a_large_memory_map_stay_there(tmp_path, monkeypatch):
    from vaekit.data import splits

    np.save(tmp_path / "a.npy", GREY)
    small = open_data(tmp_path / "a.npy")
    monkeypatch.setattr(splits, "_LAZY_BYTES", 0)
    lazy = open_data(tmp_path / "a.npy")
    assert isinstance(lazy.train.x, splits.Rows) and lazy.contract == small.contract
    index = np.array([3, 1])
    assert np.array_equal(lazy.train.rows(index), small.train.rows(index))
    raw, _ = Batches(lazy.train, lazy.contract, "cpu", condition=False).get(index)
    assert np.array_equal(raw, small.train.rows(index))


def test_conditioning_needs_labels():
    data = open_data(GREY)
    with pytest.raises(VaekitError, match="no labels to condition on"):
        Batches(data.train, data.contract, "cpu", condition=True)


def test_permutation_is_of_seed_and_epoch():
    first = permutation(100, 1, 0)
    assert np.array_equal(first, permutation(100, 1, 0)) and first.dtype == np.int64
    assert sorted(first) == list(range(100))
    assert not np.array_equal(first, permutation(100, 1, 1)) and not np.array_equal(
        first, permutation(100, 2, 0)
    )


def test_a_contract_of_another_schema_is_refused():
    plain = open_data(GREY).contract.to_dict()
    with pytest.raises(VaekitError, match="schema 99"):
        Contract.from_dict(plain | {"schema": 99})
