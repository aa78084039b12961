"""The sprites: an exact grid whose factors do what they are called, in bits that are the same everywhere."""

import hashlib
import json

import numpy as np
import pytest

from commands_kit import ask, refused, shape_of
from vaekit.data import Contract, open_data, sprites
from vaekit.errors import VaekitError
from vaekit.recipe.choosing import for_contract
from vaekit.run import inputs

MIDDLE = {"shape": 0, "scale": 5, "rotation": 0, "x": 8, "y": 8}


def row(**factors: int) -> int:
    values = [(MIDDLE | factors)[name] for name in sprites.FACTORS]
    return int(np.ravel_multi_index(values, tuple(sprites.FACTORS.values())))


def drawn(size=(64, 64), **factors):
    """Pictures [N, H, W] of the middle sprite with one factor, given as a list, at several values."""
    (name, values), *rest = sorted(factors.items(), key=lambda each: not isinstance(each[1], list))
    rows = [row(**dict(rest), **{name: value}) for value in values]
    return sprites.draw(np.array(rows), size)[:, 0].astype(float)


def centres(x):
    """(down, right) of the centre of mass of each, in pixels from the corner."""
    area = x.sum((1, 2))
    down = (x.sum(2) * (np.arange(x.shape[1]) + 0.5)).sum(1) / area
    return down, (x.sum(1) * (np.arange(x.shape[2]) + 0.5)).sum(1) / area


def test_every_combination_is_there_once():
    found = sprites.factors(np.arange(sprites.ROWS))
    assert sprites.ROWS == 3 * 6 * 40 * 16 * 16 == 184_320 and found.shape == (sprites.ROWS, 5)
    assert len(np.unique(found, axis=0)) == sprites.ROWS
    assert found.max(0).tolist() == [2, 5, 39, 15, 15] and not found.min(0).any()
    assert row(**dict(zip(sprites.FACTORS, found[77_777].tolist(), strict=True))) == 77_777


def test_a_picture_is_a_function_of_its_number_and_the_same_everywhere():
    rows = np.random.default_rng(0).permutation(sprites.ROWS)[:700]
    for size in ((64, 64), (20, 31)):
        x = sprites.draw(rows, size)
        assert x.shape == (700, 1, *size) and x.dtype == np.uint8 and set(np.unique(x)) == {0, 1}
        assert np.array_equal(sprites.draw(rows[300:310], size), x[300:310])
    total = hashlib.sha256(np.packbits(sprites.draw(np.arange(0, sprites.ROWS, 97)), axis=None)).hexdigest()
    assert total == "3d8b64de2361c2e5a24a47733fe4550c87524f744c8478a52f04419387d0609a"


def test_factors_do_what_they_are_called():
    for shape in range(3):
        down, right = centres(drawn(x=list(range(16)), shape=shape))
        assert np.allclose(right, np.linspace(16, 48, 16), atol=0.35) and np.ptp(down) < 0.35
        down, right = centres(drawn(y=list(range(16)), shape=shape))
        assert np.allclose(down, np.linspace(16, 48, 16), atol=0.35) and np.ptp(right) < 0.35
        # the farthest point is a quarter of the side away: the areas of a square, an ellipse and the heart's curve
        part = (2, 0.6 * np.pi, 3.6620 / 1.2936**2)[shape]
        areas = drawn((128, 128), scale=list(range(6)), shape=shape, rotation=3).sum((1, 2))
        assert np.allclose(areas, part * (32 * np.linspace(0.5, 1, 6)) ** 2, rtol=0.04)
        turned = drawn(rotation=list(range(40)), shape=shape)
        assert np.allclose(turned.sum((1, 2)), turned.sum() / 40, rtol=0.15)
        assert all((turned[i] != turned[i + 1]).any() for i in range(39))
        assert np.array_equal(turned[0], turned[39])  # 2 pi is 0, as in dSprites
        for centre in centres(turned):
            assert np.ptp(centre) < 0.6
    hearts = drawn(rotation=[0, 20], shape=2)  # on its tip, which is the farthest point, and on its head
    (top, turned_top), (tip, turned_tip) = (
        [
            abs(np.flatnonzero(x.any(1))[end] + 0.5 - down)
            for x, down in zip(hearts, centres(hearts)[0], strict=True)
        ]
        for end in (0, -1)
    )
    assert tip > top + 2 and turned_tip < turned_top - 2
    square, ellipse, heart = drawn(shape=[0, 1, 2])
    assert (square != ellipse).mean() > 0.02 < (ellipse != heart).mean() and (square != heart).mean() > 0.02


