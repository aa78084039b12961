"""Bad input gets one clear line and exit code 2, and leaves nothing behind."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import save_file

import vaekit
from commands_kit import ask, refused, saved

ROOT = Path(__file__).parents[1]


# -- bad input: one line, exit code 2, nothing left behind


def test_bad_input_is_named_in_one_line(capsys, digits_run, pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "nowhere" in refused(capsys, "train", "nowhere")
    (tmp_path / "empty").mkdir()
    assert "empty" in refused(capsys, "train", "empty")
    assert "did you mean 'epochs'" in refused(capsys, "train", "--set", "train.epoch=3")
    assert "did you mean 'FlowPrior'" in refused(capsys, "train", "--set", "prior.kind=FlowPriro")
    assert "did you mean 'digits'" in refused(capsys, "train", "--recipe", "digit")
    assert "exists" in refused(capsys, "train", "-o", digits_run)
    assert '"train"' in refused(capsys, "trian")
    assert "many" in refused(capsys, "sample", digits_run, "-n", "many")
    assert "2 latent dimensions" in refused(capsys, "decode", digits_run, "--point", "1,2,3", "-o", "x.png")
    assert "no run at" in refused(capsys, "sample", "runs/none", "-o", "x.png")
    assert ".jpg" in refused(capsys, "sample", digits_run, "-o", "x.jpg")
    assert "allow" in refused(capsys, "train", "--set", "posterior.net.kind=os.path.Join")
    bad = np.load(np.__file__ and saved(tmp_path / "nan.npy", np.full((50, 4), np.nan)))
    assert np.isnan(bad).all() and "nan.npy" in refused(capsys, "train", "nan.npy")
    saved(tmp_path / "constant.npy", np.ones((50, 4)))
    assert "constant" in refused(capsys, "train", "constant.npy")
    saved(tmp_path / "big.npy", np.full((5, 1, 8, 8), 300))
    assert "0..16" in refused(capsys, "encode", digits_run, "big.npy", "-o", "x.npz")
    left = {p.name for p in tmp_path.iterdir()}
    assert left == {"empty", "pictures", "nan.npy", "constant.npy", "big.npy"}  # nothing half-written


def test_a_file_that_cannot_be_written_is_named(capsys, digits_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert "file/x.png" in refused(capsys, "sample", digits_run, "-o", "file/x.png")
    long = "n" * 245 + ".png"
    assert ask(capsys, "sample", digits_run, "-n", 1, "-o", long)[0] == 0 and (tmp_path / long).is_file()
    assert "too long" in refused(capsys, "sample", digits_run, "-n", 1, "-o", "n" * 300 + ".png")
    assert ask(capsys, "sample", digits_run, "-n", 1, "-o", "F.PNG")[0] == 0
    assert {p.name for p in tmp_path.iterdir()} == {"file", long, "F.PNG"}


WRITES = {
    "sample": [], "reconstruct": [], "encode": [], "decode": ["--point", "0,0"],
    "interpolate": ["--from", "1", "--to", "2"], "traverse": [], "manifold": [],
    "arithmetic": ["--plus", "1", "--minus", "2", "--to", "3"],
}  # fmt: skip


@pytest.mark.parametrize("command", WRITES)
def test_an_ending_that_cannot_be_written_is_refused_before_the_work(capsys, tmp_path, command):
    # there is no such run: it is not even looked for
    assert "x.jpg" in refused(capsys, command, tmp_path / "none", *WRITES[command], "-o", tmp_path / "x.jpg")
    assert "no file" in refused(capsys, command, tmp_path / "none", *WRITES[command], "-o", "/")


def test_the_picture_of_data_is_a_png(capsys, tmp_path):
    assert "x.npz" in refused(capsys, "data", "nowhere", "-o", tmp_path / "x.npz")


@pytest.mark.parametrize("seed", [-1, 99999999999999999999])
@pytest.mark.parametrize("command", [*WRITES, "evaluate", "data"])
def test_a_seed_that_is_none_is_one_line(capsys, tmp_path, command, seed):
    rest = [] if command == "data" else [tmp_path / "none", *WRITES.get(command, [])]
    assert f'"{seed}" for --seed' in refused(capsys, command, *rest, "--seed", seed)


def test_the_largest_seed_is_one(capsys, digits_run, tmp_path):
    commands = [(c, [digits_run, *WRITES[c]]) for c in WRITES] + [("data", ["digits"])]
    for command, rest in commands:
        code, _, err = ask(capsys, command, *rest, "--seed", 2**63 - 1, "-o", tmp_path / "x.png")
        assert code == 0, err
    assert ask(capsys, "evaluate", digits_run, "--k", 1, "--limit", 5, "--seed", 2**63 - 1)[0] == 0


def test_latent_points_may_start_with_a_minus(capsys, digits_run, tmp_path):
    out = ["-o", tmp_path / "x.npz"]
    for command in (
        ["decode", digits_run, "--point", "-0.5,0.5", "--point", "-1,-1"],
        ["interpolate", digits_run, "--from", "-1,0", "--to", "-2,-3", "--path", "linear"],
        ["traverse", digits_run, "--at", "-1,0", "--dimensions", "-1", "--steps", 3],
    ):
        code, _, err = ask(capsys, *command, *out)
        assert code == 0, err
        saved = np.load(tmp_path / "x.npz")
        if command[0] == "interpolate":
            np.testing.assert_allclose(saved["z"][[0, -1]], [[-1, 0], [-2, -3]])
        elif command[0] == "traverse":
            np.testing.assert_allclose(saved["z"][1], [-1, 0], atol=1e-6)
            assert len(saved["z"]) == 3
        else:
            assert len(saved["x"]) == 2


def test_numbers_that_show_nothing_are_one_line(capsys, digits_run, tmp_path):
    out = ["-o", tmp_path / "x.png"]
    for columns in (-3, 0):
        assert f"{columns} columns" in refused(capsys, "sample", digits_run, "--columns", columns, *out)
    for extent in ("nan", "inf", "1e300"):
        assert "extent" in refused(capsys, "traverse", digits_run, "--extent", extent, *out)
    assert list(tmp_path.iterdir()) == []


def test_a_device_that_is_not_here_is_one_line(capsys, digits_run):
    import torch

    assert "mpu" in refused(capsys, "evaluate", digits_run, "--device", "mpu")
    missing = "cuda" if not torch.cuda.is_available() else "mps"
    assert f"'{missing}'" in refused(capsys, "evaluate", digits_run, "--device", missing)
    assert ask(capsys, "evaluate", digits_run, "--device", "cpu", "--k", 1, "--limit", 5)[0] == 0


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("--what nats,latents,disentanglement", "has no known factors"),
        ("--what nats,copies --split train", "training rows; take test"),
        ("--what nats,samples --inception none.pth", "no Inception weights at none.pth"),
        ("two.npz --what latents,nats --split valid", "has no valid split"),
        ("--refit-encoder --k 10,0", "k is [10, 0]"),
        ("--refit-encoder --k ten", "--k takes whole numbers"),
        ("--what latents,nats --limit 0", "limit is 0"),
        ("--what latents,nats --binarize static", "leave --binarize out"),
        ("--refit-encoder --label 3", "is not given the label"),
        ("--refit-encoder --ais 5 --ais-steps 1", "ais: steps is 1"),
        ("--ais-steps 10", "--ais-steps is of --ais"),
        ("--ais-from prior", "--ais-from is of --ais"),
    ],
)
def test_what_cannot_be_judged_is_said_before_any_of_it_is(
    capsys, digits_run, tmp_path, monkeypatch, asked, expected
):
    monkeypatch.chdir(tmp_path)
    x = np.zeros((20, 8, 8), np.uint8)
    np.savez("two.npz", train=x, test=x)
    for long in ("evaluate", "refit_encoder", "latents", "samples", "copies", "disentanglement"):
        monkeypatch.setattr(vaekit.Run, long, lambda *_, **__: pytest.fail("the work began"))
    assert expected in refused(capsys, "evaluate", digits_run, *asked.split())


@pytest.mark.parametrize("option", ["--kind=flow", "--seed=0", "--components=3", "--output=x"])
def test_a_prior_is_restored_as_it_was_and_no_option_changes_it(capsys, digits_run, option):
    line = refused(capsys, "fit-prior", digits_run, "--restore", option)
    assert "brings back what was there" in line and option.split("=")[0].replace("--output", "-o") in line


def test_files_that_hold_no_codes_are_one_line(capsys, digits_run, tmp_path):
    header = {"descr": "<f4", "fortran_order": False, "shape": (1 << 43, 2)}  # claims 64 TiB
    with (tmp_path / "huge.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as archive:
        archive.write(tmp_path / "huge.npy", "mean.npy")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "names.csv").write_text("mean_0,mean_1\n")
    (tmp_path / "ragged.csv").write_text("mean_0,mean_1\n1,2\n3\n")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04" + bytes(100))
    (tmp_path / "broken.parquet").write_bytes(bytes(100))
    for path in sorted(tmp_path.iterdir()):
        assert path.name in refused(capsys, "decode", digits_run, path, "-o", tmp_path / "x.png")


def test_decode_takes_what_encode_writes(capsys, digits_run, tmp_path):
    pytest.importorskip("pyarrow")
    decoded = []
    for ending in ("npz", "csv", "parquet"):
        codes, x = tmp_path / f"c.{ending}", tmp_path / f"{ending}.npy"
        assert ask(capsys, "encode", digits_run, "--split", "test", "-o", codes)[0] == 0
        code, _, err = ask(capsys, "decode", digits_run, codes, "-o", x)
        assert code == 0, err
        decoded.append(np.load(x))
    assert len(decoded[0]) == 180
    assert all((x == decoded[0]).all() for x in decoded[1:])


def test_damaged_weights_and_other_versions_are_named(capsys, digits_run, tmp_path):
    whole = (digits_run / "model.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "cut.safetensors" in refused(
        capsys, "sample", tmp_path / "cut.safetensors", "-o", tmp_path / "x.png"
    )
    newer = tmp_path / "newer.safetensors"
    with safe_open(str(digits_run / "model.safetensors"), "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        save_file(tensors, newer, {**file.metadata(), "schema": "7", "vaekit": "9.1.0"})
    line = refused(capsys, "sample", newer, "-o", tmp_path / "x.png")
    assert "vaekit 9.1.0 (schema 7)" in line and f"vaekit {vaekit.__version__}" in line
    assert not (tmp_path / "x.png").exists()


def test_a_zip_is_read_as_a_folder_is(capsys, pictures, tmp_path):
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as archive:
        for path in sorted(pictures.rglob("*.png")):
            archive.write(path, path.relative_to(pictures))
    code, out, _ = ask(capsys, "data", tmp_path / "pictures.zip", "-o", tmp_path / "data.png")
    assert code == 0 and "80 images 1x8x8" in out and "2 labels" in out


@pytest.mark.parametrize(
    "change",
    ["objective.draws=0", "objective.warm_up=-1", "objective.warm_up=2", "objective.beta=-1", "objective.free_bits=-1",
     "prior.kind=MixturePrior prior.components=0", "prior.kind=VampPrior prior.components=0",
     "objective.kind=IWAE objective.draws=0"],
)  # fmt: skip
def test_settings_that_mean_nothing_are_refused_before_a_run_is_made(capsys, tmp_path, monkeypatch, change):
    monkeypatch.chdir(tmp_path)
    key = change.split()[-1].split("=")[0].split(".")[1]
    sets = [word for part in change.split() for word in ("--set", part)]
    assert key in refused(capsys, "train", *sets)
    assert not list(tmp_path.iterdir())


def test_nothing_to_reconstruct_is_refused(capsys, digits_run, tmp_path):
    assert "0 reconstructions" in refused(
        capsys, "reconstruct", digits_run, "-n", 0, "-o", tmp_path / "x.png"
    )
