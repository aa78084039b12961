"""A better encoder for a trained model, by the one loop: what changes, what does not, and how it is kept; and runs that
start from another's weights, with parts frozen."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from train_kit import interrupt_when

import vaekit
from commands_kit import ask, refused
from vaekit import VaekitError

QUICK = ["train.epochs=4", "data.limit=400", "train.pictures=false"]
SHORT = ["train.epochs=6"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Small runs by kind, each trained once."""
    folder = tmp_path_factory.mktemp("refit")
    asked = {
        "vae": {}, "ae": {"recipe": "autoencoder"}, "vamp": {"recipe": "vamp", "set": ["prior.components=20"]},
        "hierarchical": {"set": ["posterior.kind=HierarchicalPosterior", "posterior.width=32"]},
    }  # fmt: skip
    return {
        name: vaekit.fit("digits", output=folder / name, latent=6, **how | {"set": [*QUICK, *how.get("set", ())]}).path
        for name, how in asked.items()
    }  # fmt: skip


@pytest.fixture
def run(runs, tmp_path):
    """One of them, in a folder that this test may fill."""
    return lambda name: vaekit.load(shutil.copytree(runs[name], tmp_path / name))


def parts(path: Path, name: str) -> dict:
    return {key: value for key, value in load_file(path).items() if key.startswith(f"{name}.")}


@pytest.mark.parametrize("name", ["vae", "vamp", "hierarchical"])
def test_the_bound_tightens_and_the_model_stays_what_it_was(run, name):
    own = run(name)
    before = {file.name: file.read_bytes() for file in own.path.iterdir() if file.is_file()}
    loose = own.evaluate(split="valid", k=(50,))
    refitted = own.refit_encoder(set=SHORT)
    assert refitted.path == own.path / "refitted"
    tight = refitted.evaluate(split="valid", k=(50,))
    assert tight["nll"][0]["value"] < loose["nll"][0]["value"] - 0.1
    # p(z) and p(x given z), and so p(x), are the same law
    z = torch.randn(200, 6)
    with torch.no_grad():
        torch.testing.assert_close(
            refitted.model.prior().log_prob(z), own.model.prior().log_prob(z), rtol=1e-4, atol=1e-3
        )
    files = own.path / "model.safetensors", own.path / "refitted" / "model.safetensors"
    theirs, ours = (parts(file, "likelihood") for file in files)
    assert ours.keys() == theirs.keys() and all(ours[key].equal(theirs[key]) for key in ours)
    assert any(
        not value.equal(parts(files[1], "posterior")[key])
        for key, value in parts(files[0], "posterior").items()
    )
    assert {file.name: file.read_bytes() for file in own.path.iterdir() if file.is_file()} == before
    assert loose["encoder"] == "trained with the decoder"
    assert tight["encoder"] == "refitted on train with DReG, k=8, epochs=6"


def test_an_autoencoder_gets_an_encoder_with_a_density_and_so_an_nll(run, capsys):
    own = run("ae")
    refused_one = own.evaluate(k=(10,))
    assert refused_one["nll"] is None and "--refit-encoder" in refused_one["reason"]
    code, out, err = ask(
        capsys, "evaluate", own.path, "--refit-encoder", "--set", "train.epochs=6", "--k", "1,50"
    )
    assert code == 0 and "encoder        refitted on train with DReG, k=8, epochs=6" in out
    assert "decoder and prior stay as they are" in err
    refitted = vaekit.load(own.path / "refitted")
    assert type(refitted.model.posterior).__name__ == "GaussianPosterior"
    # it began at the autoencoder's own codes
    start = load_file(own.path / "refitted" / "start.safetensors")
    refitted.model.load_state_dict(start)
    torch.testing.assert_close(
        torch.from_numpy(refitted.encode(split="test").mean), torch.from_numpy(own.encode(split="test").mean)
    )
    # annealing from the prior needs no encoder, and finds log p(x) of the same model
    kept = json.loads((own.path / "refitted" / "evaluation.json").read_text())
    assert kept["nll"][1]["k"] == 50 and kept["split"] == "test"
    free = own.evaluate(ais={"images": 20, "steps": 40, "start": "prior"})["ais"]
    again = vaekit.load(own.path / "refitted").evaluate(k=(200,), ais={"images": 20, "steps": 40})["ais"]
    assert again["nll"]["value"] <= free["nll"]["value"] + 0.5
    assert again["nll"]["value"] < again["bound"]["value"] + 0.1


