"""`vaekit.load`: a folder or a file becomes the model it was, and whatever is wrong with it is one line."""

import io
import json
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import vaekit
from vaekit import VaekitError, open_data, recipe
from vaekit.run import RunFolder

MNIST = Path(__file__).parents[3] / "shared" / "data" / "mnist"


@pytest.fixture(scope="module")
def digits():
    return open_data("digits")


@pytest.fixture
def made(tmp_path, digits):
    """make(recipe, overrides, nets) -> the folder of an untrained run and its model."""

    def make(name="digits", overrides=(), nets=None):
        resolved = recipe.resolve(
            recipe.load(name, ["model.latent=8", *overrides]), digits.contract, nets=nets
        )
        objective = recipe.build(resolved, digits.contract, nets=nets)
        folder = RunFolder.create(name=name, root=tmp_path)
        folder.write_recipe(resolved)
        folder.write_contract(digits.contract)
        folder.write_model(objective.model.state_dict())
        return folder, objective.model.eval()

    return make


def refused(path, **given):
    with pytest.raises(VaekitError) as caught:
        vaekit.load(path, **given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rewritten(folder, state=None, **changes):
    """The weights file with other tensors or metadata."""
    with safe_open(str(folder.weights), "pt") as file:
        metadata = {**file.metadata(), **changes}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    tensors = tensors if state is None else state(tensors)
    save_file(tensors, folder.weights, {k: v for k, v in metadata.items() if v is not None})


@pytest.mark.parametrize("name", ["digits", "vamp", "conditional", "autoencoder"])
def test_a_folder_and_its_weights_alone_open_as_the_model_that_was_saved(name, made, digits):
    folder, model = made(name)
    x = digits.contract.scale(torch.from_numpy(digits.test.rows(slice(0, 5))))
    c = torch.eye(10)[:5] if name == "conditional" else None
    alone = folder.path.parent / "alone.safetensors"
    alone.write_bytes(folder.weights.read_bytes())
    before = torch.random.get_rng_state()
    for path in (folder.path, folder.weights, alone, str(folder.path)):
        run = vaekit.load(path)
        assert not run.model.training
        assert torch.equal(run.model.reconstruct(x, c), model.reconstruct(x, c))
        assert run.recipe.name == name and run.contract.hash == digits.contract.hash
    assert torch.equal(before, torch.random.get_rng_state())
    assert vaekit.load(folder.path).metrics() == []
    with pytest.raises(VaekitError, match="metrics"):
        vaekit.load(alone).metrics()


def test_the_folder_knows_where_the_data_are_and_the_weights_do_not(made):
    folder, _ = made()
    folder.write_recipe(folder.read_recipe().updated({"data": {"source": "/data/somewhere"}}))
    assert vaekit.load(folder.path).recipe.data.source == "/data/somewhere"
    alone = folder.path.parent / "alone.safetensors"
    alone.write_bytes(folder.weights.read_bytes())
    assert vaekit.load(alone).recipe.data.source == "digits"


@pytest.mark.parametrize("keep", [0, 4, 100, 0.5, 0.999])
def test_truncated_weights_are_told(made, keep):
    folder, _ = made()
    data = folder.weights.read_bytes()
    folder.weights.write_bytes(data[: keep if keep >= 1 or keep == 0 else int(keep * len(data))])
    message = refused(folder.path)
    assert "model.safetensors" in message and "cut short" in message


def test_other_files_are_told(made, tmp_path):
    folder, _ = made()
    torch.save({"weights": torch.zeros(3)}, folder.weights)
    assert "no file of vaekit" in refused(folder.path)
    folder.weights.write_bytes((2**40).to_bytes(8, "little") + b"x" * 100)
    assert "damaged" in refused(folder.path)
    save_file({"a": torch.zeros(3)}, folder.weights)
    assert "not of a vaekit run" in refused(folder.path)
    folder.weights.unlink()
    assert "no weights yet" in refused(folder.path) and "--resume" in refused(folder.path)
    assert "there is no run at" in refused(tmp_path / "nowhere")
    assert "no recipe.toml" in refused(tmp_path)


def test_another_version_is_told_with_both_numbers(made):
    folder, _ = made()
    rewritten(folder, schema="2", vaekit="9.1.0")
    message = refused(folder.path)
    assert "vaekit 9.1.0 (schema 2)" in message and f"vaekit {vaekit.__version__}" in message
    rewritten(folder, schema="1", recipe="[train]\nwings = 2\n")
    message = refused(folder.path)
    assert "train.wings" in message and "made by vaekit 9.1.0" in message


def test_metadata_that_does_not_fit_is_told(made):
    folder, _ = made()
    rewritten(folder, recipe="[model")
    assert "not TOML" in refused(folder.path)
    folder, _ = made()
    rewritten(folder, contract='["no contract"]')
    assert "data contract" in refused(folder.path)
    folder, _ = made()
    rewritten(folder, contract=json.dumps({"schema": 7}))
    assert "schema 7" in refused(folder.path)


def test_metadata_without_a_version_open_and_say_so_where_something_is_wrong(made):
    folder, _ = made()
    rewritten(folder, vaekit=None)
    vaekit.load(folder.weights)
    rewritten(folder, recipe="[train]\nwings = 2\n")
    assert "unknown version" in refused(folder.weights)


def test_a_recipe_of_any_size_is_held_against_the_weights_before_it_takes_memory(made):
    folder, _ = made()
    with safe_open(str(folder.weights), "pt") as file:
        text = file.metadata()["recipe"]
    huge = re.sub(r"hidden = \[.*?\]", "hidden = [100000000]", text, flags=re.DOTALL)
    assert huge != text
    rewritten(folder, recipe=huge)  # 25 GB a layer
    assert "do not fit the recipe" in refused(folder.weights)


def test_weights_that_do_not_fit_the_recipe_are_told(made):
    folder, _ = made()
    rewritten(folder, lambda state: {k: v for k, v in state.items() if k != "posterior.net.last.bias"})
    assert "posterior.net.last.bias is missing" in refused(folder.path)
    folder, _ = made()
    rewritten(folder, lambda state: {**state, "posterior.net.last.bias": torch.zeros(3)})
    message = refused(folder.path)
    assert "posterior.net.last.bias is [3], the model has [16]" in message
    folder, _ = made()
    rewritten(folder, lambda state: {**state, "extra": torch.zeros(3), "more": torch.zeros(1)})
    assert "extra is not in the model, and 1 more" in refused(folder.path)


def test_a_file_cannot_make_code_run(made, tmp_path, monkeypatch):
    mark = tmp_path / "ran"
    (tmp_path / "evil_parts.py").write_text(f"open({str(mark)!r}, 'w')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    folder, _ = made()
    text = recipe.to_toml(recipe.load("digits", ["prior.kind=evil_parts.Prior"]))
    rewritten(folder, recipe=text)
    assert "--allow evil_parts" in refused(folder.path)
    assert not mark.exists()
    assert "cannot be imported" in refused(folder.path, allow=["evil_parts"])
    assert mark.exists()


def test_a_module_of_ones_own_is_wanted_again_and_gets_its_weights(made, digits):
    def own():
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 16))

    folder, model = made(nets={"posterior": own()})
    assert "give it again" in refused(folder.path)
    run = vaekit.load(folder.path, nets={"posterior": own()})
    assert torch.equal(run.model.posterior.net[1].weight, model.posterior.net[1].weight)
    other = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 15))
    assert "[2, 15]" in refused(folder.path, nets={"posterior": other})
    plain, _ = made()
    assert "leave it out of nets" in refused(plain.path, nets={"posterior": own()})


