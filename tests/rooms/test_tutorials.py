"""What the tutorials do, asked of the command line: weights saved and loaded, a typed point decoded, pixels in [-1, 1],
the last weights shipped, a picture after every round."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import vaekit
from commands_kit import ask, refused, saved, shape_of
from vaekit.data import open_data
from vaekit.run import RunFolder


@pytest.fixture(scope="module")
def linear(tmp_path_factory):
    """`linear-ae` on the digits for a few epochs; its folder."""
    folder = tmp_path_factory.mktemp("linear") / "run"
    rounds = ["--set", "train.epochs=6", "--set", "train.picture_every=3"]
    assert vaekit.__main__.run(["train", "digits", "--recipe", "linear-ae", "-o", str(folder), *rounds]) == 0
    return folder


def test_the_weights_that_are_loaded_are_the_weights_that_were_trained(linear):
    state = torch.load(linear / "last.ckpt", weights_only=True)
    trained = {name.removeprefix("model."): value for name, value in state["objective"].items()}
    assert state["epoch"] == 6
    loaded = vaekit.load(linear).model.state_dict()
    assert loaded.keys() == trained.keys() and all(torch.equal(loaded[n], trained[n]) for n in trained)
    started = vaekit.recipe.build(*_recipe_and_contract(linear)).model.state_dict()
    weight = "likelihood.net.last.weight"
    assert not torch.equal(loaded[weight], started[weight])  # and they are not those it was born with


def _recipe_and_contract(folder):
    run = RunFolder.open(folder)
    return run.read_recipe(), run.read_contract()


def test_a_typed_point_is_decoded_to_its_picture_and_its_numbers(linear, capsys, tmp_path):
    assert ask(capsys, "decode", linear, "--point", "0.5,0.5", "-o", tmp_path / "f.png")[0] == 0
    assert min(shape_of(tmp_path / "f.png")) >= 8
    assert ask(capsys, "decode", linear, "--point", "0.5,0.5", "-o", tmp_path / "f.npy")[0] == 0
    found = np.load(tmp_path / "f.npy")
    weights = load_file(linear / "model.safetensors")
    w, b = weights["likelihood.net.last.weight"], weights["likelihood.net.last.bias"]
    x = w @ torch.tensor([0.5, 0.5]) + b  # in [-1, 1], or beyond it
    expected = ((x.numpy() + 1) * 8).round().clip(0, 16)  # digits hold 0..16
    np.testing.assert_array_equal(found.reshape(-1), expected)


def test_a_bernoulli_refuses_pixels_in_minus_one_to_one(capsys, tmp_path):
    line = refused(
        capsys, "train", "digits", "--recipe", "linear-ae-bce", "--set", "data.scale_to=[-1,1]", "-o", tmp_path / "run"
    )  # fmt: skip
    assert "BernoulliLikelihood" in line and "[-1, 1]" in line and "data.scale_to" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("interval", [(-1.0, 1.0), (0.0, 255.0), (-3.0, -1.0)])
def test_grey_levels_come_back_from_any_interval(interval):
    """255 is 255 again, whatever a model saw; a picture shows the same greys."""
    data = np.arange(256, dtype=np.uint8).repeat(3).reshape(12, 8, 8)
    plain, scaled = open_data(data).contract, open_data(data, scale_to=interval).contract
    every = torch.arange(256, dtype=torch.uint8).reshape(4, 1, 8, 8)
    x = scaled.scale(every)
    assert (x.min().item(), x.max().item()) == pytest.approx(interval)
    back = scaled.unscale(x)
    assert back.dtype == np.uint8 and (back == every.numpy()).all()
    np.testing.assert_allclose(scaled.picture(x), plain.picture(plain.scale(every)), atol=1e-6)


def test_samples_of_a_model_in_minus_one_to_one_are_grey_levels(capsys, tmp_path):
    coarse = np.random.default_rng(0).integers(0, 256, (80, 4, 4))
    images = saved(tmp_path / "greys.npy", np.kron(coarse, np.ones((1, 7, 7))).astype(np.uint8))
    run, few = tmp_path / "run", ["--set", "train.epochs=2", "--set", "train.learning_rate=0.02"]
    assert ask(capsys, "train", images, "--recipe", "linear-vae", "-o", run, *few)[0] == 0
    assert ask(capsys, "sample", run, "-n", 200, "-o", tmp_path / "samples.npy")[0] == 0
    assert ask(capsys, "reconstruct", run, "-n", 5, "--split", "train", "-o", tmp_path / "pairs.npz")[0] == 0
    samples, pairs = np.load(tmp_path / "samples.npy"), np.load(tmp_path / "pairs.npz")
    assert samples.dtype == pairs["reconstruction"].dtype == np.uint8
    assert abs(samples.mean() - coarse.mean()) < 20  # of 255, not of 1
    rows = {image.tobytes() for image in np.load(images)}
    assert all(image.tobytes() in rows for image in pairs["original"])


def test_the_tutorials_ship_their_last_weights(capsys, tmp_path):
    """Trained far too long on 30 rows, the last epoch is not the best; `train.keep` decides which one is shipped."""
    long = ["--limit", 30, "--set", "train.epochs=150", "--set", "train.learning_rate=0.01"]
    long += ["--set", "posterior.kind=PointPosterior", "--set", "train.pictures=false"]
    shipped = {}
    for keep in ("last", "best"):
        run = tmp_path / keep
        asked = ["train", "digits", "--recipe", "torch-mlp", "-o", run, *long]
        assert ask(capsys, *asked, *([] if keep == "last" else ["--set", "train.keep=best"]))[0] == 0
        shipped[keep] = load_file(run / "model.safetensors")
    losses = [record["valid_loss"] for record in RunFolder.open(tmp_path / "last").read_metrics()]
    assert min(losses) < losses[-1] - 1
    state = torch.load(tmp_path / "last" / "last.ckpt", weights_only=True)["objective"]
    for name, value in shipped["last"].items():
        assert torch.equal(value, state[f"model.{name}"]), name
    assert any(not torch.equal(value, shipped["best"][name]) for name, value in shipped["last"].items())


def test_a_picture_is_kept_after_every_round(linear):
    """At powers of two, every third epoch as asked, and the end."""
    found = {path.name for path in (linear / "pictures").glob("epoch-*.png")}
    assert found == {f"epoch-{n:04d}.png" for n in (1, 2, 3, 4, 6)}
