"""`Run.samples` and `Run.copies` on real runs, and `evaluate --what`: fields others read, and models known to be bad."""

import hashlib
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import vaekit
from commands_kit import ask, refused, shape_of
from vaekit import VaekitError
from vaekit.distributions import Point
from vaekit.metrics.inception import Inception, InceptionFeatures

FEW = ["train.epochs=2", "train.pictures=false"]
SCORES = {"frechet", "kernel", "precision", "recall", "density", "coverage", "confidence"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("samples")
    return vaekit.fit(
        "digits", latent=4, seed=1, output=folder / "r", set=["train.epochs=30", "train.pictures=false"]
    )


class Memory(nn.Module):
    """z -> a row of `rows` [N, ...], chosen by z, moved by `noise`."""

    def __init__(self, rows: Tensor, noise: float = 0.0) -> None:
        super().__init__()
        self.rows, self.noise = rows, noise

    def forward(self, z: Tensor, c: Tensor | None = None) -> Point:
        index = (z.double().sum(-1) * 1e6).long().abs() % len(self.rows)
        found = self.rows[index]
        return Point(found + self.noise * torch.randn_like(found), event_dims=self.rows.dim() - 1)


def remembering(run, rows: Tensor, noise: float = 0.0):
    """The run, its decoder replaced by a memory; it leaves nothing in the run's folder."""
    changed = vaekit.load(run.path)
    changed.model.likelihood = Memory(rows, noise)
    changed.folder, changed.own = None, run.data()
    return changed


def greys(run, split: str) -> Tensor:
    return run.contract.scale(torch.from_numpy(run.data().split(split).rows(slice(None))))


# -- samples


def test_samples_have_the_fields_that_tables_read(run):
    found = run.samples()
    assert json.loads((run.path / "samples.json").read_text()) == found
    items = found["items"]
    sets = {name for name, value in items.items() if isinstance(value, dict)}
    assert sets == {"floor", "samples", "reconstructions"} and items["are"] == "centres"
    assert (found["split"], items["n"], found["latent"]) == ("test", 180, 4)
    for name in sets:
        assert set(items[name]) == SCORES | {"k"} | ({"frechet_spread"} if name == "floor" else set())
        assert all(0 <= items[name][score] <= 1 for score in ("precision", "recall", "coverage"))
    assert items["floor"]["frechet"] < items["samples"]["frechet"]
    assert items["floor"]["coverage"] > items["samples"]["coverage"]
    assert abs(items["floor"]["kernel"]["value"]) < 2 * items["floor"]["kernel"]["spread"]
    assert found["features"]["kind"] == "classifier" and found["features"]["accuracy"] > 0.9


def test_a_seed_repeats_itself_and_touches_nothing(run):
    first, state = run.samples(), torch.get_rng_state()
    run.model.train()
    assert run.samples() == first and run.model.training and torch.equal(state, torch.get_rng_state())
    run.model.eval()
    other = run.samples(seed=1)
    assert other["items"]["samples"] != first["items"]["samples"]
    assert other["features"] == first["features"]


def test_a_model_that_knows_some_digits_alone_loses_recall_and_keeps_precision(run):
    train, label = greys(run, "train"), run.data().train.label
    whole = remembering(run, train).samples()["items"]["samples"]
    some = remembering(run, train[torch.from_numpy(label < 3)]).samples()["items"]["samples"]
    assert some["precision"] > 0.85 and whole["precision"] > 0.85
    assert some["recall"] < 0.6 < whole["recall"] and some["coverage"] < 0.6 < whole["coverage"]
    assert some["frechet"] > 2 * whole["frechet"]


def test_noise_is_seen_by_distances_and_density(run):
    items = remembering(run, torch.rand(2000, 1, 8, 8)).samples()["items"]
    found, floor = items["samples"], items["floor"]
    assert found["density"] < 0.5 * floor["density"] and found["coverage"] < 0.5 * floor["coverage"]
    assert found["frechet"] > 5 * floor["frechet"]
    assert found["kernel"]["value"] > 3 * found["kernel"]["spread"]


def test_other_data_are_judged_and_not_kept(run):
    run.samples()
    before = (run.path / "samples.json").read_bytes()
    x = run.rows(split="test").rows(slice(None))
    assert run.samples(x[:60])["items"]["n"] == 60 and run.samples(split="valid")["split"] == "valid"
    assert (run.path / "samples.json").read_bytes() == before
    with pytest.raises(VaekitError, match=r"^4 rows of the .* 7 at least$"):
        run.samples(x[:4])


@pytest.mark.parametrize("reading", ["samples", "copies", "latents"])
@pytest.mark.parametrize("recipe", ["digits", "binary-rows"])
def test_a_broken_decoder_is_told_in_a_line(run, tmp_path, recipe, reading):
    if recipe == "binary-rows":  # NaN for a logit would be drawn as a bit
        bits = (np.random.default_rng(0).random((200, 12)) < 0.4).astype(np.uint8)
        broken = vaekit.fit(bits, latent=2, output=tmp_path / "b", set=FEW)
    else:
        broken = vaekit.load(run.path)
    with torch.no_grad():
        next(broken.model.likelihood.parameters()).fill_(float("nan"))
    with pytest.raises(
        VaekitError, match=r"^\d+ of \d+ decoded items are not finite; the weights are broken"
    ):
        getattr(broken, reading)()


# -- copies


def test_an_honest_run_shows_no_sign_of_copies(run):
    found = run.copies()
    assert json.loads((run.path / "copies.json").read_text()) == found
    assert found["verdict"].startswith("no sign of copies") and found["exact"] == {
        "samples": 0,
        "held_out": 0,
    }
    assert (found["samples"], found["rows"], found["train_rows"], found["neighbours"]) == (180, 180, 1437, 10)
    assert set(found["spaces"]) == {"features", "pixels"} and found["items"] == "centres"
    arrays = np.load(run.path / "copies.npz")
    assert arrays["sample"].shape == arrays["train"].shape == arrays["held_out"].shape == (12, 1, 8, 8)
    train, test = run.data().train.rows(slice(None)), run.data().test.rows(slice(None))
    assert np.array_equal(arrays["train"], train[found["closest"]["train"]])
    assert np.array_equal(arrays["held_out"], test[found["closest"]["held_out"]])
    # by hand: the nearest training row of the samples that are shown, rounded to whole levels as they are
    shown, rows = (x.reshape(len(x), 64).astype(float) for x in (arrays["sample"], train))
    gaps = np.linalg.norm(shown[:, None] - rows[None], axis=-1)
    chosen = gaps[np.arange(12), found["closest"]["train"]]
    assert (chosen <= gaps.min(1) + 4).all()
    assert arrays["pixels_distance"][found["closest"]["sample"]] * 16 == pytest.approx(chosen, abs=4)
    assert shape_of(run.path / "copies.png")[0] > 12 * 48
    assert run.copies() == found and run.copies(seed=1)["spaces"] != found["spaces"]
    run.copies()


def test_a_decoder_that_repeats_training_rows_is_caught(run):
    train = greys(run, "train")
    exact = remembering(run, train).copies()
    assert exact["exact"]["samples"] == 180 and "180 of 180 samples are training rows" in exact["verdict"]
    assert exact["spaces"]["pixels"]["distance"]["samples"]["median"] == 0
    near = remembering(run, train, 0.02).copies()
    assert "some repeat training rows" in near["verdict"] and near["exact"]["samples"] == 0
    assert near["spaces"]["pixels"]["close"] > 0.9 and near["spaces"]["pixels"]["three_sample"] < -3
    assert not (run.path / "copies.json").exists() or "some" not in (run.path / "copies.json").read_text()


def test_a_decoder_that_gives_rows_it_was_not_trained_on_is_not(run):
    found = remembering(run, greys(run, "valid")).copies()
    assert found["verdict"].startswith("no sign of copies")
    assert abs(found["spaces"]["pixels"]["distance"]["z"]) < 3 and found["exact"]["samples"] == 0


def test_greys_that_are_binarised_on_access_are_compared_as_greys(tmp_path):
    run = vaekit.fit("digits", latent=2, binarize="dynamic", output=tmp_path / "r", set=FEW)
    train = greys(run, "train")
    assert "samples are training rows" in remembering(run, train).copies()["verdict"]
    found = run.copies()
    assert found["items"] == "centres" and found["verdict"].startswith("no sign of copies")
    assert len(np.unique(np.load(run.path / "copies.npz")["held_out"])) > 2


def test_vectors_bits_and_labels_are_audited_too(tmp_path):
    x = np.random.default_rng(0).normal(size=(400, 4)).astype(np.float32) * np.float32([1, 10, 100, 0.1])
    run = vaekit.fit(x, latent=2, output=tmp_path / "v", set=FEW)
    assert set(run.copies()["spaces"]) == {"features", "columns"}
    assert "samples are training rows" in remembering(run, greys(run, "train")).copies()["verdict"]
    bits = (np.random.default_rng(0).random((400, 12)) < 0.4).astype(np.uint8)
    run = vaekit.fit(bits, latent=2, output=tmp_path / "b", set=FEW)
    assert run.copies()["items"] == "draws" and run.samples()["items"]["are"] == "draws"
    run = vaekit.fit("digits", recipe="conditional", latent=2, output=tmp_path / "c", set=FEW)
    assert run.copies()["exact"]["samples"] == 0 and run.samples()["items"]["n"] == 180


def test_training_rows_hold_nothing_out(run):
    for split in ("train", "all"):
        with pytest.raises(VaekitError, match=rf"split {split} has training rows; take test$"):
            run.copies(split=split)


# -- the command


def test_one_command_gives_every_reading(run, capsys):
    code, out, _ = ask(capsys, "evaluate", run.path, "--what", "samples,copies,nats", "--k", 1, "--json")
    found = json.loads(out)
    assert code == 0 and list(found) == ["samples", "copies", "nats"]
    assert found["samples"] == run.samples() and found["copies"] == run.copies()
    assert json.loads(ask(capsys, "evaluate", run.path, "--what", "samples", "--json")[1]) == found["samples"]
    code, out, _ = ask(capsys, "evaluate", run.path, "--what", "latents,samples,copies")
    assert code == 0 and "training rows" in out and "active units" in out and "no sign of copies" in out
    items = found["samples"]["items"]
    assert f"{items['samples']['coverage']:.3f}" in out
    assert f" {items['floor']['frechet']:.3f} +- {items['floor']['frechet_spread']:.3f} " in out


def test_what_is_no_reading_is_refused_in_a_line(run, capsys):
    assert "did you mean 'samples'" in refused(capsys, "evaluate", run.path, "--what", "sample")
    assert "names no reading" in refused(capsys, "evaluate", run.path, "--what", ",")
    assert "--limit is for nats" in refused(capsys, "evaluate", run.path, "--what", "copies", "--limit", 5)
    assert "training rows" in refused(capsys, "evaluate", run.path, "--what", "copies", "--split", "train")
    assert "--inception is for samples" in refused(capsys, "evaluate", run.path, "--inception", "w.pth")


# -- FID


@pytest.fixture(scope="module")
def inception(tmp_path_factory):
    """Weights of Inception's shape, under its names, drawn by chance."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("inception") / "weights.safetensors"
    save_file(Inception().state_dict(), path)
    return path


@pytest.mark.long
def test_fid_is_told_where_weights_are_given(run, inception):
    x = run.rows(split="test").rows(slice(0, 16))
    found = run.samples(x, inception=inception)
    assert found["inception"] == hashlib.sha256(inception.read_bytes()).hexdigest()
    fids = {name: each["fid"] for name, each in found["items"].items() if isinstance(each, dict)}
    assert set(fids) == {"floor", "samples", "reconstructions"} and all(fid > 0 for fid in fids.values())
    assert found == run.samples(x, inception=inception)
    assert f"{fids['samples']:.2f}" in run.table_of(found, "samples")
    scaled = run.contract.scale(torch.from_numpy(x))
    rows = torch.from_numpy(run.contract.picture(scaled)).expand(-1, 3, -1, -1)
    net = Inception().eval()
    net.load_state_dict(load_file(inception))
    with torch.no_grad():
        by_hand = net(2 * nn.functional.interpolate(rows, (299, 299), mode="bilinear") - 1)
    features, _ = InceptionFeatures(inception, run.contract, torch.device("cpu"))(scaled)
    assert features.shape == (16, 2048) and torch.allclose(features, by_hand, atol=1e-5)


def test_weights_that_are_no_plain_inception_are_refused_and_never_run(run, tmp_path, capsys):
    def asked(path):
        return refused(capsys, "evaluate", run.path, "--what", "samples", "--inception", path)

    assert "no Inception weights at" in asked(tmp_path / "none.pth")
    ran = tmp_path / "ran"
    torch.save({"Conv2d_1a_3x3.conv.weight": Runs(ran)}, tmp_path / "evil.pth")
    assert "holds no plain tensors" in asked(tmp_path / "evil.pth") and not ran.exists()
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "other.pth")
    assert "other weights than Inception's: it lacks 'Conv2d_1a_3x3.conv.weight'" in asked(
        tmp_path / "other.pth"
    )
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    assert "holds no plain tensors" in asked(tmp_path / "broken.safetensors")


class Runs:
    """What a pickle may carry: a call, made when it is read."""

    def __init__(self, path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")