# -- data in, data out


def test_the_methods_take_and_give_data_units(made, digits):
    run = vaekit.load(made()[0].path)
    x = run.sample(5, seed=3)
    assert x.shape == (5, 1, 8, 8) and x.dtype == np.uint8 and x.max() <= 16
    assert (run.sample(5, seed=3) == x).all() and (run.sample(5, seed=4, noise=True) != x).any()
    again, z = run.sample(5, seed=3, with_codes=True)
    assert (again == x).all() and (run.decode(z) == x).all()
    originals, reconstructions = run.reconstruct(n=7, seed=1)
    assert originals.shape == reconstructions.shape == (7, 1, 8, 8)
    rows = {row.tobytes() for row in digits.test.x}
    assert all(original.tobytes() in rows for original in originals)


def test_codes_are_the_same_however_the_rows_come(made, digits, tmp_path):
    run = vaekit.load(made()[0].path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        every = run.encode()
    assert len(every) == 1797 and every.log_variance.shape == every.mean.shape
    train, valid = len(digits.train), len(digits.valid)
    test = every.mean[train + valid :]
    np.save(tmp_path / "rows.npy", digits.test.x)
    for data in (
        None,
        "digits",
        digits.test,
        digits,
        digits.test.x,
        torch.from_numpy(digits.test.x),
        str(tmp_path / "rows.npy"),
    ):
        codes = run.encode(data, split="test")
        np.testing.assert_allclose(codes.mean, test, atol=1e-5)
    assert (run.encode(split="test").label == digits.test.label).all()
    np.testing.assert_allclose(run.encode(digits.test.x[3]).mean, test[3:4], atol=1e-5)
    assert set(every.arrays()) == {"mean", "log_variance", "label", "labels"}


def test_data_that_changed_since_the_run_are_told(made, digits, tmp_path):
    x = digits.train.x.copy()
    np.save(tmp_path / "rows.npy", x)
    folder, _ = made()
    folder.write_recipe(folder.read_recipe().updated({"data": {"source": str(tmp_path / "rows.npy")}}))
    with pytest.warns(UserWarning, match="have changed since this run"):
        vaekit.load(folder.path).data()
    (tmp_path / "rows.npy").unlink()
    with pytest.raises(VaekitError, match=r"the run's own data.*rows\.npy"):
        vaekit.load(folder.path).evaluate()
    assert vaekit.load(folder.path).manifold(2)[0].shape == (4, 1, 8, 8), (
        "the prior serves where data have gone"
    )


def test_walks_start_and_end_where_they_are_told(made, digits):
    run = vaekit.load(made()[0].path)
    test = run.encode(split="test").mean
    x, z = run.interpolate("3", digits.test.x[5], steps=4, path="linear")
    np.testing.assert_allclose(z[[0, -1]], test[[3, 5]], atol=1e-5)
    assert x.shape == (4, 1, 8, 8)
    _, z = run.interpolate("1,0,0,0,0,0,0,0", [0.0, 1, 0, 0, 0, 0, 0, 0], steps=3)
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, atol=1e-5)
    x, z, names = run.traverse(3, dimensions="2,0", steps=5)
    assert names == ["z2", "z0"] and x.shape == (10, 1, 8, 8)
    moved = z.reshape(2, 5, 8) - test[3]
    assert np.abs(moved[0, :, 2]).max() > 0 and np.abs(np.delete(moved[0], 2, 1)).max() < 1e-5
    assert run.manifold(3)[0].shape == (9, 1, 8, 8)
    flat = vaekit.load(made(overrides=["model.latent=2"])[0].path)
    np.testing.assert_allclose(flat.manifold(3)[1][4], 0, atol=1e-6)


