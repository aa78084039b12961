"""Image sources from the path alone: folders, zips, tars; modes, sizes, damage."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from data_kit import encoded, paint, write
from PIL import Image

from vaekit.data import open_data
from vaekit.errors import VaekitError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    where = tmp_path / "cache"
    monkeypatch.setenv("VAEKIT_CACHE", str(where))
    return where


def classes_in_splits() -> dict[str, bytes]:
    names = [
        f"{split}/{label}/{i}.png"
        for split, n in (("training", 6), ("val", 2), ("Test", 3))
        for label in ("cat", "dog")
        for i in range(n)
    ]
    return {name: encoded(paint(i)) for i, name in enumerate(names)}


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(f"wrapper/{name}", data)
    return path


def tarred(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def test_folder_zip_and_tars_give_the_same_rows_splits_and_labels(tmp_path):
    files = classes_in_splits()
    sources = [
        write(tmp_path / "folder", files),
        zipped(tmp_path / "a.zip", files),
        tarred(tmp_path / "a.tar", files),
        tarred(tmp_path / "a.tar.gz", files),
    ]
    opened = [open_data(source) for source in sources]
    for data in opened:
        contract = data.contract
        assert (contract.shape, contract.kind, contract.labels) == ((1, 10, 12), "8-bit", ("cat", "dog"))
        assert contract.rows == {"train": 12, "valid": 4, "test": 6}
        assert data.test.label.tolist() == [0, 0, 0, 1, 1, 1]
        assert contract.hash == opened[0].contract.hash
    first = np.asarray(Image.open(io.BytesIO(files["training/cat/0.png"])))
    assert np.array_equal(opened[1].train.rows(0)[0], first)


def test_wrapping_folders_and_stray_files_do_not_make_classes(tmp_path):
    files = {f"photos/{i}.png": encoded(paint(i)) for i in range(10)} | {
        "photos/.DS_Store": b"x",
        "README": b"y",
    }
    data = open_data(write(tmp_path / "set", files))
    assert data.contract.labels == () and data.train.label is None
    assert sum(data.contract.rows.values()) == 10


def test_classes_are_in_natural_order(tmp_path):
    files = {f"s{i}/{k}.png": encoded(paint(100 * i + k)) for i in (1, 2, 10) for k in range(4)}
    assert open_data(write(tmp_path / "set", files)).contract.labels == ("s1", "s2", "s10")


def test_every_format_and_mode_is_read(tmp_path):
    grey, colour = paint(0, (16, 16)), paint(1, (16, 16), "RGB")
    alpha = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    files = {
        "a.png": encoded(colour),
        "b.jpg": encoded(colour, "JPEG"),
        "c.pgm": encoded(grey, "PPM"),
        "d.bmp": encoded(colour, "BMP"),
        "e.tif": encoded(colour, "TIFF"),
        "f.webp": encoded(colour, "WEBP", lossless=True),
        "g.gif": encoded(grey, "GIF"),
        "h.png": encoded(alpha),
        "i.jpeg": encoded(colour.convert("CMYK"), "JPEG"),
        "j.png": encoded(colour.convert("P")),
        "k.png": encoded(Image.fromarray(np.full((16, 16), 0x8000, np.uint16))),
        "l.png": encoded(grey.convert("1")),
    }
    data = open_data(write(tmp_path / "set", files), whole=True)
    contract = data.contract
    assert (contract.shape, contract.kind, len(data.train)) == ((3, 16, 16), "colour", 12)
    assert np.array_equal(data.train.rows(5), np.asarray(colour).transpose(2, 0, 1))
    assert (data.train.rows(7) == 255).all()  # transparent red lies on white
    assert (data.train.rows(10) == 0x80).all()  # 16 bits keep their upper half
    said = " ".join(contract.preparation)
    assert "transparency" in said and "16 to 8 bits" in said


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 100, "subsampling": 0}])
def test_jpegs_are_decoded_as_pillow_decodes_them(tmp_path, mode, options):
    files = {f"{i}.jpg": encoded(paint(i, (19, 13), mode), "JPEG", **options) for i in range(8)}
    files["5.jpg"] = files["5.jpg"][: len(files["5.jpg"]) // 2]
    source = write(tmp_path / "set", files)
    data = open_data(source, whole=True)
    good = [np.asarray(Image.open(source / f"{i}.jpg")) for i in range(8) if i != 5]
    expected = np.stack(good).reshape(7, 13, 19, -1).transpose(0, 3, 1, 2)
    assert np.array_equal(data.train.x, expected)
    assert any("skipped 1 of 8" in note and "5.jpg" in note for note in data.contract.preparation)


def test_bilevel_images_are_binary(tmp_path):
    files = {f"{i}.png": encoded(paint(i).convert("1")) for i in range(6)}
    contract = open_data(write(tmp_path / "set", files)).contract
    assert (contract.kind, contract.high, contract.divisor) == ("binary", 255, (255.0,))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_exif_orientation_is_applied(tmp_path, kind):
    upright = Image.new("L", (16, 8))
    upright.paste(255, (0, 0, 8, 8))  # the left half is white
    stored = upright.transpose(Image.Transpose.ROTATE_90)  # as a camera held sideways stores it
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    suffix = {"JPEG": "jpg", "PNG": "png", "TIFF": "tif"}[kind]
    files = {f"{i}.{suffix}": encoded(stored, kind, exif=exif) for i in range(4)}
    data = open_data(write(tmp_path / "set", files))
    assert data.contract.shape == (1, 8, 16)
    assert data.train.rows(0)[0, :, :6].min() > 200 and data.train.rows(0)[0, :, 10:].max() < 50


def test_mixed_sizes_choose_one_and_say_so(tmp_path):
    files = {f"{i}.png": encoded(paint(i, (20 + i, 36 + i))) for i in range(9)}
    contract = open_data(write(tmp_path / "set", files)).contract
    assert contract.shape == (1, 24, 24)  # the median short side is 24
    assert any("20 to 28" in note and "24x24" in note for note in contract.preparation)


@pytest.mark.parametrize(("size", "shape"), [(8, (1, 8, 8)), ("6x9", (1, 6, 9)), ((9, 6), (1, 9, 6))])
def test_size_covers_and_crops_the_centre(tmp_path, size, shape):
    image = Image.new("L", (40, 20), 0)
    image.paste(200, (10, 0, 30, 20))  # the middle square
    files = {f"{i}.png": encoded(image) for i in range(3)} | {"x.png": encoded(paint(0, (40, 20)))}
    data = open_data(write(tmp_path / "set", files), size=size, whole=True)
    assert data.contract.shape == shape
    assert data.train.rows(0)[0, shape[1] // 2, shape[2] // 2] == 200


def test_a_large_jpeg_keeps_its_picture_through_the_reduced_decode(tmp_path):
    ramp = np.tile(np.linspace(0, 255, 640, dtype=np.uint8), (480, 1))
    colour = np.stack([ramp, 255 - ramp, np.full_like(ramp, 90)], -1)
    files = {f"{i}.jpg": encoded(Image.fromarray(colour), "JPEG", quality=95) for i in range(4)}
    got = open_data(write(tmp_path / "set", files), size=32).train.rows(0).astype(int)
    expected = np.asarray(
        Image.fromarray(colour).resize((32, 32), Image.Resampling.LANCZOS, box=(80, 0, 560, 480))
    )
    assert np.abs(got - expected.transpose(2, 0, 1)).max() <= 4


def test_grey_turns_colour_grey(tmp_path):
    files = {f"{i}.png": encoded(paint(i, mode="RGB")) for i in range(4)}
    source = write(tmp_path / "set", files)
    assert open_data(source).contract.kind == "colour"
    data = open_data(source, grey=True, whole=True)
    assert (data.contract.shape[0], data.contract.kind) == (1, "8-bit")
    assert np.array_equal(data.train.rows(1)[0], np.asarray(Image.open(source / "1.png").convert("L")))


def test_one_colour_image_among_many_grey_makes_all_colour(tmp_path):
    # More images than the sample of headers, so that the guess "all grey" is found wrong while decoding.
    files = {f"{i:04}.png": encoded(paint(i, (3, 3))) for i in range(600)}
    files["0301.png"] = encoded(paint(1, (3, 3), "RGB"))
    files["0401.png"] = encoded(paint(2, (5, 3)))
    data = open_data(write(tmp_path / "set", files), whole=True)
    assert data.contract.shape[0] == 3 and len(data.train) == 600


def test_few_corrupt_images_are_skipped_and_named_many_are_refused(tmp_path):
    files = {f"{i:02}.png": encoded(paint(i)) for i in range(30)}
    files["07.png"] = files["07.png"][:60]
    data = open_data(write(tmp_path / "few", files))
    assert sum(data.contract.rows.values()) == 29
    assert any("skipped 1 of 30" in note and "07.png" in note for note in data.contract.preparation)
    for i in range(9):
        files[f"{i:02}.png"] = b"not an image"
    with pytest.raises(VaekitError, match=r"many: 9 of 30 images cannot be read \(00\.png") as caught:
        open_data(write(tmp_path / "many", files))
    assert "\n" not in str(caught.value)


def test_labels_stay_with_their_images_when_one_is_skipped(tmp_path):
    files = {
        f"{label}/{i}.png": encoded(Image.new("L", (4, 4), 40 * i + v))
        for v, label in enumerate("ab")
        for i in range(6)
    }
    files["a/3.png"] = b"broken"
    data = open_data(write(tmp_path / "set", files), whole=True)
    assert (data.train.x[:, 0, 0, 0] % 2 == data.train.label).all() and len(data.train) == 11


def test_limit_takes_the_same_rows_from_images_as_without_it(tmp_path):
    files = {f"{split}/{i:03}.png": encoded(paint(i)) for split in ("train", "test") for i in range(40)}
    source = write(tmp_path / "set", files)
    limited, full = open_data(source, limit=10), open_data(source)
    assert limited.contract.rows == {"train": 10, "valid": 4, "test": 10}
    known = {row.tobytes() for row in np.asarray(full.train.x)}
    assert {row.tobytes() for row in np.asarray(limited.train.x)} <= known
    assert np.array_equal(open_data(source, limit=10).train.x, limited.train.x)


def test_a_zip_that_lies_about_a_member_is_found_out(tmp_path):
    path = zipped(tmp_path / "a.zip", {f"{i}.png": encoded(paint(i)) for i in range(40)})
    raw = bytearray(path.read_bytes())
    at = raw.find(b"PK\x03\x04", 3000)
    raw[at + 60 : at + 90] = b"\0" * 30  # inside the compressed bytes of one member
    path.write_bytes(raw)
    data = open_data(path)
    assert any("skipped 1 of 40" in note for note in data.contract.preparation)


def test_one_image_is_data_for_a_contract(tmp_path):
    source = write(tmp_path / "set", {f"{i}.png": encoded(paint(i)) for i in range(6)})
    contract = open_data(source).contract
    other = write(tmp_path / "new", {"photo.jpg": encoded(paint(50, (40, 40), "RGB"), "JPEG")}) / "photo.jpg"
    data = open_data(other, contract=contract, whole=True)
    assert data.train.x.shape == (1, 1, 10, 12) and data.split("test") is data.train
    assert data.contract.divisor == contract.divisor


def test_images_beside_split_folders_are_left_out_and_counted(tmp_path):
    files = {f"{s}/{i}.png": encoded(paint(i)) for s in ("train", "test") for i in range(8)} | {
        "logo.png": encoded(paint(9))
    }
    contract = open_data(write(tmp_path / "set", files)).contract
    assert sum(contract.rows.values()) == 16 and any("1 image outside" in n for n in contract.preparation)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no data in this folder \\(it is empty\\)"),
        ({"a.txt": b"x", "b.txt": b"y"}, "it holds 2 .txt"),
        ({"one.png": encoded(paint(0))}, "1 image; at least 3"),
        ({f"{i}.png": encoded(Image.new("L", (4, 4), 7)) for i in range(9)}, "every value is 7"),
    ],
)
def test_folders_with_nothing_to_learn_from(tmp_path, files, message):
    (tmp_path / "set").mkdir()
    with pytest.raises(VaekitError, match=message):
        open_data(write(tmp_path / "set", files))
