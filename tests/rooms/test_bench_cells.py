"""The cells of a bench: kept, gone on with, shared between processes, refused when stale; and bad input."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bench_kit import TINY, change, make, record, weights, written
from safetensors.torch import load_file
from train_kit import interrupt_when, same

import vaekit
from commands_kit import ask, refused
from vaekit import bench
from vaekit.bench.cells import claimed

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make(tmp_path_factory.mktemp("bench"))


def test_what_is_made_is_kept(made, capsys):
    path, folder, _ = made
    before = {p: p.stat().st_mtime_ns for p in [*folder.glob("runs/*/*"), *folder.glob("cells/*.json")]}
    code, out, err = ask(capsys, "bench", path, "-o", folder)
    assert code == 0 and "| `vae` |" in out and "-- cell" not in err
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_ctrl_c_within_a_cell_goes_on_exactly(capsys, tmp_path):
    path = written(tmp_path, TINY.replace("epochs=2", "epochs=30"))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    vaekit.benchmark(path, output=whole, only=["vae"])
    thread = interrupt_when(parts / "runs" / "vae-seed1" / "metrics.jsonl")
    with pytest.raises(
        KeyboardInterrupt, match=r"in cell vae-seed1, 2 of 2, all saved; go on with the same command"
    ):
        vaekit.benchmark(path, output=parts, only=["vae"])
    thread.join()
    half = record(parts, "vae-seed1")
    assert half["state"] == "training" and half["training"]["seconds"] > 0
    assert "1 to come" in (parts / "tiny.md").read_text()
    code, _, err = ask(capsys, "bench", path, "-o", parts, "--only", "vae")
    assert code == 0 and "resuming" in err and "cell vae-seed1, 2 of 2" in err and "cell vae-seed0" not in err
    for cell in ("vae-seed0", "vae-seed1"):
        same(weights(whole, cell), weights(parts, cell))
    assert record(parts, "vae-seed1")["training"]["seconds"] > half["training"]["seconds"]


@pytest.mark.long
def test_a_process_that_is_killed_loses_its_claim_and_nothing_that_was_saved(tmp_path):
    text = TINY.replace("epochs=2", "epochs=80").replace(
        '"data.limit', '"train.checkpoint_every=5", "data.limit'
    )
    path, whole, parts = written(tmp_path, text), tmp_path / "whole", tmp_path / "parts"
    command = [sys.executable, "-m", "vaekit", "bench", path, "-o", parts, "--only", "vae-seed0"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not (parts / "runs" / "vae-seed0" / "last.ckpt").exists():
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.wait()
    begun = record(parts, "vae-seed0")
    assert begun["state"] == "training" and "since" in begun["training"]
    vaekit.benchmark(path, output=parts, only=["vae-seed0"])
    vaekit.benchmark(path, output=whole, only=["vae-seed0"])
    same(weights(whole, "vae-seed0"), weights(parts, "vae-seed0"))
    ended = record(parts, "vae-seed0")
    assert ended["evaluation"]["nll"] == record(whole, "vae-seed0")["evaluation"]["nll"]
    assert "since" not in ended["training"]


def test_a_cell_that_is_trained_is_only_judged(tmp_path, monkeypatch):
    from vaekit.run import Run

    path, folder = written(tmp_path), tmp_path / "b"

    def stopped(self, **_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt, match="in cell iwae-seed0"):
        patch.setattr(Run, "evaluate", stopped)
        vaekit.benchmark(path, output=folder, only=["iwae"])
    assert record(folder, "iwae-seed0")["state"] == "trained"
    before = {p: p.stat().st_mtime_ns for p in (folder / "runs" / "iwae-seed0").iterdir()}
    vaekit.benchmark(path, output=folder, only=["iwae"])
    assert record(folder, "iwae-seed0")["state"] == "done"
    assert {p: p.stat().st_mtime_ns for p in before} == before


@pytest.mark.long
def test_two_processes_share_the_cells_of_a_folder(tmp_path):
    path, folder = written(tmp_path, TINY.replace("seeds = [0, 1]", "seeds = [0, 1, 2, 3]")), tmp_path / "b"
    command = [sys.executable, "-m", "vaekit", "bench", path, "-o", folder, "--threads", "1"]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    started = sorted(
        line.split()[2] for text in told for line in text.splitlines() if line.startswith("-- cell")
    )
    assert started == ["iwae-seed0,", *(f"vae-seed{seed}," for seed in range(4))]  # each by one of them
    assert [row["missing"] for row in bench.read(folder / "tiny.json")["rows"]] == [[], []]


def test_a_cell_that_another_process_makes_is_left_to_it(capsys, tmp_path):
    path, folder = written(tmp_path), tmp_path / "b"
    with claimed(folder / "cells" / "vae-seed0.lock") as ours:
        assert ours
        code, out, err = ask(capsys, "bench", path, "-o", folder)
    assert code == 0 and f"vae-seed0 is being made by process {os.getpid()}" in err and "1 to come" in out
    assert not (folder / "runs" / "vae-seed0").exists() and (folder / "runs" / "vae-seed1").exists()


# -- what is stale, and what fails


def test_a_stale_cell_is_refused_by_name_and_made_again_when_asked(capsys, tmp_path):
    path, folder = written(tmp_path), tmp_path / "b"
    vaekit.benchmark(path, output=folder, only=["vae-seed0", "iwae"])
    before = weights(folder, "iwae-seed0")
    written(tmp_path, TINY.replace("objective.draws=2", "objective.draws=3"))
    line = refused(capsys, "bench", path, "-o", folder)
    assert "iwae-seed0 (objective.draws 2 -> 3)" in line and "--redo" in line and "vae-seed0" not in line
    assert "not measured" in bench.summary(
        vaekit.benchmark(path, output=folder, only=["vae-seed0"])
    )  # not as if it were
    code, _, err = ask(capsys, "bench", path, "-o", folder, "--only", "iwae", "vae-seed0", "--redo")
    assert code == 0 and "iwae-seed0 is stale" in err and "-- cell vae-seed0" not in err
    same(load_file(folder / "stale" / "iwae-seed0-1" / "run" / "model.safetensors"), before)
    assert vaekit.load(folder / "runs" / "iwae-seed0").recipe.objective.arguments["draws"] == 3


def test_other_draws_ask_for_other_figures_of_the_same_weights(capsys, tmp_path):
    path, folder = written(tmp_path), tmp_path / "b"
    vaekit.benchmark(path, output=folder, only=["iwae"])
    before = (folder / "runs" / "iwae-seed0" / "model.safetensors").stat().st_mtime_ns
    written(tmp_path, TINY.replace("k = [1, 5]", "k = [1, 7]"))
    assert "k [1, 5] -> [1, 7]" in refused(capsys, "bench", path, "-o", folder, "--only", "iwae")
    found = vaekit.benchmark(path, output=folder, only=["iwae"], redo=True)
    assert found["rows"][1]["nll"]["k"] == 7
    assert (folder / "runs" / "iwae-seed0" / "model.safetensors").stat().st_mtime_ns == before


def test_other_data_make_a_cell_stale(capsys, tmp_path):
    import numpy as np

    rows = np.random.default_rng(0).integers(0, 2, (60, 6)).astype(np.uint8)
    np.save(tmp_path / "x.npy", rows)
    path = written(tmp_path, TINY.replace('"digits"\nk', f'"{tmp_path / "x.npy"}"\nk'))
    vaekit.benchmark(path, output=tmp_path / "b", only=["iwae"])
    np.save(tmp_path / "x.npy", 1 - rows)
    assert "other data, sha256" in refused(capsys, "bench", path, "-o", tmp_path / "b", "--only", "iwae")


def test_paths_are_taken_from_the_bench_s_folder_and_told_as_written(tmp_path, monkeypatch):
    import numpy as np

    home = tmp_path / "home"
    (home / "below").mkdir(parents=True)
    np.save(home / "x.npy", np.random.default_rng(0).integers(0, 2, (60, 6)).astype(np.uint8))
    (home / "below" / "own.toml").write_text('[recipe]\nbase = "iwae"\n')
    text = TINY.replace('"digits"\nk', '"x.npy"\nk').replace('"iwae"', '"below/own.toml"')
    path = written(home, text)
    monkeypatch.chdir(tmp_path)  # where neither is
    found = vaekit.benchmark(path, output=tmp_path / "b", only=["own"])
    row = found["rows"][1]
    assert (row["row"], row["recipe"], row["data"]) == ("own", "below/own.toml", "x.npy")
    assert row["command"].startswith("vaekit train x.npy --recipe below/own.toml ") and row["nll"]["n"] == 1
    for told in ("tiny.json", "tiny.md", "cells/own-seed0.json"):
        assert str(tmp_path) not in (tmp_path / "b" / told).read_text()
    assert vaekit.benchmark(path, output=tmp_path / "b", only=["own"])["rows"] == found["rows"]  # not stale


def test_a_folder_is_of_one_bench(capsys, made, tmp_path):
    _, folder, _ = made
    assert record(folder, "vae-seed0")["bench"] == "tiny"
    other = written(tmp_path, name="other.toml")
    line = refused(capsys, "bench", other, "-o", folder)
    assert "is the folder of bench tiny (iwae-seed0)" in line and "choose another -o" in line
    again = shutil.copytree(folder, tmp_path / "again")
    for cell in ("vae-seed0", "vae-seed1", "iwae-seed0"):
        change(again, cell, lambda kept: kept.pop("bench"))  # of a time when records named none
    assert vaekit.benchmark(other, output=again)["rows"][0]["nll"]["n"] == 2


def test_options_that_make_cells_are_refused_where_none_are_made(capsys, made, tmp_path):
    path, folder, _ = made
    for option in (["--only", "vae"], ["--seeds", "1"], ["--threads", 1], ["--redo"]):
        assert f"{option[0]} is for making cells" in refused(capsys, "bench", path, "--list", *option)
        line = refused(capsys, "bench", path, "-o", folder, "--table", tmp_path / "README.md", *option)
        assert f"{option[0]} is for making cells, and --table makes none" in line


def test_threads_change_no_cell(tmp_path, made):
    path, folder, _ = made
    vaekit.benchmark(path, output=folder, threads=2)
    assert record(folder, "vae-seed0")["training"]["threads"] == 1


def test_a_cell_that_fails_is_one_line_and_the_others_remain(capsys, tmp_path):
    text = TINY.replace('"objective.draws=2", "model.latent=3"', '"prior.kind=FlowPrior", "model.latent=1"')
    path, folder = written(tmp_path, text), tmp_path / "b"
    code, _, err = ask(capsys, "bench", path, "-o", folder)
    lines = [line for line in err.splitlines() if line.startswith("vaekit: ")]
    assert code == 2 and len(lines) == 2 and "Traceback" not in err
    assert (
        "at least 2 latent dimensions" in lines[0]
        and "1 of 3 cells could not be made (iwae-seed0)" in lines[1]
    )
    assert bench.read(folder / "tiny.json")["rows"][0]["nll"]["n"] == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("title = ", ["is not TOML"]),
        ('title = "nothing else"', ["no rows", "[[row]]"]),
        ('[[row]]\nrecipe = "digit"', ["row digit", "did you mean 'digits'"]),
        ('[[row]]\nrecipe = "digits"\nsede = [1]', ["row digits.sede", "did you mean 'seed"]),
        ('titel = "x"\n[[row]]\nrecipe = "digits"', ["bench.titel", "did you mean 'title'"]),
        ('[[row]]\nname = "x"', ["row x.recipe is missing"]),
        (
            '[[row]]\nrecipe = "digits"\nseeds = "all"',
            ["row digits.seeds is 'all'", "a list of whole numbers"],
        ),
        ('[[row]]\nrecipe = "digits"\nk = []', ["row digits.k is []"]),
        ('[[row]]\nrecipe = "digits"\nk = [0]', ["row digits.k is [0]"]),
        ('[[row]]\nrecipe = "digits"\n[[row]]\nrecipe = "digits"', ["two rows are called 'digits'"]),
        ('[[row]]\nrecipe = "digits"\nname = "../up"', ["'../up'", "folder"]),
        (
            '[[row]]\nrecipe = "digits"\nset = ["objective.betta=2"]',
            ["objective.betta", "did you mean 'beta'"],
        ),
        ('[[row]]\nrecipe = "digits"\n[row.anchor]\nvalue = 3', ["row digits.anchor.what is missing"]),
        ('[[row]]\nrecipe = "ae-versus-vae"', ["several runs"]),
        ('[[row]]\nrecipe = "digits"\ndata = "nowhere"', ["row digits", "no data at nowhere"]),
        ('[[row]]\nrecipe = "digits"\ndata = "static-mnst"', ["did you mean 'static-mnist'"]),
        ('[[row]]\nrecipe = "digits"\nset = ["train.devices=2"]', ["one process"]),
    ],
)
def test_a_bad_bench_is_one_line(capsys, tmp_path, text, expected):
    path = written(tmp_path, text)
    line = refused(capsys, "bench", path, "-o", tmp_path / "b")
    assert all(part in line for part in expected), line
    assert not (tmp_path / "b").exists()


def test_a_bench_is_called_as_a_folder_can_be(capsys, tmp_path):
    path = written(tmp_path, name="-of mine.toml")
    assert "'-of mine' cannot be its name" in refused(capsys, "bench", "--list", "--", path)


def test_bad_names_are_one_line(capsys, tmp_path, made):
    path, folder, _ = made
    assert "did you mean 'digits'" in refused(capsys, "bench", "digit")
    assert "does not exist" in refused(capsys, "bench", tmp_path / "none.toml")
    assert "did you mean 'vae-seed1'" in refused(capsys, "bench", path, "-o", folder, "--only", "vae-seed11")
    assert "--seeds" in refused(capsys, "bench", path, "--seeds", "one")
    assert "--list" in refused(capsys, "bench")
    assert "choose another -o" in refused(capsys, "bench", path, "-o", folder / "runs" / "vae-seed0")
    assert "choose another -o" in refused(capsys, "bench", path, "-o", path / "below-a-file")
    (tmp_path / "b" / "cells").mkdir(parents=True)
    (tmp_path / "b" / "cells" / "vae-seed0.json").write_text("{")
    assert "vae-seed0.json cannot be read" in refused(capsys, "bench", path, "-o", tmp_path / "b")


def test_a_refitted_encoder_is_judged_and_its_minutes_count(tmp_path, monkeypatch):
    monkeypatch.setattr("vaekit.train.refit.STEPS", 3)
    text = TINY[: TINY.index("[row.anchor]")] + "refit_encoder = true\nlimit = 20\n"
    path, folder = written(tmp_path, text), tmp_path / "b"
    found = vaekit.benchmark(path, output=folder, only=["vae-seed0"])
    kept = record(folder, "vae-seed0")
    assert kept["evaluation"]["encoder"].startswith("refitted on train")
    assert kept["training"]["refit_seconds"] > 0 and "--refit-encoder" in kept["command"]
    minutes = found["rows"][0]["training_minutes"]["mean"]
    assert minutes == pytest.approx((kept["training"]["seconds"] + kept["training"]["refit_seconds"]) / 60)
    again = vaekit.load(folder / "runs" / "vae-seed0").refit_encoder().evaluate(k=(1, 5), limit=20)
    assert found["rows"][0]["nll"]["mean"] == pytest.approx(again["nll"][-1]["value"])
    assert ", encoder refitted | " in bench.summary(found)
    assert "; encoder refitted on train with" in (folder / "tiny.md").read_text()