def test_a_conditional_run_asks_for_the_label_where_it_needs_one(made, digits):
    run = vaekit.load(made("conditional")[0].path)
    assert (
        len(run.sample(12)) == 12
        and (run.sample(2, label="7", seed=0) == run.sample(2, label=7, seed=0)).all()
    )
    assert run.decode([[0.0] * 8], label=1).shape == (1, 1, 8, 8)
    for call, words in [
        (lambda: run.decode([[0.0] * 8]), "say which"),
        (lambda: run.sample(2, label="x"), "unknown label 'x'"),
        (lambda: run.encode(digits.test.x), "given the label"),
        (lambda: run.encode(digits.test.x, label=[1, 2]), "2 labels for 180 rows"),
        (lambda: vaekit.load(made()[0].path).sample(2, label=1), "not given the label"),
    ]:
        with pytest.raises(VaekitError, match=words):
            call()
    with pytest.raises(VaekitError, match="given the label"):
        run.evaluate(digits.test.x, k=(1,))
    labelled = run.evaluate(digits.test.x, k=(1,), label=digits.test.label)
    assert labelled["elbo"] == pytest.approx(run.evaluate(k=(1,))["elbo"], rel=1e-5)
    assert run.evaluate(digits.test.x, k=(1,), label=3)["elbo"] != pytest.approx(labelled["elbo"], rel=1e-5)
    given = run.encode(digits.test.x, label=digits.test.label)
    np.testing.assert_allclose(given.mean, run.encode(split="test").mean, atol=1e-5)


def test_the_commands_take_the_label_of_rows_that_have_none(made, digits, tmp_path, capsys):
    from vaekit.__main__ import run as command

    folder, _ = made("conditional")
    np.save(tmp_path / "rows.npy", digits.test.rows(slice(0, 6)))
    given = [str(folder.path), str(tmp_path / "rows.npy")]
    for name, rest in [
        ("reconstruct", ["-o", str(tmp_path / "x.npz")]),
        ("encode", ["-o", str(tmp_path / "x.npz")]),
        ("evaluate", ["--k", "1"]),
    ]:
        assert command([name, *given, *rest]) == 2
        assert "give label" in capsys.readouterr().err
        assert command([name, *given, *rest, "--label", "3"]) == 0, capsys.readouterr().err
    plain = str(made()[0].path)
    assert command(["evaluate", plain, given[1], "--label", "3"]) == 2


