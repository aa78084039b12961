"""A latent of no dimensions goes through the whole system: trained, judged exactly, sampled; codes it has not."""

from __future__ import annotations

import numpy as np
import pytest

import vaekit
from commands_kit import ask, refused, shape_of
from vaekit import VaekitError, recipe

MADE = [
    "likelihood.kind=AutoregressiveLikelihood",
    "likelihood.hidden=[40]",
    "train.epochs=3",
    "train.ema=0.9",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    output = tmp_path_factory.mktemp("made") / "run"
    return vaekit.fit("digits", latent=0, binarize="dynamic", output=output, set=MADE)


def test_every_bound_is_the_likelihood(made):
    result = made.evaluate(k=(1, 7, 5000))
    assert result["rate"] == 0 and result["latent"] == result["active_units"] == 0
    assert result["kl_per_dimension"] == [] and result["mutual_information"]["value"] == pytest.approx(
        0, abs=1e-9
    )
    for bound in result["nll"]:
        assert bound["value"] == pytest.approx(-result["elbo"], abs=1e-9)
        assert bound["effective_sample_size"]["p01"] == pytest.approx(bound["k"])
    lines = made.metrics()
    assert lines[-1]["valid_loss"] < lines[0]["valid_loss"] < 64 * np.log(2)
    assert lines[-1]["valid_rate"] == 0 and lines[-1]["skipped"] == 0


def test_it_leaves_pictures_of_what_there_is(made):
    names = {path.name for path in (made.path / "pictures").iterdir()}
    assert {"samples.png", "curves.png", "epoch-0001.png"} <= names
    assert not names & {"latent.png", "manifold.png", "reconstructions.png"}


def test_samples_follow_their_seed(made, capsys, tmp_path):
    x, z = made.sample(6, seed=3, with_codes=True)
    assert x.shape == (6, 1, 8, 8) and z.shape == (6, 0)
    np.testing.assert_array_equal(x, made.sample(6, seed=3))
    assert (x != made.sample(6, seed=4)).any()
    assert ask(capsys, "sample", made.path, "-n", "4", "--noise", "-o", tmp_path / "s.png")[0] == 0
    assert shape_of(tmp_path / "s.png")[0] > 0
    assert "latent       0" in ask(capsys, "info", made.path)[1]
    assert ask(capsys, "evaluate", made.path, "--k", "1,10")[0] == 0


@pytest.mark.parametrize(
    "command",
    [["encode"], ["reconstruct"], ["traverse"], ["manifold"], ["interpolate", "--from", "1", "--to", "2"]],
    ids=lambda words: words[0],
)
def test_what_needs_a_code_says_so_in_one_line(made, capsys, tmp_path, command):
    name, *options = command
    assert "model.latent 0" in refused(capsys, name, made.path, *options, "-o", tmp_path / "x.png")


def test_training_goes_on(made, tmp_path):
    again = vaekit.fit(
        "digits", latent=0, binarize="dynamic", output=tmp_path / "r", set=[*MADE, "train.epochs=1"]
    )
    assert vaekit.resume(again.path, set=["train.epochs=3"]).metrics()[-1]["epoch"] == 3


def test_a_conditional_one_sees_the_label(tmp_path):
    run = vaekit.fit(
        "digits", latent=0, binarize="dynamic", output=tmp_path / "r",
        set=[*MADE, "model.condition=label", "train.epochs=8"],
    )  # fmt: skip
    assert type(run.model.likelihood.net).__name__ == "MLP"
    zeros, ones = (run.sample(200, seed=0, label=label).mean(0) for label in (0, 1))
    assert np.abs(zeros.astype(float) - ones).max() > 3  # of 16: a nought is empty where a one is not


@pytest.mark.parametrize("kind", ["BernoulliLikelihood", "GaussianLikelihood"])
def test_other_likelihoods_are_refused(kind):
    contract = vaekit.open_data("digits", binarize="dynamic").contract
    with pytest.raises(VaekitError, match=f"model.latent is 0, but {kind} .*AutoregressiveLikelihood"):
        recipe.resolve(recipe.load("digits", ["model.latent=0", f"likelihood.kind={kind}"]), contract)


def test_it_takes_bits_and_keeps_nets_of_the_users_own():
    grey, bits = vaekit.open_data("digits").contract, vaekit.open_data("digits", binarize="dynamic").contract
    asked = recipe.load("digits", ["model.latent=0", *MADE])
    with pytest.raises(VaekitError, match="for binary data"):
        recipe.resolve(asked, grey)
    resolved = recipe.resolve(asked, bits)
    assert resolved.posterior.net.kind == resolved.likelihood.net.kind == "Constant"
    assert "Constant" in resolved.notes[0] and recipe.resolve(resolved, bits) == resolved
    own = vaekit.Constant((0,), (1, 8, 8))
    assert recipe.resolve(asked, bits, nets={"likelihood": own}).likelihood.net.kind == "given"


def test_over_a_latent_it_is_the_head_of_a_decoder(tmp_path):
    run = vaekit.fit(
        "digits", latent=2, binarize="dynamic", output=tmp_path / "r", set=[*MADE[:1], "likelihood.hidden=[]", *MADE[2:]],
    )  # fmt: skip
    originals, again = run.reconstruct(n=5, seed=1)
    np.testing.assert_array_equal(
        again, run.reconstruct(n=5, seed=1)[1]
    )  # a centre is a draw, and it is seeded
    assert originals.shape == again.shape == (5, 1, 8, 8)
    result = run.evaluate(k=(1, 20))
    assert result["rate"] > 0 and result["nll"][1]["value"] < -result["elbo"]
    walk, _ = run.interpolate(1, 2, steps=4)
    np.testing.assert_array_equal(walk, run.interpolate(1, 2, steps=4)[0])