def test_it_is_kept_until_the_weights_or_the_settings_change(run, capsys):
    own = run("vae")
    log = own.path / "refitted" / "metrics.jsonl"
    asked = ["evaluate", own.path, "--refit-encoder", "--k", "1", "--json"]
    code, out, _ = ask(capsys, *asked, "--set", "train.epochs=2")
    first, written = json.loads(out), log.read_bytes()
    code, out, err = ask(capsys, *asked)
    assert code == 0 and json.loads(out) == first and log.read_bytes() == written
    assert "the encoder was refitted before (DReG, 8 draws, 2 epochs)" in err
    code, out, err = ask(capsys, *asked, "--set", "train.threads=1", "--set", "train.pictures=true")
    assert code == 0 and json.loads(out) == first and "refitted before" in err  # neither changes a weight
    code, out, err = ask(capsys, *asked, "--set", "objective.draws=3", "--set", "train.epochs=2")
    kept = own.path / "refitted-2"
    assert f"made with other settings; it is now {kept}; refitting anew" in err
    assert (kept / "metrics.jsonl").read_bytes() == written and vaekit.load(kept).evaluate(k=(1,)) == first
    assert json.loads(out)["encoder"] == "refitted on train with DReG, k=3, epochs=2"
    vaekit.resume(own.path, set=["train.epochs=5"])
    code, out, err = ask(capsys, *asked, "--set", "train.epochs=2")
    assert code == 0 and "it belongs to other weights of this run; it is now" in err
    assert (own.path / "refitted-3" / "model.safetensors").is_file()
    assert json.loads(out)["encoder"] == "refitted on train with DReG, k=8, epochs=2"


def test_ctrl_c_keeps_what_was_refitted_and_the_same_call_goes_on_exactly(run, tmp_path):
    own = run("vae")
    whole = vaekit.load(shutil.copytree(own.path, tmp_path / "whole")).refit_encoder(set=["train.epochs=40"])
    log = own.path / "refitted" / "metrics.jsonl"
    thread = interrupt_when(log)
    with pytest.raises(KeyboardInterrupt, match=r"interrupted at step .*--resume .*refitted"):
        own.refit_encoder(set=["train.epochs=40"])
    thread.join()
    done = own.refit_encoder()
    assert len(done.metrics()) == 40
    one, other = (load_file(path / "model.safetensors") for path in (whole.path, done.path))
    assert all(value.equal(other[name]) for name, value in one.items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--refit-encoder", "--what", "latents"], "--refit-encoder is for nats"),
        (["--set", "train.epochs=2"], "--set changes how --refit-encoder trains"),
        (["--refit-encoder", "--set", "data.limit=3"], r"a refit changes only \[train\] and \[objective\]"),
        (["--refit-encoder", "--set", "train.epoch=3"], "train.epoch.*did you mean"),
        (["--ais", "0"], "--ais"),
        (["--ais", "5", "--ais-steps", "1"], "steps is 1; give at least 2"),
    ],
)
def test_bad_input_is_one_line(run, capsys, arguments, message):
    own = run("vae")
    assert re.search(message, refused(capsys, "evaluate", own.path, *arguments))
    assert not (own.path / "refitted").exists()


def test_what_cannot_be_refitted_is_told_in_one_line(run, capsys, tmp_path):
    own = run("vae")
    shutil.copy(own.path / "model.safetensors", tmp_path / "alone.safetensors")
    line = refused(capsys, "evaluate", tmp_path / "alone.safetensors", "--refit-encoder")
    assert "a refit is kept in the folder of its run" in line
    refitted = own.refit_encoder(set=["train.epochs=1"])
    assert "is a refit itself" in refused(capsys, "evaluate", refitted.path, "--refit-encoder")
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    point = vaekit.fit(
        "digits", output=tmp_path / "own", latent=2, nets={"posterior": net}, recipe="autoencoder", set=QUICK
    )
    with pytest.raises(VaekitError, match="point posterior on a net of your own"):
        point.refit_encoder()