def test_what_does_not_fit_the_contract_is_refused(made):
    run = vaekit.load(made()[0].path)
    for call, words in [
        (lambda: run.decode([0.5, 0.5]), "point of 2 numbers.*8 latent dimensions"),
        (lambda: run.decode([[0.0] * 7 + [float("inf")]]), "not finite"),
        (lambda: run.decode([]), "no latent points"),
        (lambda: run.interpolate("0.5,1", "3"), "point of 2 numbers"),
        (lambda: run.interpolate(0, 180), "no row 180.*0 to 179"),
        (lambda: run.traverse(dimensions="9"), "no dimension 9"),
        (lambda: run.encode(np.zeros((3, 1, 9, 9))), "1x9x9.*1x8x8"),
        (lambda: run.encode(np.eye(8)[None, None] * 17), "0..16"),
        (lambda: run.rows(split="tset"), "did you mean 'test'"),
        (lambda: run.sample(0), "at least 1"),
        (lambda: run.evaluate(binarize="static"), "leave --binarize out"),
    ]:
        with pytest.raises(VaekitError, match=words):
            call()


def test_an_evaluation_reads_as_json_and_as_a_table_and_is_kept_in_the_run(made):
    folder, _ = made()
    run = vaekit.load(folder.path)
    result = run.evaluate(k=(1, 4))
    assert json.loads(json.dumps(result)) == result
    assert result["split"] == "test" and result["images"] == 180
    assert result["elbo"] == pytest.approx(-(result["rate"] + result["distortion"]))
    assert json.loads((folder.path / "evaluation.json").read_text()) == result
    assert f"{result['elbo']:.2f}" in run.table_of(result) and "k 4" in run.table_of(result)
    assert run.evaluate(limit=20, k=(1,))["images"] == 20
    assert json.loads((folder.path / "evaluation.json").read_text()) == result, (
        "a part of the split took its place"
    )
    grey = vaekit.load(made(overrides=["likelihood.kind=BernoulliLikelihood"])[0].path)
    assert grey.evaluate(k=(1,))["nll"] is None
    assert grey.evaluate(k=(1,), binarize="static")["nll"][0]["value"] > 0
    facts = run.info()
    assert facts["latent"] == 8 and facts["prior"] == "StandardPrior" and json.dumps(facts)


@pytest.mark.skipif(not MNIST.is_dir(), reason=f"MNIST is not at {MNIST}")
def test_binarised_data_have_fixed_bits_and_grey_centres(tmp_path, monkeypatch):
    monkeypatch.setenv("VAEKIT_CACHE", str(tmp_path / "cache"))
    data = open_data(MNIST, binarize="dynamic", limit=64)
    resolved = recipe.resolve(recipe.load("mnist", ["data.limit=64"]), data.contract)
    folder = RunFolder.create(tmp_path / "run")
    folder.write_recipe(resolved.updated({"data": {"source": str(MNIST)}}))
    folder.write_contract(data.contract)
    folder.write_model(recipe.build(resolved, data.contract).model.state_dict())
    run = vaekit.load(folder.path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        originals, reconstructions = run.reconstruct()
    assert set(np.unique(originals)) == {0, 255} and (originals == run.reconstruct()[0]).all()
    assert (originals == data.test.frozen(data.contract).x).all()
    assert reconstructions.dtype == np.uint8 and len(np.unique(reconstructions)) > 2
    assert set(np.unique(run.sample(4, noise=True, seed=0))) == {0, 255}
    assert (run.encode(split="all").mean[-64:] == run.encode(split="test").mean).all()


def test_the_pictures_are_of_the_right_things(made):
    run = vaekit.load(made()[0].path)
    originals, reconstructions = run.reconstruct(n=4)
    for picture in (
        run.picture_of(originals),
        run.picture_of(np.repeat(originals, 2, 0), rows=["a", "b"]),
        run.picture_of_pairs(originals, reconstructions),
        run.picture_of_codes(run.encode(split="test")),
    ):
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        assert picture.width > 100 and len({*picture.convert("L").tobytes()}) > 2
