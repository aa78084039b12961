"""`vaekit arithmetic`: the mean code of one group minus another's, added to a third; and how rows are named."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import vaekit
from commands_kit import ask, refused, shape_of
from vaekit import VaekitError, open_data, recipe
from vaekit.data import file_names
from vaekit.run import RunFolder

ROOT = Path(__file__).parents[2]
ORL = ROOT.parent / "shared" / "data" / "faces" / "orl"


@pytest.fixture(scope="module")
def digits(digits_run):
    return vaekit.load(digits_run)


def groups(path, column, members):
    """A CSV of groups; `members` are (file or row, group)."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([(column, "group"), *members])
    return path


def untrained(data, path, name, *overrides):
    """A run of a recipe on opened data as it is before its first step."""
    resolved = recipe.resolve(recipe.load(name, overrides), data.contract)
    folder = RunFolder.create(path)
    folder.write_recipe(resolved)
    folder.write_contract(data.contract)
    folder.write_model(recipe.build(resolved, data.contract).model.state_dict())
    run = vaekit.load(folder.path)
    run.own = data
    return run


def test_the_codes_are_the_sums_they_are_called(digits):
    codes = digits.encode(split="train")
    mean = {d: codes.mean[codes.label == d].mean(0) for d in (7, 1, 3)}
    found = digits.arithmetic("7", "1", "3", steps=4, n=2)
    np.testing.assert_allclose(found.means, [mean[7], mean[1]], atol=1e-5)
    np.testing.assert_allclose(found.strengths, [0, 0.5, 1, 1.5])
    for i, s in enumerate(found.strengths):
        np.testing.assert_allclose(found.z[0, i], mean[3] + s * (mean[7] - mean[1]), atol=1e-5)
    assert found.counts == {str(d): int((codes.label == d).sum()) for d in (7, 1, 3)}
    assert (digits.decode(found.z[1]) == found.x[1]).all()
    assert (digits.decode(found.means) == found.mean_items).all()
    arrays = found.arrays()
    assert {len(a) for a in arrays.values()} == {2 + 3 * 4} and arrays["x"].shape[1:] == (1, 8, 8)
    assert list(arrays["item"][:3]) == ["mean of 7", "mean of 1", "mean of 3"]
    assert (arrays["z"][2:].reshape(found.z.shape) == found.z).all()


def test_what_is_moved_was_not_trained_on_where_there_is_such(digits):
    data = digits.data()
    found = digits.arithmetic("7", "1", "3", n=5, steps=2)
    assert len(found.originals) == 6 and found.originals[0] is None
    held = {row.tobytes() for row in data.test.x[data.test.label == 3]}
    assert all(row.tobytes() in held for row in found.originals[1:])
    again, other = (digits.arithmetic("7", "1", "3", n=5, steps=2, seed=seed) for seed in (0, 1))
    assert again.names == found.names != other.names
    everything = digits.arithmetic("7", "1", "3", n=10_000, steps=2)
    assert len(everything.names) == 1 + sum((split.label == 3).sum() for split in data.splits.values())
    assert [f"row {i}" for i in np.flatnonzero(load_digits().target == 3)] == sorted(
        everything.names[1:], key=lambda name: int(name[4:])
    )
    assert digits.arithmetic("7", "1", "3", n=0, steps=2).names == ["mean of 3"]


def test_a_row_a_point_and_a_file_can_be_moved(digits, tmp_path):
    test = digits.encode(split="test")
    np.save(tmp_path / "one.npy", digits.data().test.x[17:18])
    for to in (17, "17", "row:17", tmp_path / "one.npy", str(tmp_path / "one.npy")):
        found = digits.arithmetic("7", "1", to, steps=2)
        np.testing.assert_allclose(found.z[0, 0], test.mean[17], atol=1e-5)
        assert (found.originals[0] == digits.data().test.x[17]).all() and len(found.counts) == 2
    np.testing.assert_allclose(digits.arithmetic("7", "1", "row:3", steps=2).z[0, 0], test.mean[3], atol=1e-5)
    for to in ("-0.5,1", [-0.5, 1.0]):
        found = digits.arithmetic("7", "1", to, steps=2)
        np.testing.assert_allclose(found.z[0, 0], [-0.5, 1])
        assert found.originals == [None]


