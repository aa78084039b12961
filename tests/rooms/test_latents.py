"""`Run.latents` on real runs: fields others read, what is left on the disk, and runs of every shape."""

import json
import math

import numpy as np
import pytest
import torch

import vaekit
from vaekit import VaekitError
from vaekit.metrics import features

FEW = ["train.epochs=2", "train.pictures=false"]
SETS = {"floor", "reconstructions", "samples", "gaussian", "midpoints"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("latents")
    return {
        "vae": vaekit.fit("digits", latent=2, seed=1, output=folder / "vae", set=["train.epochs=8"]),
        "ae": vaekit.fit(
            "digits", recipe="autoencoder", latent=2, seed=1, output=folder / "ae", set=["train.epochs=8"]
        ),
    }


@pytest.fixture(scope="module")
def judged(runs):
    return {name: run.latents() for name, run in runs.items()}


def test_the_object_has_the_fields_that_pages_read(runs, judged):
    for name, result in judged.items():
        assert json.loads((runs[name].path / "latents.json").read_text()) == result
        arrays = np.load(runs[name].path / "latents.npz")
        assert arrays["squared_error"].mean() == pytest.approx(result["error"]["mean_squared"])
        assert arrays["index"].tolist() == list(range(180)) and (result["split"], result["rows"]) == (
            "test",
            180,
        )
        assert result["error"]["root_mean_squared"] == pytest.approx(
            math.sqrt(result["error"]["mean_squared"])
        )
        for key in ("mean", "standard_deviation", "least", "greatest"):
            assert len(result["cloud"][key]) == result["latent"] == 2
        items = result["items"]
        assert {k for k, v in items.items() if isinstance(v, dict)} == SETS and items["are"] == "centres"
        assert (items["n"], result["holes"]["n"], result["probes"]["train_rows"]) == (180, 180, 1437)
        assert 0 < result["smoothness"]["pair"] < 1


def test_the_numbers_say_what_is_so(runs, judged):
    for name, result in judged.items():
        originals, again = runs[name].reconstruct(split="test")
        rounded = ((originals / 16.0 - again / 16.0) ** 2).mean()  # `reconstruct` rounds to whole levels
        assert result["error"]["mean_squared"] == pytest.approx(rounded, rel=0.02)
        items = result["items"]
        assert items["floor"]["frechet"] < min(items[each]["frechet"] for each in SETS - {"floor"})
        assert items["reconstructions"]["frechet"] < min(
            items[each]["frechet"] for each in ("samples", "midpoints")
        )
        assert result["features"]["accuracy"] > 0.9 and result["features"]["kind"] == "classifier"
        assert result["probes"]["knn_accuracy"] > 2 * result["probes"]["commonest"]
        codes = runs[name].encode(split="test").mean
        assert np.allclose(codes.mean(0), result["cloud"]["mean"], atol=0.3)
    assert judged["vae"]["features"]["key"] == judged["ae"]["features"]["key"]
    assert judged["vae"]["items"]["floor"] == judged["ae"]["items"]["floor"]


def test_dimensions_are_told_where_there_is_a_law_and_against_the_prior_always(runs, judged):
    for name, result in judged.items():
        prior, told = result["prior"], result["dimensions"]
        assert len(prior["kolmogorov_smirnov"]) == len(prior["wasserstein"]) == len(told["activity"]) == 2
        assert prior["mmd"]["n"] == 180 and prior["mmd"]["floor"] > 0
        assert told["active_units"] == sum(each > 0.01 for each in told["activity"])
        text = runs[name].table_of(result, "latents")
        assert f"active units    {told['active_units']} of 2" in text and "holes" in text
    assert judged["ae"]["dimensions"]["kl"] is judged["ae"]["dimensions"]["surgery"] is None
    evaluation = runs["vae"].evaluate(k=(1,))
    told = judged["vae"]["dimensions"]
    assert told["kl"] == pytest.approx(evaluation["kl_per_dimension"], rel=1e-4)  # 180 rows: all of the split
    assert told["active_units"] == evaluation["active_units"]
    apart = told["surgery"]
    assert apart["rate"] == pytest.approx(evaluation["rate"], abs=0.3)  # a draw a row
    assert apart["mutual_information"] == pytest.approx(evaluation["mutual_information"]["value"], abs=0.2)
    assert apart["mutual_information"] + apart["marginal_kl"] == pytest.approx(apart["rate"])
    assert (
        judged["ae"]["prior"]["mmd"]["value"] > judged["vae"]["prior"]["mmd"]["value"]
    )  # no rate binds its codes


def test_a_prior_that_does_not_factorise_leaves_the_information_of_a_dimension(tmp_path):
    run = vaekit.fit("digits", recipe="vamp", latent=3, output=tmp_path / "r", set=FEW)
    told = run.latents()["dimensions"]
    assert told["kl"] is None and len(told["surgery"]["mutual_information_per_dimension"]) == 3
    assert told["surgery"]["marginal_kl_per_dimension"] is None
    assert told["surgery"]["marginal_kl"] is not None and told["surgery"]["total_correlation"] is not None


def test_a_seed_repeats_itself_and_leaves_model_and_generator_as_they_were(runs, judged):
    run, state = runs["vae"], torch.get_rng_state()
    run.model.train()
    assert run.latents(seed=0) == judged["vae"]
    assert run.model.training and torch.equal(state, torch.get_rng_state())
    run.model.eval()
    other = run.latents(seed=5)
    assert other["holes"] != judged["vae"]["holes"] and other["error"] == judged["vae"]["error"]
    run.latents(seed=0)


def test_features_are_kept_and_made_again_where_the_file_is_broken(runs, judged, cache, monkeypatch):
    file = cache / "features" / f"{judged['vae']['features']['key']}.safetensors"
    assert file.is_file()
    monkeypatch.setattr(features.Classifier, "fit", lambda *_: pytest.fail("they were kept"))
    monkeypatch.setattr(features, "_MADE", {})
    assert runs["vae"].latents()["items"] == judged["vae"]["items"]
    monkeypatch.undo()
    monkeypatch.setattr(features, "_MADE", {})
    whole = file.read_bytes()
    file.write_bytes(whole[:100])
    assert runs["vae"].latents()["items"] == judged["vae"]["items"]
    assert file.read_bytes() == whole


def test_other_data_are_judged_and_not_kept(runs, judged):
    run = runs["vae"]
    before = (run.path / "latents.json").read_bytes()
    x = run.rows(split="test").rows(slice(None))
    other = run.latents(x[:60])
    assert other["rows"] == other["items"]["n"] == 60 and other["probes"] is None  # an array has no labels
    assert other["features"]["accuracy"] is None
    assert run.latents(split="train")["rows"] == 1437
    assert (run.path / "latents.json").read_bytes() == before
    with pytest.raises(VaekitError, match=r"^4 rows of the .* at least 7$"):
        run.latents(x[:4])


def test_a_conditional_model_is_decoded_under_its_labels(tmp_path):
    run = vaekit.fit("digits", recipe="conditional", latent=2, output=tmp_path / "r", set=FEW)
    result = run.latents()
    assert {k for k, v in result["items"].items() if isinstance(v, dict)} == SETS
    assert 0 < result["smoothness"]["pair"] < 1


def test_a_line_of_codes_and_vectors_without_labels(tmp_path):
    x = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32) * [1, 10, 100, 0.1]
    run = vaekit.fit(x.astype(np.float32), latent=1, output=tmp_path / "r", set=FEW)
    result = run.latents()
    assert result["latent"] == 1 and result["probes"] is None and result["smoothness"]["pair"] is None
    assert result["features"]["kind"] == "principal axes" and result["features"]["dimensions"] == 4
    assert result["items"]["samples"]["confidence"] is None and result["items"]["floor"]["frechet"] < 1


