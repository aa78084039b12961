"""Pictures from arrays: their sizes, the pixels at known places, and what bad arrays get."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from vaekit import pictures
from vaekit.errors import VaekitError


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    return load_digits().images[:64, None] / 16  # [64, 1, 8, 8]


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture).astype(int)


def test_grid_enlarges_by_a_whole_factor_and_keeps_every_pixel(digits):
    picture = pixels(pictures.grid(digits[:6], columns=3, cell=40, gutter=2))
    assert picture.shape == (8 + 40 + 2 + 40 + 8, 8 + 3 * 40 + 2 * 2 + 8, 3)
    for place in range(6):
        y, x = 8 + (place // 3) * 42, 8 + (place % 3) * 42
        tile = picture[y : y + 40, x : x + 40]
        expected = np.round(digits[place, 0] * 255).repeat(5, 0).repeat(5, 1)
        np.testing.assert_array_equal(tile, np.stack([expected] * 3, -1))
    assert (picture[:8] == 255).all() and (picture[48:50] == 255).all()  # margin and gutter are paper


def test_grid_of_colour_tensors_keeps_the_channels_apart():
    images = torch.zeros(2, 3, 4, 4)
    images[0, 0], images[1, 2] = 1.0, 1.0
    picture = pixels(pictures.grid(images, columns=2, cell=4, gutter=0))
    assert picture.shape == (4, 8, 3)
    assert picture[0, 0].tolist() == [255, 0, 0] and picture[0, 7].tolist() == [0, 0, 255]


def test_an_incomplete_last_row_is_paper(digits):
    picture = pixels(pictures.grid(digits[:3], columns=2, cell=8, gutter=0))
    assert (picture[8:, 8:] == 255).all() and not (picture[8:, :8] == 255).all()


@pytest.mark.parametrize("columns", [-3, 0])
def test_a_picture_has_a_column_at_least(digits, columns):
    for draw in (lambda: pictures.grid(digits, columns), lambda: pictures.pairs(digits, digits, columns)):
        with pytest.raises(VaekitError, match=f"{columns} columns"):
            draw()


def test_large_images_are_averaged_down():
    board = np.indices((400, 400)).sum(0)[None, None] % 2 * 1.0  # a checkerboard of pixels
    picture = pixels(pictures.grid(board, cell=100, gutter=0))
    assert picture.shape == (100, 100, 3) and abs(picture - 127.5).max() < 2


def test_values_outside_are_clipped_and_nan_shows_red():
    images = np.array([[[[2.0, -1.0], [np.nan, 0.5]]]])
    picture = pixels(pictures.grid(images, cell=2, gutter=0))
    assert picture[0, 0].tolist() == [255] * 3 and picture[0, 1].tolist() == [0] * 3
    red, green, blue = picture[1, 0]
    assert red > 200 and green < 60 and blue < 60


def test_pairs_put_each_reconstruction_below_its_original(digits):
    originals, again = digits[:4], 1 - digits[:4]
    picture = pixels(pictures.pairs(originals, again, columns=2, cell=48))
    left = picture.shape[1] - 8 - 2 * 48 - 2  # where the tiles begin, right of the names
    first = picture[8 : 8 + 48, left : left + 48, 0]
    below = picture[8 + 50 : 8 + 98, left : left + 48, 0]
    np.testing.assert_array_equal(first, np.round(originals[0, 0] * 255).repeat(6, 0).repeat(6, 1))
    assert abs(first + below - 255).max() <= 1
    names = picture[:, : left - 4]
    assert (names < 128).any(), "the rows carry their names"


def test_pairs_refuse_another_number():
    with pytest.raises(VaekitError, match="3 originals of 8x8 against 2 reconstructions of 8x8"):
        pictures.pairs(np.zeros((3, 1, 8, 8)), np.zeros((2, 1, 8, 8)))


def test_strip_has_a_row_each_and_refuses_missing_names(digits):
    picture = pictures.strip([digits[:5], digits[5:10]], ["first", "second"], list("abcde"), cell=48)
    plain = pictures.strip([digits[:5], digits[5:10]], cell=48)
    assert plain.size == (8 + 5 * 48 + 4 * 2 + 8, 8 + 2 * 48 + 2 + 8)
    assert picture.width > plain.width and picture.height > plain.height
    with pytest.raises(VaekitError, match="1 row names for 2"):
        pictures.strip([digits[:5], digits[5:10]], ["first"])


@pytest.mark.parametrize("draw", [pictures.grid, lambda x: pictures.strip([x])])
def test_what_is_not_images_is_refused_with_its_shape(draw):
    with pytest.raises(VaekitError, match=r"\[3, 8\]; expected \[N, C, H, W\]"):
        draw(np.zeros((3, 8)))
    with pytest.raises(VaekitError, match="at least one image"):
        draw(np.zeros((0, 1, 8, 8)))


def test_save_writes_a_png_without_metadata_and_the_same_bytes_again(tmp_path, digits):
    picture = pictures.grid(digits)
    picture.info["Software"] = "a machine"
    for name in ("a.png", "b.png"):
        pictures.save(picture, tmp_path / name)
    with Image.open(tmp_path / "a.png") as seen:
        assert seen.format == "PNG" and not seen.info
        np.testing.assert_array_equal(np.asarray(seen), np.asarray(picture))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png"]  # nothing half-written left


def test_save_says_that_pictures_are_png(tmp_path):
    with pytest.raises(VaekitError, match=r"out\.tiff: pictures are PNG"):
        pictures.save(Image.new("RGB", (2, 2)), tmp_path / "out.tiff")


def near(picture: Image.Image, colour: tuple[int, int, int], within: int = 40) -> int:
    """How many pixels have about this colour."""
    return int((abs(pixels(picture) - np.array(colour)).max(-1) < within).sum())


BLUE, ORANGE = (31, 119, 180), (255, 127, 14)  # the first two of tab10


def test_latent_map_gives_each_label_its_colour():
    codes = np.random.default_rng(0).normal(size=(400, 2))
    two = pictures.latent_map(codes, np.arange(400) % 2, ["cat", "dog"])
    one = pictures.latent_map(codes, np.zeros(400, int), ["cat", "dog"])
    assert near(two, BLUE) > 500 and near(two, ORANGE) > 500
    assert near(one, BLUE) > 500 and near(one, ORANGE) == 0


def test_latent_map_without_labels_with_numbers_and_with_many_kinds():
    codes = np.random.default_rng(0).normal(size=(300, 2))
    plain = pictures.latent_map(codes)
    numbers = pictures.latent_map(codes, torch.linspace(0, 1, 300))
    many = pictures.latent_map(codes, torch.arange(300) % 40)
    yellow = (253, 231, 37)  # viridis' upper end
    assert near(plain, yellow) == 0
    assert near(numbers, yellow) > 100 and near(many, yellow) > 100  # the bar, at least


def test_latent_map_in_the_colours_asked_for():
    # two heaps apart: dots are translucent, and one label must not hide the other
    label = np.arange(400) % 2
    codes = np.random.default_rng(0).normal(size=(400, 2)) + 6 * label[:, None]
    shown = pictures.latent_map(codes, label, ["cat", "dog"], colours="viridis")
    purple, yellow = (68, 1, 84), (253, 231, 37)
    assert near(shown, purple, 30) > 500 and near(shown, yellow, 30) > 500 and near(shown, BLUE) < 50
    with pytest.raises(VaekitError, match=r"no colormap 'virids' \(did you mean 'viridis'\?\)$"):
        pictures.latent_map(codes, label, colours="virids")
    with pytest.raises(VaekitError, match="no labels"):
        pictures.latent_map(codes, colours="viridis")


def test_latent_map_draws_unlabelled_rows_grey_and_bears_a_dollar_sign():
    codes = np.random.default_rng(0).normal(size=(200, 2))
    label = np.where(np.arange(200) < 100, -1, 0)
    picture = pictures.latent_map(codes, label, ["$broken_{"], title="plain")
    assert near(picture, (200, 200, 200), 12) > 200 and near(picture, BLUE) > 200


def test_latent_map_refuses_codes_that_are_no_plane():
    with pytest.raises(VaekitError, match=r"\[10, 3\]; expected \[N, 2\]"):
        pictures.latent_map(np.zeros((10, 3)))
    with pytest.raises(VaekitError, match=r"\[9\] labels for 10 codes"):
        pictures.latent_map(np.zeros((10, 2)), np.zeros(9))


def history(**columns: float) -> list[dict]:
    return [
        {"epoch": e, "step": 10 * e, **{k: v * (1 + 1 / e) for k, v in columns.items()}} for e in range(1, 21)
    ]


def test_curves_show_reconstruction_and_kl_apart_and_fewer_panels_for_an_autoencoder():
    full = pictures.curves(
        history(
            train_elbo=-90,
            train_distortion=70,
            train_rate=20,
            valid_elbo=-95,
            valid_distortion=74,
            valid_rate=21,
        )
    )
    point = pictures.curves(history(train_loss=70, train_distortion=70, valid_distortion=74))
    bare = pictures.curves(history(train_loss=70))
    assert full.width > 2.5 * point.width and point.size == bare.size
    valid = (194, 65, 12)
    assert near(full, valid) > 500 and near(bare, valid) == 0


def test_curves_leave_out_broken_epochs_and_refuse_an_empty_history():
    lines = history(train_elbo=-90, train_distortion=70, train_rate=20)
    lines[3]["train_elbo"] = float("nan")
    assert pictures.curves(lines).width > 1000
    with pytest.raises(VaekitError, match="train an epoch first"):
        pictures.curves([{"epoch": 1, "seconds": 3.0}])


def test_vectors_use_one_scale_for_both_sides():
    rows = np.tile(np.linspace(-1, 1, 8), (10, 1))
    names = [f"column {i}" for i in range(8)]
    same, faint = pictures.vectors(rows, rows, names), pictures.vectors(rows, 0.2 * rows, names)
    dark_red = (103, 0, 31)
    assert near(same, dark_red, 12) > 1.8 * near(faint, dark_red, 12) > 0


def test_vectors_of_two_columns_are_points_and_shapes_must_meet():
    rng = np.random.default_rng(0)
    picture = pictures.vectors(rng.normal(size=(200, 2)), rng.normal(size=(150, 2)), ["width", "height"])
    assert near(picture, (194, 65, 12)) > 500 and near(picture, (154, 165, 177)) > 500
    with pytest.raises(VaekitError, match=r"\[5, 3\] and \[5, 4\]"):
        pictures.vectors(np.zeros((5, 3)), np.zeros((5, 4)))


def test_fields_draw_a_map_for_each_column():
    values = np.stack([np.full((6, 6), v) for v in (-1.0, 1.0, 0.0)], -1)
    picture = pictures.fields(values, ["low", "high", "middle"])
    assert near(picture, (5, 48, 97), 6) > 5000 and near(picture, (103, 0, 31), 6) > 5000
    with pytest.raises(VaekitError, match=r"expected \[n, n, F\]"):
        pictures.fields(np.zeros((6, 6)))


def test_a_collapsed_cloud_fills_its_map():
    from vaekit.pictures.plots import STRIP

    for squeeze, filled in ((0.01, True), (1.5 / STRIP, False)):
        codes = np.random.default_rng(0).uniform(-1, 1, size=(2000, 2)) * [1, squeeze]
        ink = np.asarray(pictures.latent_map(codes)).astype(int)
        rows = np.flatnonzero((np.ptp(ink, axis=2) > 30).any(1))  # the points alone have a colour
        assert (np.ptp(rows) > 0.6 * len(ink)) == filled


def test_the_steps_of_a_walk_stand_alone_with_their_names():
    rows = np.random.default_rng(0).normal(size=(90, 4))
    plain, named = pictures.vectors(rows), pictures.vectors(rows, steps=["z6 -2.5", *[""] * 88, "+2.5"])
    assert named.height > plain.height