def test_groups_of_a_csv_are_counted_as_the_source_counts_rows(digits, tmp_path):
    target = load_digits().target
    members = [(i, {7: "seven", 1: "one"}[t]) for i, t in enumerate(target) if t in (1, 7)]
    members += [(int(np.flatnonzero(target == 7)[0]), "also"), (5, " "), (5, "1")]
    found = digits.arithmetic("seven", "one", "3", groups=groups(tmp_path / "g.csv", "row", members), steps=3)
    np.testing.assert_allclose(found.z, digits.arithmetic("7", "1", "3", steps=3).z, atol=1e-5)
    assert found.counts["seven"] == digits.arithmetic("7", "1", "3", steps=3).counts["7"]
    # a group of the CSV comes before a label of its name
    renamed = digits.arithmetic("seven", "one", "1", groups=tmp_path / "g.csv", steps=2, n=3)
    assert renamed.names == ["mean of 1", "row 5"]


def test_files_of_a_folder_are_named_in_a_csv(pictures, tmp_path):
    names = file_names(pictures)
    data = open_data(pictures)
    run = untrained(data, tmp_path / "run", "small-images", "model.latent=3")
    marks = groups(
        tmp_path / "g.csv",
        "file",
        [("./" + n.replace("/", "\\") if i % 2 else n, f"g{n[6]}") for i, n in enumerate(names)],
    )
    by_label = run.arithmetic("class-0", "class-1", "class-1", steps=2)
    by_file = run.arithmetic("g0", "g1", "g1", groups=marks, steps=2)
    np.testing.assert_allclose(by_file.z, by_label.z, atol=1e-5)
    assert by_label.names[1:] == by_file.names[1:] and set(by_file.names[1:]) <= set(names)
    for name, original in zip(by_file.names[1:], by_file.originals[1:], strict=True):
        assert (np.asarray(Image.open(pictures / name)) == original[0]).all()


@pytest.mark.parametrize("how", ["plain", "limited", "by split", "damaged", "zip", "whole"])
def test_places_lead_from_a_row_back_to_its_file(pictures, tmp_path, how):
    source, options = pictures, {}
    if how == "limited":
        options = {"limit": 7}
    elif how == "by split":
        (tmp_path / "parts").mkdir()
        for split, label in (("train", 1), ("test", 0)):  # in natural order test stands first
            (pictures / f"class-{label}").rename(tmp_path / "parts" / split)
        source = tmp_path / "parts"
    elif how == "damaged":
        (pictures / "class-0" / "03.png").write_bytes(b"no picture")
    elif how == "zip":
        source = tmp_path / "pictures.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for path in pictures.rglob("*.png"):
                archive.write(path, path.relative_to(tmp_path))
    elif how == "whole":
        options = {"whole": True}
    for _ in range(2):  # decoded, then from the cache
        data = open_data(source, **options)
        assert data.files == source
        names, seen = file_names(data.files), set()
        for split in data.splits.values():
            for row, place in zip(split.x, split.places, strict=True):
                name = names[place]
                file = io.BytesIO(zipfile.ZipFile(source).read(name)) if how == "zip" else source / name
                assert (np.asarray(Image.open(file)) == row[0]).all()
                seen.add(place)
        assert len(seen) == {"limited": 21, "damaged": 79}.get(how, 80)