def test_a_run_starts_from_the_weights_of_another_with_parts_frozen(run, tmp_path):
    own = run("vae")
    again = vaekit.fit(
        "digits", output=tmp_path / "again", latent=6,
        set=[*QUICK, "objective.kind=DReG", f"train.start={own.path}", 'train.frozen=["posterior"]'],
    )  # fmt: skip
    theirs, ours = (load_file(path / "model.safetensors") for path in (own.path, again.path))
    assert all(value.equal(ours[name]) for name, value in theirs.items() if name.startswith("posterior."))
    assert any(
        not value.equal(ours[name]) for name, value in theirs.items() if name.startswith("likelihood.")
    )
    start = load_file(again.path / "start.safetensors")
    assert all(value.equal(start[name]) for name, value in theirs.items())
    # it needs the other run no more, and its weights do not say where that was
    shutil.rmtree(own.path)
    (again.path / "last.ckpt").unlink()
    first = again.metrics()[0]
    assert vaekit.resume(again.path).metrics()[0]["train_loss"] == first["train_loss"]
    assert str(own.path).encode() not in (again.path / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["train.start=nowhere"], "train.start: there are no weights at .*nowhere"),
        (["train.start={run}", "prior.kind=FlowPrior"], "the weights in .* do not fit the recipe"),
        (['train.frozen=["prior", "posterior", "likelihood"]'], "leaves nothing to train"),
        (['train.frozen=["decoder"]'], "train.frozen"),
        (['train.frozen=["prior"]', "prior.kind=VampPrior"], "VampPrior is made of the posterior"),
    ],
)
def test_a_start_or_a_freeze_that_cannot_be_is_told_in_one_line(run, tmp_path, changes, message):
    own = run("vae")
    changes = [change.replace("{run}", str(own.path)) for change in changes]
    with pytest.raises(VaekitError, match=message) as caught:
        vaekit.fit("digits", output=tmp_path / "x", latent=6, set=[*QUICK, *changes])
    assert "\n" not in str(caught.value) and not (tmp_path / "x").exists()


def test_frozen_parts_keep_their_buffers_too(run, tmp_path):
    """An optimal variance follows the batches it sees; frozen, it stays."""
    chosen = [*QUICK, "likelihood.kind=GaussianLikelihood", "likelihood.variance=optimal"]
    first = vaekit.fit("digits", output=tmp_path / "a", latent=4, set=chosen)
    second = vaekit.fit(
        "digits", output=tmp_path / "b", latent=4,
        set=[*chosen, f"train.start={first.path}", 'train.frozen=["likelihood"]'],
    )  # fmt: skip
    for name, value in first.model.likelihood.state_dict().items():
        assert value.equal(second.model.likelihood.state_dict()[name]), name


def test_ctrl_c_while_annealing_leaves_the_bounds(run, tmp_path):
    own = run("vae")
    calls = 0

    def interrupt(*_: object) -> None:
        nonlocal calls
        calls += torch.is_grad_enabled()
        if calls > 20:
            raise KeyboardInterrupt

    hook = own.model.likelihood.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        own.evaluate(k=(1, 10), ais=5)
    hook.remove()
    kept = json.loads((own.path / "evaluation.json").read_text())
    assert [bound["k"] for bound in kept["nll"]] == [1, 10] and "ais" not in kept
    assert all(p.requires_grad for p in own.model.parameters())
    whole = own.evaluate(k=(1, 10), ais={"images": 12, "steps": 10})
    assert json.loads((own.path / "evaluation.json").read_text()) == whole
    assert whole["ais"]["images"] == 12 and whole["ais"]["simulated"]["images"] == 10
    assert whole["ais"]["nll"]["value"] == pytest.approx(
        whole["ais"]["bound"]["value"] - whole["ais"]["gap"]["value"]
    )
    assert "on the same rows" in own.table_of(whole)
