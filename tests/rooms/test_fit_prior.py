"""`vaekit fit-prior`: a density of codes becomes the run's prior, and everything that draws from the prior follows."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

import vaekit
from commands_kit import ask, refused, shape_of


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory):
    """A plain autoencoder of the digits, D = 4, trained briefly and evaluated; its folder."""
    folder = tmp_path_factory.mktemp("runs") / "plain"
    fixed = ["train.epochs=15", "train.pictures=false"]
    run = vaekit.fit("digits", recipe="autoencoder", latent=4, output=folder, seed=1, set=fixed)
    run.evaluate(k=(1,))
    return folder


@pytest.fixture
def plain(autoencoder, tmp_path):
    """A copy of it that a test may change."""
    return shutil.copytree(autoencoder, tmp_path / "plain")


def everything(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_autoencoder_gets_a_prior_that_samples_pictures_and_facts_use(capsys, plain):
    with pytest.warns(UserWarning, match="vaekit fit-prior"):
        before = vaekit.load(plain).sample(500, seed=3)
    (plain / "report.ko.html").touch()
    (plain / "report-notes.html").write_text("mine")
    code, out, err = ask(capsys, "fit-prior", plain)
    assert (plain / "report-notes.html").read_text() == "mine" and (
        plain / "as-trained" / "report.ko.html"
    ).exists()
    assert code == 0 and "StandardPrior -> FullMixturePrior" in out and "Frechet" in out, err
    assert "evaluation.json" in err and not (plain / "evaluation.json").exists()
    assert shape_of(plain / "pictures" / "prior.png") > (100, 100)
    run = vaekit.load(plain)
    after = run.sample(500, seed=3)
    rows = run.data().test.x
    gap = [
        abs(x.reshape(len(x), -1).mean(0) - rows.reshape(len(rows), -1).mean(0)).mean()
        for x in (before, after)
    ]
    assert gap[1] < 0.7 * gap[0]
    facts = json.loads((plain / "prior.json").read_text())
    held = facts["log_density"]
    assert (held["split"], held["rows"], held["choosing_rows"]) == ("valid", 90, 90)
    assert "(codes of 90 valid rows; 90 others chose the prior)" in out
    assert held["gain"] > 5 * held["gain_standard_error"] and facts["samples"]["frechet"]["after"] < (
        0.5 * facts["samples"]["frechet"]["before"]
    )
    code, out, err = ask(capsys, "info", plain)
    assert "FullMixturePrior, fitted to codes after training with StandardPrior" in out
    code, out, err = ask(capsys, "sample", plain, "-o", plain / "grid.png")
    assert code == 0 and "note:" not in err
    page = run.report(output=plain / "page.html").read_text(encoding="utf-8")
    assert "has no prior" not in page and "fitted to the codes of training examples" in page
    again = vaekit.load(plain / "model.safetensors")  # the weights alone know it too
    assert again.fitted and (again.sample(5, seed=3) == run.sample(5, seed=3)).all()


def test_the_run_as_it_was_is_a_run_and_comes_back_whole(capsys, plain):
    before = everything(plain)
    assert ask(capsys, "fit-prior", plain, "--kind", "gaussian")[0] == 0
    kept = vaekit.load(plain / "as-trained")
    assert not kept.fitted and type(kept.model.prior).__name__ == "StandardPrior"
    assert (
        ask(capsys, "fit-prior", plain, "--components", 2)[0] == 0
    )  # a second one leaves what was trained in place
    assert vaekit.load(plain).recipe.prior.trained.kind == "StandardPrior"
    assert vaekit.load(plain).recipe.prior.arguments == {"components": 2}
    line = refused(capsys, "train", "--resume", plain, "--set", "train.epochs=16")
    assert "fitted after training" in line and f"vaekit fit-prior {plain} --restore" in line
    assert ask(capsys, "fit-prior", plain, "--restore")[0] == 0
    after = everything(plain)
    assert {name: after[name] for name in before} == before
    assert {name.parts[0] for name in after.keys() - before.keys()} <= {"pictures"}
    assert "nothing to restore" in refused(capsys, "fit-prior", plain, "--restore")
    assert ask(capsys, "train", "--resume", plain, "--set", "train.epochs=16")[0] == 0


def test_a_new_folder_leaves_the_run_alone_and_a_recipe_trains_as_it_was_trained(capsys, plain, tmp_path):
    before = everything(plain)
    code, _, err = ask(capsys, "fit-prior", plain, "--components", 3, "-o", tmp_path / "new")
    assert code == 0 and everything(plain) == before, err
    made = vaekit.load(tmp_path / "new")
    assert made.fitted and made.info()["epochs"] == 15 and made.recipe.data.source == "digits"
    assert "never had another" in refused(capsys, "fit-prior", tmp_path / "new", "--restore")
    assert "the run that it was made from" in refused(capsys, "train", "--resume", tmp_path / "new")
    assert "exists already" in refused(capsys, "fit-prior", plain, "-o", tmp_path / "new")
    code, _, err = ask(
        capsys, "train", "--recipe", tmp_path / "new" / "recipe.toml", "-o", tmp_path / "again",
        "--set", "train.epochs=1",
    )  # fmt: skip
    assert code == 0 and "until vaekit fit-prior fits another" in err
    again = vaekit.load(tmp_path / "again")
    assert not again.fitted and type(again.model.prior).__name__ == "StandardPrior"


def test_a_new_folder_appears_whole_or_not_at_all(plain, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vaekit.train.prior.look", full)
    with pytest.raises(
        vaekit.VaekitError, match=r"^cannot make .*new: No space left on device; choose another -o$"
    ):
        vaekit.load(plain).fit_prior("gaussian", output=tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["plain"]


def test_with_one_validation_row_it_is_said_that_training_rows_are_held_out(plain, tmp_path, capsys):
    x = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
    np.save(tmp_path / "train.npy", x)
    few = ["train.epochs=2", "train.pictures=false", "data.valid=1"]
    run = vaekit.fit(tmp_path / "train.npy", latent=2, output=tmp_path / "run", set=few)
    code, out, err = ask(capsys, "fit-prior", run.path)
    assert code == 0, err
    assert " training rows, held out from this fit alone; " in out and "others chose the prior" in out
    assert ask(capsys, "fit-prior", run.path, "--kind", "gaussian")[1].count("chose") == 0


def test_the_bound_of_a_vae_rises_by_what_the_codes_gain(digits_run, tmp_path):
    run = vaekit.load(digits_run)
    made = run.fit_prior("mixture", components=5, output=tmp_path / "new")
    scores = [each.scores(split="train", k=20)["elbo"] for each in (run, made)]
    gain = scores[1] - scores[0]
    assert gain.mean() > 3 * gain.std() / len(gain) ** 0.5
    held = [each.scores(split="valid", k=50)["elbo"].mean() for each in (run, made)]
    facts = json.loads((tmp_path / "new" / "prior.json").read_text())["log_density"]
    assert held[1] - held[0] == pytest.approx(facts["gain"], abs=0.05)
    with torch.no_grad():
        x, _ = next(run.batches(run.rows(split="test")))
        torch.testing.assert_close(made.model.encode(x).mean, run.model.encode(x).mean)


def test_a_flow_of_correlated_codes_is_a_prior_too(plain, monkeypatch, capsys):
    monkeypatch.setattr("vaekit.train.density.STEPS", 150)
    made = vaekit.load(plain).fit_prior("flow", progress=True)
    told = capsys.readouterr().err
    assert "doctor" not in told and "rows/s" in told  # how far it is, and no advice on nets that it has not
    facts = json.loads((plain / "prior.json").read_text())["log_density"]
    assert facts["gain"] > 5 * facts["gain_standard_error"]
    again = vaekit.load(plain)
    assert type(again.model.prior).__name__ == "WhitenedFlowPrior"
    assert (again.sample(9, seed=1) == made.sample(9, seed=1)).all() and again.manifold(3)[0].shape == (
        9,
        1,
        8,
        8,
    )


@pytest.mark.parametrize("kind", ["mixture", "flow"])
def test_a_conditional_run_gets_a_density_a_label(kind, tmp_path, monkeypatch):
    monkeypatch.setattr("vaekit.train.density.STEPS", 60)
    few = ["train.epochs=4", "train.pictures=false", "posterior.kind=PointPosterior", "objective.beta=0"]
    run = vaekit.fit("digits", recipe="conditional", latent=2, output=tmp_path / "run", set=few)
    made = run.fit_prior(kind, components=2 if kind == "mixture" else None)
    codes = run.encode(split="train")
    for label in (0, 7):
        _, z = made.sample(2000, label=label, seed=0, with_codes=True)
        own = codes.mean[codes.label == label]
        assert abs(z.mean(0) - own.mean(0)).max() < 0.35 * own.std()
    assert vaekit.load(tmp_path / "run").sample(10, seed=0).shape == (10, 1, 8, 8)


def test_what_cannot_be_fitted_is_refused_in_one_line(capsys, plain, tmp_path):
    before = everything(plain)
    assert "vamp" in refused(capsys, "fit-prior", plain, "--kind", "vamp")
    assert "give 1 to 1,437" in refused(capsys, "fit-prior", plain, "--components", 9999)
    assert "leave them out" in refused(capsys, "fit-prior", plain, "--kind", "flow", "--components", 3)
    assert "weights file alone" in refused(
        capsys, "fit-prior", shutil.copy(plain / "model.safetensors", tmp_path / "alone.safetensors")
    )
    with pytest.raises(vaekit.VaekitError, match=r"no density that is fitted to codes.*gaussian"):
        vaekit.load(plain).fit_prior("VampPrior")
    broken = vaekit.load(plain)
    with torch.no_grad():
        next(broken.model.posterior.parameters()).fill_(float("nan"))
    with pytest.raises(vaekit.VaekitError, match="not finite"):
        broken.fit_prior()
    same = vaekit.load(plain)
    with torch.no_grad():
        for parameter in same.model.posterior.parameters():
            parameter.zero_()
    with pytest.raises(vaekit.VaekitError, match="collapsed"):
        same.fit_prior()
    assert everything(plain) == before


def test_stopped_on_the_way_the_run_is_as_it_was(plain, monkeypatch):
    before = everything(plain)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("sklearn.mixture.GaussianMixture.fit", stop)
    with pytest.raises(KeyboardInterrupt, match="is as it was"):
        vaekit.load(plain).fit_prior()
    assert everything(plain) == before


def test_nothing_pickled_is_stored(plain):
    run = vaekit.load(plain).fit_prior("mixture", components=2)
    stored = {path.suffix for path in plain.rglob("*") if path.is_file()}
    assert stored <= {".toml", ".json", ".jsonl", ".safetensors", ".png", ".npz", ".ckpt"}
    names = [name for name in run.model.state_dict() if name.startswith("prior.")]
    assert names == ["prior.logits", "prior.means", "prior.log_diagonal", "prior.below"]
    assert np.isfinite(run.sample(3, seed=0)).all()


def test_data_that_came_as_an_array_are_given_again(tmp_path):
    x = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32) @ np.diag([1.0, 5.0, 0.2])
    few = ["train.epochs=3", "train.pictures=false"]
    vaekit.fit(x.astype(np.float32), latent=2, output=tmp_path / "run", set=few)
    run = vaekit.load(tmp_path / "run")
    with pytest.raises(vaekit.VaekitError, match="give the data"):
        run.fit_prior("gaussian")
    made = run.fit_prior("gaussian", data=x.astype(np.float32))
    assert made.fitted and made.sample(4, seed=0).shape == (4, 3)
    assert vaekit.restore_prior(tmp_path / "run").fitted is False