@pytest.mark.parametrize("size", [(16, 16), (33, 33), (40, 64), (64, 24), (100, 100)])
def test_any_size_shows_the_same_scene(size):
    height, width = size
    unit = min(size)
    corners = drawn(size, y=[0, 15], x=0)
    down, right = centres(corners)
    assert down == pytest.approx([height / 2 - unit / 4, height / 2 + unit / 4], abs=0.6)
    assert right == pytest.approx(width / 2 - unit / 4, abs=0.6)
    # nothing is cut off: a sprite in a corner is as large as in the middle
    assert np.allclose(corners.sum((1, 2)), drawn(size, y=[8]).sum(), rtol=0.25 if unit < 30 else 0.1)


def test_the_set_and_its_contract(cache):
    data = open_data("sprites", size=16)
    contract = data.contract
    assert (contract.kind, contract.shape, contract.labels) == ("binary", (1, 16, 16), sprites.SHAPES)
    assert dict(contract.factors) == {"shape": 3, "scale": 6, "rotation": 40, "x": 16, "y": 16}
    assert dict(contract.rows) == {"train": 147_456, "valid": 18_432, "test": 18_432}
    assert "factors shape 3, scale 6, rotation 40, x 16, y 16" in contract.line()
    assert Contract.from_dict(json.loads(json.dumps(contract.to_dict()))) == contract
    assert contract.hash == "e3c5c880903688642b89c3c74b4530b9e93852bf321e8c9d460c34a0f5eb4e60"
    assert open_data("sprites", size=16, seed=1).contract.hash != contract.hash  # another split
    places = np.concatenate([split.places for split in data.splits.values()])
    assert np.array_equal(np.sort(places), np.arange(sprites.ROWS))
    for split in data.splits.values():
        some = np.arange(0, len(split), 997)
        assert np.array_equal(split.factors, sprites.factors(split.places))
        assert np.array_equal(split.label, split.factors[:, 0])
        assert np.array_equal(split.rows(some), sprites.draw(split.places[some], (16, 16)))
    # a limit draws the rows that are asked for alone, and they are those of the whole set
    few = open_data("sprites", contract=contract, limit=50)
    for name, split in few.splits.items():
        assert len(split) == 50 and set(split.places) <= set(data.split(name).places)
        assert np.array_equal(split.rows(slice(None)), sprites.draw(split.places, (16, 16)))
        assert np.array_equal(split.factors, sprites.factors(split.places))
    again = open_data("sprites", size=16, limit=50)
    assert again.contract.hash == few.contract.hash and again.contract.split == "by seed 0"
    whole = open_data("sprites", size=16, limit=50, whole=True)
    assert list(whole.splits) == ["all"] and len(whole.train.factors) == 50


def test_a_damaged_cache_is_drawn_again(cache):
    first = open_data("sprites", size=16).contract.hash
    (file,) = [
        each for each in (cache / "images").glob("*/pixels") if each.stat().st_size == sprites.ROWS * 256
    ]
    with file.open("rb+") as out:
        out.truncate(1000)
    assert open_data("sprites", size=16).contract.hash == first


def test_factors_stay_with_their_rows(tmp_path):
    data = open_data("sprites", size=16, limit=40)
    everything = inputs.part(data, "all")
    assert np.array_equal(everything.factors, sprites.factors(everything.places)) and len(everything) == 120
    some = inputs.subset(everything, np.array([7, 3, 99]))
    assert np.array_equal(some.factors, everything.factors[[7, 3, 99]])
    # other data held to the contract have none
    other = open_data(data.train.rows(slice(None)), contract=data.contract, whole=True)
    assert other.train.factors is None and not other.contract.factors


def test_its_recipe_fits_any_size():
    for size in (16, 48):
        contract = open_data("sprites", size=size, limit=20).contract
        assert for_contract(contract) == ("sprites", "it was made for sprites")


def test_the_command_line_shows_them_and_refuses_too_few_pixels(capsys, tmp_path):
    code, out, _ = ask(
        capsys, "data", "sprites", "--size", "24", "--limit", "30", "-o", tmp_path / "some.png"
    )
    assert code == 0 and out.startswith("sprites: 90 images 1x24x24, binary (bernoulli), 3 labels, factors")
    assert min(shape_of(tmp_path / "some.png")) > 24
    line = refused(capsys, "data", "sprites", "--size", "8", "-o", tmp_path / "none.png")
    assert line == "vaekit: sprites of 8x8 pixels cannot be told apart; give a size of 16 or more"
    with pytest.raises(VaekitError, match=r"^no data at sprite: .*did you mean 'sprites'"):
        open_data("sprite")
