"""`data.mirror`: training sees half of the images from right to left; nothing else does."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

import vaekit
from vaekit import VaekitError, open_data
from vaekit.data import Batches
from vaekit.data.splits import Rows

IMAGES = np.random.default_rng(0).integers(0, 256, (60, 9, 7), np.uint8)


def test_each_image_comes_one_way_or_the_other_and_both_ways_in_time():
    data = open_data(IMAGES, mirror=True)
    assert data.mirror and any("mirrored" in note for note in data.contract.preparation)
    batches = Batches(data.train, data.contract, "cpu", condition=False, mirror=data.mirror)
    index, seen = np.arange(20), np.zeros((2, 20), bool)
    for seed in range(12):
        torch.manual_seed(seed)
        raw = batches.get(index)[0].numpy()
        plain = (raw == data.train.x[:20]).all((1, 2, 3))
        turned = (raw == data.train.x[:20, ..., ::-1]).all((1, 2, 3))
        assert (plain ^ turned).all()
        seen |= np.stack((plain, turned))
        torch.manual_seed(seed)
        assert (batches.get(index)[0].numpy() == raw).all()
    assert seen.all()


def test_rows_of_a_memory_map_are_mirrored_too(tmp_path):
    np.save(tmp_path / "x.npy", IMAGES)
    data = open_data(tmp_path / "x.npy", mirror=True)
    lazy = replace(data.train, x=Rows(np.load(tmp_path / "x.npy", mmap_mode="r")[:, None], data.train.places))
    seen = []
    for split, resident in ((data.train, None), (lazy, 0)):
        torch.manual_seed(0)
        batches = Batches(split, data.contract, "cpu", condition=False, mirror=True, resident_bytes=resident)
        seen.append(batches.get(np.arange(30))[0])
    assert torch.equal(*seen)


def test_rows_hash_and_evaluation_are_those_of_the_images_as_they_are():
    plain, mirrored = open_data(IMAGES), open_data(IMAGES, mirror=True)
    assert plain.contract.hash == mirrored.contract.hash
    assert (plain.train.x == mirrored.train.x).all() and not plain.mirror


def test_a_model_of_faces_lit_from_the_left_learns_both_sides(tmp_path):
    lit = IMAGES // 4 + np.where(np.arange(7) < 3, 150, 0).astype(np.uint8)
    np.save(tmp_path / "lit.npy", lit)
    slant = {}
    for mirror in ("false", "true"):
        run = vaekit.fit(
            tmp_path / "lit.npy", recipe="small-images", output=tmp_path / mirror,
            set=[f"data.mirror={mirror}", "train.epochs=2", "train.pictures=false"],
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # "the data have changed"
            opened = vaekit.load(run.path)
            assert opened.data().mirror is False and opened.evaluate(k=(1,))["images"] == 6
        drawn = opened.sample(200, seed=0).mean((0, 1, 2))
        slant[mirror] = drawn[:3].mean() - drawn[4:].mean()
    assert slant["false"] > 100 > 4 * abs(slant["true"])


def test_only_images_have_a_mirror():
    with pytest.raises(VaekitError, match="mirror is for images"):
        open_data(np.random.default_rng(0).normal(size=(30, 5)), mirror=True)