def test_categories_are_told_by_the_share_that_is_wrong(tmp_path):
    rng = np.random.default_rng(0)
    table = tmp_path / "words.csv"
    lines = [",".join((rng.choice(["red", "green", "blue"]), rng.choice(["oak", "ash"]))) for _ in range(200)]
    table.write_text("\n".join(["colour,tree", *lines]) + "\n")
    run = vaekit.fit(table, latent=2, output=tmp_path / "r", set=FEW)
    result = run.latents()
    x, again = run.reconstruct(split="test")
    assert result["error"]["mean_squared"] == pytest.approx((x != again).mean())
    assert (
        result["features"]["dimensions"] == 3 + 3
    )  # one-hot, as many numbers a column as its longest has words


def test_a_model_without_a_latent_has_its_samples_judged(tmp_path):
    run = vaekit.fit(
        "digits", latent=0, binarize="dynamic", output=tmp_path / "r",
        set=["likelihood.kind=AutoregressiveLikelihood", "likelihood.hidden=[40]", *FEW],
    )  # fmt: skip
    result = run.latents()
    absent = "error", "cloud", "holes", "prior", "dimensions", "probes", "smoothness"
    assert [result[name] for name in absent] == [None] * 7
    assert "no codes" in run.table_of(result, "latents")
    assert {k for k, v in result["items"].items() if isinstance(v, dict)} == {"floor", "samples"}
    assert result["items"]["are"] == "draws"
    assert np.load(run.path / "latents.npz")["squared_error"].size == 0


def test_codes_that_are_not_finite_are_no_table_entry(runs):
    run = vaekit.load(runs["vae"].path)
    with torch.no_grad():
        next(run.model.posterior.parameters()).fill_(math.nan)
    before = (run.path / "latents.json").read_bytes()
    with pytest.raises(VaekitError, match="codes of 180 of 180 rows are not finite"):
        run.latents()
    assert (run.path / "latents.json").read_bytes() == before