def test_places_lead_from_a_row_of_an_array_or_a_table_back_to_it(tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    turns = [("train", "test", "valid")[i % 3] for i in range(60)]
    with (tmp_path / "x.csv").open("w", newline="") as file:
        rows = ([*row, turn] for row, turn in zip(x, turns, strict=True))
        csv.writer(file).writerows([("a", "b", "c", "split"), *rows])
    parts = {"train": x[:40], "test": x[40:]}  # validation is drawn from train
    for source in (x, tmp_path / "x.npy", tmp_path / "x.csv", parts):
        for options in ({}, {"limit": 5}):
            data = open_data(source, **options)
            assert data.files is None
            for split in data.splits.values():
                np.testing.assert_allclose(np.asarray(split.x), x[split.places], rtol=1e-6)


def test_the_command_writes_pictures_and_arrays_and_counts_rows(capsys, digits_run, tmp_path):
    command = ["arithmetic", digits_run, "--plus", 7, "--minus", 1, "--to", 3]
    for name in ("a.png", "a.npz", "a.csv", "b.npz"):
        code, out, err = ask(capsys, *command, "-o", tmp_path / name)
        assert code == 0 and out.strip() == str(tmp_path / name), err
        assert "training rows: 137 of 7, 144 of 1, 143 of 3" in err
    a, b = np.load(tmp_path / "a.npz"), np.load(tmp_path / "b.npz")
    assert {k: v.shape[0] for k, v in a.items()} == dict.fromkeys(("x", "z", "item", "strength"), 2 + 5 * 7)
    assert all((a[k] == b[k]).all() for k in a)
    header, first = (tmp_path / "a.csv").read_text().splitlines()[:2]
    assert header.endswith("z_0,z_1,item,strength") and first.endswith("mean of 7,0.0")
    one = ["arithmetic", digits_run, "--plus", 7, "--minus", 1, "--to", "-1,0.5", "-o", tmp_path / "one.png"]
    assert ask(capsys, *one)[0] == 0
    assert shape_of(tmp_path / "one.png")[1] < shape_of(tmp_path / "a.png")[1]
    # `decode` takes the codes back
    assert ask(capsys, "decode", digits_run, tmp_path / "a.npz", "-o", tmp_path / "x.npy")[0] == 0
    assert (np.load(tmp_path / "x.npy") == a["x"]).all()


def test_bad_groups_are_one_line_and_leave_nothing(capsys, digits_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def told(*given, plus="7", minus="1", to="3"):
        base = ["arithmetic", digits_run, "--plus", plus, "--minus", minus, "--to", to, "-o", "x.png"]
        return refused(capsys, *base, *given)

    def csv_of(text):
        (tmp_path / "g.csv").write_text(text)
        return told("--groups", "g.csv", plus="a", minus="b")

    assert "no group '77' (did you mean '7'?)" in told(plus="77")
    assert "no group 'x' (known: 0, 1" in told(minus="x")
    assert "'nobody' is no group" in told(to="nobody")
    assert "no row 180" in told(to="row:180")
    assert "2 latent dimensions" in told(to="1,2,3")
    assert "steps is 1" in told("--steps", 1)
    assert "n is -1" in told("-n", -1)
    assert "no file of groups at no.csv" in told("--groups", "no.csv")
    assert "the columns name, group; expected group, and file or row" in csv_of("name,group\n1,a\n")
    assert "the columns row; expected" in csv_of("row\n1\n")
    assert "has the columns nothing" in csv_of("")
    assert "names no group" in csv_of("row,group\n1,\n")
    assert "line 3: row '1797', but digits has rows 0 to 1,796" in csv_of("row,group\n1,a\n1797,b\n")
    assert "row '-1'" in csv_of("row,group\n-1,a\n")
    assert "row 'one'" in csv_of("row,group\none,a\n")
    assert "line 2: row ''" in csv_of("group,row\na\n")
    assert "not made of image files" in csv_of("file,group\na.png,a\n")
    assert "no group 'b' (known: 0," in csv_of("row,group\n1,a\n")
    test_row = vaekit.load(digits_run).data().test.places[0]
    assert "no rows among the training rows" in csv_of(f"row,group\n{test_row},a\n{test_row},b\n")
    (tmp_path / "g.csv").write_bytes(b"row,group\n1,\xff\xfe\n")
    assert "no readable CSV" in told("--groups", "g.csv")
    assert [p.name for p in tmp_path.iterdir()] == ["g.csv"]


def test_a_file_that_is_not_there_is_named_with_the_nearest(pictures, tmp_path):
    run = untrained(open_data(pictures), tmp_path / "run", "small-images")
    marks = groups(tmp_path / "g.csv", "file", [("class-0/00.png", "a"), ("class-0/00.jpg", "b")])
    with pytest.raises(VaekitError, match=r"line 3: file 'class-0/00.jpg'.*did you mean 'class-0/00.png'"):
        run.arithmetic("a", "b", "class-1", groups=marks)


def test_a_limited_run_passes_over_what_it_never_saw(pictures, tmp_path):
    data = open_data(pictures, limit=10)
    run = untrained(data, tmp_path / "run", "small-images", "data.limit=10")
    marks = groups(tmp_path / "g.csv", "file", [(name, name[:7]) for name in file_names(pictures)])
    assert sum(run.arithmetic("class-0", "class-1", 0, groups=marks).counts.values()) == 10


def test_a_conditional_run_adds_what_the_label_does_not_say(tmp_path):
    data = open_data("digits")
    run = untrained(data, tmp_path / "run", "conditional", "model.latent=3")
    with pytest.raises(VaekitError, match="given the label, so its codes leave '7' out"):
        run.arithmetic("7", "1", "3")
    ink = data.train.x.sum((1, 2, 3))
    kinds = np.where(ink > np.median(ink), "heavy", "light")
    marks = groups(tmp_path / "g.csv", "row", list(zip(data.train.places, kinds, strict=True)))
    found = run.arithmetic("heavy", "light", "3", groups=marks, steps=3)
    for z, x in zip(found.z, found.x, strict=True):
        assert (run.decode(z, label="3") == x).all()
    mixed = run.arithmetic("heavy", "light", "light", groups=marks, steps=3, n=6)
    label = data.train.label[[np.flatnonzero(data.train.places == int(n[4:]))[0] for n in mixed.names[1:]]]
    assert len(set(label)) > 1
    for z, x, one in zip(mixed.z[1:], mixed.x[1:], label, strict=True):
        assert (run.decode(z, label=int(one)) == x).all()
    with pytest.raises(VaekitError, match="give label"):
        run.arithmetic("heavy", "light", [0.0, 0, 0], groups=marks)
    point = run.arithmetic("heavy", "light", [0.0, 0, 0], groups=marks, label="4", steps=2)
    assert (run.decode(point.z[0], label="4") == point.x[0]).all()


def test_labels_that_are_numbers_are_not_taken_for_places_of_others(tmp_path):
    x, y = load_digits(return_X_y=True)
    data = open_data((x[y > 0].reshape(-1, 1, 8, 8).astype(np.uint8), y[y > 0]))
    told = ["model.condition=label", "train.epochs=5", "train.learning_rate=0.01", "train.pictures=false"]
    run = vaekit.fit(data, output=tmp_path / "run", latent=3, set=told)
    kinds = [["even", "odd"][place % 2] for place in data.train.places]
    marks = groups(tmp_path / "g.csv", "row", list(zip(data.train.places, kinds, strict=True)))
    found = run.arithmetic("even", "odd", "3", groups=marks, steps=2)
    for z, x in zip(found.z, found.x, strict=True):
        assert (run.decode(z, label="3") == x).all()
    assert (run.decode(found.z[0], label="2") != found.x[0]).any()
    name = str(run.contract.labels[data.test.label[0]])
    x, z = run.interpolate(0, 1, steps=3)
    assert (run.decode(z, label=name) == x).all()


def test_rows_of_a_table_are_moved_too(tmp_path):
    from sklearn.datasets import load_iris

    iris = load_iris()
    data = open_data((iris.data.astype(np.float32), iris.target_names[iris.target]))
    run = untrained(data, tmp_path / "run", "vectors", "model.latent=2")
    found = run.arithmetic("setosa", "virginica", "versicolor", steps=3)
    assert found.x.shape == (5, 3, 4) and found.names[0] == "mean of versicolor"
    assert run.picture_of_arithmetic(found).width > 200
    unlabelled = untrained(open_data(iris.data), tmp_path / "plain", "vectors")
    with pytest.raises(VaekitError, match="no group 'setosa': the data have no labels"):
        unlabelled.arithmetic("setosa", "virginica", 0)
    marks = groups(tmp_path / "g.csv", "row", [(i, f"g{t}") for i, t in enumerate(iris.target)])
    found = unlabelled.arithmetic("g0", "g1", 0, groups=marks, steps=2)
    assert found.z.shape == (1, 2, unlabelled.model.latent)


@pytest.mark.skipif(not ORL.is_dir(), reason=f"the ORL faces are not at {ORL}")
def test_the_marks_that_are_shipped_fit_the_orl_faces(tmp_path):
    run = untrained(open_data(ORL, size=28), tmp_path / "run", "small-images")
    marks = ROOT / "examples" / "orl-glasses.csv"

    def files(group):
        return run.arithmetic("glasses", "none", group, groups=marks, n=1000, steps=2).names[1:]

    with_, without = files("glasses"), files("none")
    assert len(with_) == len(without) == 21
    assert [f.split("/")[0] for f in sorted(with_)] == [f.split("/")[0] for f in sorted(without)]
    everybody = files("all-glasses"), files("all-none")
    assert {f.split("/")[0] for part in everybody for f in part} == {f"s{i}" for i in range(3, 41)}
    assert set(with_) <= set(everybody[0]) and set(without) <= set(everybody[1])
    assert len(everybody[0]) + len(everybody[1]) == len({*everybody[0], *everybody[1]}) == 380
