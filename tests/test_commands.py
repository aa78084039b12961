"""Every command that looks at a run, on a real one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import vaekit
from commands_kit import ask, refused, shape_of

ROOT = Path(__file__).parents[1]


# -- the commands


def test_sample_writes_pictures_and_arrays_and_the_seed_decides(capsys, digits_run, tmp_path):
    for name, seed in (("a.npz", 7), ("b.npz", 7), ("c.npz", 8)):
        assert ask(capsys, "sample", digits_run, "-n", 20, "--seed", seed, "-o", tmp_path / name)[0] == 0
    a, b, c = (np.load(tmp_path / name)["x"] for name in ("a.npz", "b.npz", "c.npz"))
    assert a.shape == (20, 1, 8, 8) and a.min() >= 0 and a.max() <= 16
    assert (a == b).all() and (a != c).any()
    code, out, _ = ask(capsys, "sample", digits_run, "-n", 20, "-o", tmp_path / "grid.png")
    assert (
        code == 0 and out.strip() == str(tmp_path / "grid.png") and min(shape_of(tmp_path / "grid.png")) > 100
    )


def test_encode_draws_the_map_in_the_colours_asked_for(capsys, digits_run, tmp_path):
    ask(capsys, "encode", digits_run, "-o", tmp_path / "plain.png")
    code, out, _ = ask(capsys, "encode", digits_run, "-o", tmp_path / "map.png", "--colours", "viridis")
    assert code == 0 and out.strip() == str(tmp_path / "map.png")
    assert (tmp_path / "map.png").read_bytes() != (tmp_path / "plain.png").read_bytes()
    wrong = refused(capsys, "encode", digits_run, "-o", tmp_path / "no.png", "--colours", "virids")
    assert "did you mean 'viridis'" in wrong
    table = refused(capsys, "encode", digits_run, "-o", tmp_path / "no.csv", "--colours", "viridis")
    assert "no.csv" in table and not list(tmp_path.glob("no.*"))


def test_encode_gives_every_row_its_code_and_decode_takes_them_back(capsys, digits_run, tmp_path):
    for name in ("codes.npz", "codes.csv", "codes.parquet", "map.png"):
        if name.endswith("parquet"):
            pytest.importorskip("pyarrow")
        assert ask(capsys, "encode", digits_run, "-o", tmp_path / name)[0] == 0
    codes = np.load(tmp_path / "codes.npz")
    assert codes["mean"].shape == codes["log_variance"].shape == (1797, 2) and codes["label"].shape == (1797,)
    header, first = (tmp_path / "codes.csv").read_text().splitlines()[:2]
    assert header == "mean_0,mean_1,log_variance_0,log_variance_1,label"
    assert float(first.split(",")[0]) == pytest.approx(float(codes["mean"][0, 0]), rel=1e-5)
    assert ask(capsys, "decode", digits_run, tmp_path / "codes.npz", "-o", tmp_path / "x.npy")[0] == 0
    assert np.load(tmp_path / "x.npy").shape == (1797, 1, 8, 8)
    code, _, err = ask(capsys, "decode", digits_run, tmp_path / "codes.npz", "-o", tmp_path / "dec.png")
    assert code == 0 and "the first 400 of 1,797" in err


def test_decode_interpolate_traverse_manifold_reconstruct(capsys, digits_run, tmp_path):
    commands = {
        "point.npz": ["decode", digits_run, "--point", "0.5,0.5"],
        "walk.npz": ["interpolate", digits_run, "--from", "3", "--to", "0.5,-1", "--steps", 5],
        "straight.npz": [
            "interpolate",
            digits_run,
            "--from",
            "0,0",
            "--to",
            "1,1",
            "--steps",
            3,
            "--path",
            "linear",
        ],
        "traversal.npz": ["traverse", digits_run, "--steps", 5],
        "grid.npz": ["manifold", digits_run, "-n", 6],
        "pairs.npz": ["reconstruct", digits_run, "-n", 4],
    }
    shapes = {}
    for name, command in commands.items():
        code, _, err = ask(capsys, *command, "-o", tmp_path / name)
        assert code == 0, err
        shapes[name] = {k: v.shape for k, v in np.load(tmp_path / name).items()}
        picture = (tmp_path / name).with_suffix(".png")
        assert ask(capsys, *command, "-o", picture)[0] == 0 and min(shape_of(picture)) > 20
    assert shapes["point.npz"]["x"] == (1, 1, 8, 8)
    assert shapes["walk.npz"] == {"x": (5, 1, 8, 8), "z": (5, 2)}
    assert shapes["traversal.npz"]["z"] == (10, 2)
    assert shapes["grid.npz"]["x"] == (36, 1, 8, 8)
    assert shapes["pairs.npz"]["original"] == shapes["pairs.npz"]["reconstruction"] == (4, 1, 8, 8)
    straight = np.load(tmp_path / "straight.npz")["z"]
    np.testing.assert_allclose(straight, [[0, 0], [0.5, 0.5], [1, 1]], atol=1e-6)


def test_evaluate_prints_one_json_object(capsys, digits_run):
    code, out, _ = ask(capsys, "evaluate", digits_run, "--k", "1,10,50", "--json")
    result = json.loads(out)
    assert code == 0 and result["split"] == "test" and result["images"] == 180
    assert result["elbo"] == pytest.approx(-(result["rate"] + result["distortion"]))
    values = [entry["value"] for entry in result["nll"]]
    assert [entry["k"] for entry in result["nll"]] == [1, 10, 50]
    assert values == sorted(values, reverse=True) and values[0] < 200
    assert all(
        entry["standard_error"] > 0 and entry["effective_sample_size"]["median"] >= 1
        for entry in result["nll"]
    )
    assert 1 <= result["active_units"] <= 2 and len(result["data_hash"]) == 64
    assert ask(capsys, "evaluate", digits_run, "--k", "1,10,50", "--json")[1] == out


def test_info_data_recipes_and_version(capsys, digits_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = ask(capsys, "info", digits_run)
    assert code == 0 and "GaussianPosterior" in out
    facts = json.loads(ask(capsys, "info", digits_run, "--json")[1])
    assert type(facts["epochs"]) is int and facts["best"]["epoch"] <= facts["epochs"]
    assert f"{facts['parameters']:,}" in out and f"{facts['epochs']} of {facts['planned']}" in out
    code, out, _ = ask(capsys, "data", "digits")
    assert code == 0 and out.startswith("digits: 1,797 images") and (tmp_path / "data.png").is_file()
    names = [line.split()[0] for line in ask(capsys, "recipes")[1].splitlines()]
    assert {"digits", "mnist", "images", "conditional", "autoencoder"} <= set(names)
    for name in names:
        assert ask(capsys, "recipes", name)[0] == 0
    assert ask(capsys, "--version")[1].strip() == vaekit.__version__


def test_a_conditional_run_draws_what_it_is_asked_for(capsys, tmp_path):
    folder = tmp_path / "r"
    command = ["train", "-o", folder, "--recipe", "conditional", "--set", "train.epochs=40"]
    assert ask(capsys, *command)[0] == 0
    opened = vaekit.load(folder)
    zeros, ones = (opened.sample(100, seed=0, label=label) for label in ("0", "1"))
    centre = (slice(None), 0, slice(3, 5), slice(3, 5))
    assert ones[centre].mean() > zeros[centre].mean() + 5  # a one has ink in the middle, a zero has none
    code, _, err = ask(capsys, "sample", folder, "--label", "eleven", "-o", tmp_path / "x.png")
    assert code == 2 and "eleven" in err


def test_bernoulli_on_grey_values_is_called_a_cross_entropy_and_has_no_nll(capsys, tmp_path):
    folder = tmp_path / "r"
    command = [
        "train",
        "-o",
        folder,
        "--set",
        "likelihood.kind=BernoulliLikelihood",
        "--set",
        "train.epochs=1",
    ]
    _, _, err = ask(capsys, *command)
    assert "cross-entropy" in err
    result = json.loads(ask(capsys, "evaluate", folder, "--k", "1,5", "--json")[1])
    assert result["nll"] is None and "binarize" in result["reason"]
    result = json.loads(ask(capsys, "evaluate", folder, "--k", "1,5", "--binarize", "dynamic", "--json")[1])
    assert len(result["nll"]) == 2
