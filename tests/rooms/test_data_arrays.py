"""npy, npz, idx, what Python holds, names to fetch, and what cannot be data."""

from __future__ import annotations

import gzip
import pickle

import numpy as np
import pytest
import torch

from vaekit.data import open_data
from vaekit.errors import VaekitError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (50, 6, 5), np.uint8)
LABEL = np.arange(50) % 3


def idx_bytes(array: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return head + array.astype(np.uint8).tobytes()


@pytest.fixture
def mnist_like(tmp_path):
    folder = tmp_path / "letters"
    folder.mkdir()
    for name, n in (("train", 50), ("t10k", 20)):
        images, labels = f"{name}-images-idx3-ubyte", f"{name}-labels-idx1-ubyte"
        (folder / f"{images}.gz").write_bytes(gzip.compress(idx_bytes(GREY[:n])))
        (folder / labels).write_bytes(idx_bytes(LABEL[:n]))
    return folder


def test_idx_folder_gzipped_and_plain(mnist_like):
    data = open_data(mnist_like, valid=12)
    assert data.contract.rows == {"train": 38, "valid": 12, "test": 20}
    assert np.array_equal(data.valid.x[:, 0], GREY[38:]) and np.array_equal(data.valid.label, LABEL[38:])
    assert "last 12 training rows" in data.contract.line()


def test_one_idx_file_finds_its_labels(mnist_like):
    data = open_data(mnist_like / "t10k-images-idx3-ubyte.gz", whole=True)
    assert np.array_equal(data.train.label, LABEL[:20]) and data.contract.labels == ("0", "1", "2")


def test_damaged_idx_is_named(mnist_like):
    whole = gzip.decompress((mnist_like / "train-images-idx3-ubyte.gz").read_bytes())
    (mnist_like / "train-images-idx3-ubyte.gz").unlink()
    (mnist_like / "train-images-idx3-ubyte").write_bytes(whole[:-7])
    with pytest.raises(
        VaekitError, match=r"train-images-idx3-ubyte is damaged: .* 1,500 bytes, it has 1,493"
    ):
        open_data(mnist_like)
    (mnist_like / "train-images-idx3-ubyte").write_bytes(whole)
    (mnist_like / "train-labels-idx1-ubyte").write_bytes(idx_bytes(LABEL[:49]))
    with pytest.raises(VaekitError, match="49 labels for 50 images"):
        open_data(mnist_like)


@pytest.mark.parametrize(
    "keys",
    [
        {"images": GREY, "labels": LABEL},
        {"x": GREY, "y": LABEL},
        {"arr_0": GREY, "arr_1": LABEL},
        {"weird": GREY, "z": LABEL[:3]},
    ],
)
def test_npz_keys_by_convention(tmp_path, keys):
    np.savez(tmp_path / "a.npz", **keys)
    data = open_data(tmp_path / "a.npz", whole=True)
    assert np.array_equal(data.train.x[:, 0], GREY)
    assert (data.train.label is not None) == bool({"labels", "y"} & set(keys))


def test_npz_splits_by_key(tmp_path):
    images = {"train_images": GREY, "val_images": GREY[:9], "test_images": GREY[:7]}
    labels = {"train_labels": LABEL[:, None], "val_labels": LABEL[:9], "test_labels": LABEL[:7]}
    np.savez(tmp_path / "a.npz", **images, **labels)
    data = open_data(tmp_path / "a.npz")
    assert data.contract.rows == {"train": 50, "valid": 9, "test": 7}
    assert np.array_equal(data.train.label, LABEL) and data.contract.split == "as the data name them"


def test_npz_keys_can_be_named(tmp_path):
    np.savez(tmp_path / "a.npz", left=GREY, right=GREY[:, ::-1], kinds=LABEL)
    with pytest.raises(VaekitError, match=r"none of its keys .left, right, kinds."):
        open_data(tmp_path / "a.npz")
    data = open_data(tmp_path / "a.npz", key="right", labels="kinds", whole=True)
    assert np.array_equal(data.train.x[:, 0], GREY[:, ::-1]) and np.array_equal(data.train.label, LABEL)
    with pytest.raises(VaekitError, match="did you mean 'right'"):
        open_data(tmp_path / "a.npz", key="rihgt")


def test_folder_of_split_files(tmp_path):
    for name, n in (("train", 30), ("validation", 10), ("test", 10)):
        np.savez(tmp_path / f"{name}.npz", images=GREY[:n])
    assert open_data(tmp_path).contract.rows == {"train": 30, "valid": 10, "test": 10}


def test_splits_need_rows_of_one_shape(tmp_path):
    np.savez(tmp_path / "a.npz", train=GREY, test=GREY[:, :4])
    with pytest.raises(VaekitError, match="train 1x6x5, test 1x4x5"):
        open_data(tmp_path / "a.npz")


def test_pickled_arrays_are_never_read(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    np.save(tmp_path / "a.npy", np.array([Bomb(), 1], object), allow_pickle=True)
    np.savez(tmp_path / "a.npz", images=np.array([Bomb()], object))
    (tmp_path / "b.npy").write_bytes(pickle.dumps(Bomb()))
    for name in ("a.npy", "a.npz", "b.npy"):
        with pytest.raises(VaekitError, match="pickle"):
            open_data(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("array", "shape", "kind"),
    [
        (GREY, (1, 6, 5), "8-bit"),
        (RNG.integers(0, 256, (40, 6, 5, 3), np.uint8), (3, 6, 5), "colour"),
        (RNG.integers(0, 256, (40, 3, 6, 5), np.uint8), (3, 6, 5), "colour"),
        (GREY > 100, (1, 6, 5), "binary"),
        ((GREY > 100) * np.uint8(255), (1, 6, 5), "binary"),
        (GREY % 17, (1, 6, 5), "levels"),
        ((GREY % 17).astype(np.float64), (1, 6, 5), "levels"),
        (GREY / np.float32(255), (1, 6, 5), "8-bit"),
        (GREY / 254.7, (1, 6, 5), "real"),
        (GREY.astype(np.int64) * 9, (1, 6, 5), "counts"),
        (RNG.poisson(3.0, (40, 7)), (7,), "counts"),
        (RNG.normal(size=(40, 7)), (7,), "real"),
        (RNG.integers(-3, 3, (40, 7)), (7,), "real"),
        (GREY.reshape(50, 30).astype(bool), (30,), "binary"),
    ],
)
def test_kind_follows_from_the_values(array, shape, kind):
    contract = open_data(array).contract
    assert (contract.shape, contract.kind) == (shape, kind)


def test_floats_that_were_bytes_come_back_as_bytes():
    data = open_data(GREY / np.float32(255), whole=True)
    assert data.train.x.dtype == np.uint8 and np.array_equal(data.train.x[:, 0], GREY)
    assert any("k/255" in note for note in data.contract.preparation)


def test_flattened_byte_images_are_seen_for_what_they_are():
    rows = RNG.integers(0, 256, (40, 49), np.uint8)
    rows[0, 0] = 255
    contract = open_data(rows).contract
    assert contract.shape == (1, 7, 7) and any("images 7x7" in n for n in contract.preparation)
    assert open_data(rows, kind="counts").contract.shape == (49,)
    assert open_data(GREY.reshape(50, 30), size="6x5").contract.shape == (1, 6, 5)


@pytest.mark.parametrize(
    ("kind", "array", "message"),
    [
        ("binary", GREY, "binarise greys with --binarize"),
        ("8-bit", GREY.astype(int) * 2, "whole numbers 0..255"),
        ("counts", GREY - 300.0, "whole numbers from 0"),
        ("colour", GREY, "wants 3 channels"),
        ("count", GREY, "did you mean 'counts'"),
    ],
)
def test_a_kind_that_does_not_fit_is_refused(kind, array, message):
    with pytest.raises(VaekitError, match=message):
        open_data(array, kind=kind)


def test_python_values():
    x, y = torch.from_numpy(GREY), torch.from_numpy(LABEL)
    pairs = [(row / 255.0, int(label)) for row, label in zip(x, y, strict=True)]

    class Pairs(torch.utils.data.Dataset):
        def __len__(self):
            return len(pairs)

        def __getitem__(self, i):
            return pairs[i]

    for source in (
        (x, y),
        (GREY, LABEL),
        (GREY, np.eye(3)[LABEL]),
        torch.utils.data.TensorDataset(x, y),
        Pairs(),
    ):
        data = open_data(source, whole=True)
        assert np.array_equal(data.train.x[:, 0], GREY) and np.array_equal(data.train.label, LABEL)
    split = open_data({"train": (GREY, LABEL), "test": (GREY[:9], LABEL[:9])})
    assert split.contract.rows == {"train": 45, "valid": 5, "test": 9}
    keras = open_data(((GREY, LABEL), (GREY[:9], LABEL[:9])))
    assert keras.contract.hash == split.contract.hash
    assert open_data(split) is split


def test_labels_given_apart():
    data = open_data(GREY, labels=np.array(["b", "a"])[LABEL % 2], whole=True)
    assert data.contract.labels == ("a", "b") and data.train.label[0] == 1
    with pytest.raises(VaekitError, match="49 labels for 50 rows"):
        open_data(GREY, labels=LABEL[:49])
    with pytest.raises(VaekitError, match="49 labels for 50 rows"):
        open_data((GREY, LABEL[:49]))


def test_regression_targets_are_no_classes():
    data = open_data((GREY, RNG.normal(size=50)))
    assert data.contract.labels == () and any("no classes" in n for n in data.contract.preparation)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("no/such/folder", "no data at no/such/folder"),
        ("digit", "did you mean 'digits'"),
        (np.zeros((9, 4)), "every value is 0"),
        (np.eye(4)[:1], "1 row: at least 3"),
        (np.array([[1.0, np.nan]] * 5), r"row 0 \(counted from 0\), column 1 holds NaN"),
        (np.zeros((3, 0)), "shape 3x0"),
        (np.zeros(7), "shape 7"),
        (np.array([["a", "b"]]), "holds no plain numbers"),
        (object(), "neither a path nor an array"),
        (3, r"^3 \(int\) is neither a path nor an array"),
    ],
)
def test_what_cannot_be_data_is_one_clear_line(source, message):
    with pytest.raises(VaekitError, match=message) as caught:
        open_data(source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["a.docx", "a.npy", "a.npz", "a.zip", "a.tar.gz", "a.csv", "a.parquet", "a.png", "a.gz"]
)
def test_empty_and_foreign_files(tmp_path, name, monkeypatch):
    monkeypatch.setenv("VAEKIT_CACHE", str(tmp_path / "cache"))
    for content in (b"", b"\x01\x02 this is nothing of the sort \xff\xfe" * 3):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(VaekitError, match=name) as caught:
            open_data(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_name_that_cannot_be_fetched_says_how_to_supply_it(tmp_path, monkeypatch):
    import urllib.request

    def offline(url, timeout):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    monkeypatch.setenv("VAEKIT_CACHE", str(tmp_path))
    monkeypatch.delenv("VAEKIT_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        VaekitError, match=r"fashion-mnist is not on this machine .*train-images-idx3-ubyte\.gz.*VAEKIT_DATA"
    ):
        open_data("fashion-mnist")


def test_a_download_with_another_checksum_is_not_kept(tmp_path, monkeypatch):
    import io
    import urllib.request

    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: io.BytesIO(b"a login page"))
    monkeypatch.setenv("VAEKIT_CACHE", str(tmp_path))
    monkeypatch.delenv("VAEKIT_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VaekitError, match="checksum"):
        open_data("mnist")
    assert not [f for f in tmp_path.rglob("*") if f.is_file()]


def test_an_npz_says_what_each_key_was_taken_for():
    rng = np.random.default_rng(0)
    arrays = {"x_train": rng.normal(size=(20, 4)), "y_train": np.arange(20) % 2, "extra": np.zeros(3)}
    assert (
        "rows from the keys x_train; labels from y_train; ignored extra"
        in open_data(arrays).contract.preparation
    )
    chosen = open_data({"a": rng.normal(size=(20, 4)), "b": np.zeros((20, 4))}, key="a").contract
    assert "rows from the keys a; ignored b" in chosen.preparation
