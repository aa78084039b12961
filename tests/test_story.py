"""The story: what the README and the docstrings show is run, from training to a run opened again."""

from __future__ import annotations

import doctest
import importlib
import json
import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import vaekit
from commands_kit import ask, refused, shape_of

ROOT = Path(__file__).parents[1]


# -- a run


def test_a_run_holds_what_other_programs_rely_on(digits_run):
    names = {p.name for p in digits_run.iterdir()}
    assert {"recipe.toml", "data.json", "environment.json", "metrics.jsonl", "pictures", "model.safetensors",
            "last.ckpt"} <= names  # fmt: skip
    pictures = {p.name for p in (digits_run / "pictures").iterdir()}
    assert {"reconstructions.png", "samples.png", "latent.png", "manifold.png", "curves.png"} <= pictures
    lines = [json.loads(line) for line in (digits_run / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, 9))
    for line in lines:
        assert line["train_elbo"] == pytest.approx(-(line["train_rate"] + line["train_distortion"]))
        assert {"step", "valid_loss", "valid_rate", "valid_distortion", "skipped", "time"} <= set(line)
    assert lines[-1]["valid_loss"] < lines[0]["valid_loss"] - 20


def test_train_says_what_it_took_and_why_and_where_to_look(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = ask(capsys, "train", "--set", "train.epochs=1")
    assert (code, out.strip()) == (0, "runs/digits")
    assert "1,797 images 1x8x8, grey levels 0..16 (binomial)" in err
    assert "recipe digits: it was made for digits" in err
    assert "look at runs/digits/pictures" in err
    assert ask(capsys, "train", "--set", "train.epochs=1")[1].strip() == "runs/digits-2"


def test_training_is_repeatable(capsys, tmp_path):
    for name in ("a", "b"):
        assert ask(capsys, "train", "-o", tmp_path / name, "--seed", 3, "--set", "train.epochs=2")[0] == 0
    a, b = (vaekit.load(tmp_path / name).model.state_dict() for name in ("a", "b"))
    assert all((a[name] == b[name]).all() for name in a)


@pytest.mark.parametrize("change", ["prior.kind=FlowPrior", "prior.kind=VampPrior", "objective.kind=IWAE",
                                    "likelihood.kind=GaussianLikelihood", "posterior.net.kind=GatedMLP"])  # fmt: skip
def test_set_changes_the_part_it_names(capsys, tmp_path, change):
    code, _, err = ask(capsys, "train", "-o", tmp_path / "r", "--set", "train.epochs=1", "--set", change)
    assert code == 0, err
    assert change.split("=")[1] in (tmp_path / "r" / "recipe.toml").read_text()


def test_resume_extends_a_run(capsys, tmp_path):
    folder = tmp_path / "r"
    assert ask(capsys, "train", "-o", folder, "--set", "train.epochs=2")[0] == 0
    code, out, err = ask(capsys, "train", "--resume", folder, "--set", "train.epochs=4")
    assert code == 0 and out.strip() == str(folder)
    assert "the schedule is planned anew" in err
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 4
    assert "epochs = 4" in (folder / "recipe.toml").read_text()


def test_a_resume_that_is_refused_leaves_the_run_as_it_was(capsys, tmp_path):
    folder = tmp_path / "r"
    assert ask(capsys, "train", "-o", folder, "--set", "train.epochs=2")[0] == 0
    before = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    for change in ("train.batch_size=32", "train.seed=5", "prior.kind=FlowPrior"):
        code, _, err = ask(capsys, "train", "--resume", folder, "--set", change)
        assert code == 2 and "Traceback" not in err
    assert "leave out --limit" in ask(capsys, "train", "--resume", folder, "--limit", 5)[2]
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()} == before


def test_a_line_logged_after_the_checkpoint_is_not_logged_twice(capsys, tmp_path):
    folder = tmp_path / "r"
    assert ask(capsys, "train", "-o", folder, "--set", "train.epochs=2")[0] == 0
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    with (folder / "metrics.jsonl").open("a") as file:  # as if killed between the line and its checkpoint
        file.write(json.dumps(last | {"epoch": 3}) + "\n")
    assert ask(capsys, "train", "--resume", folder, "--set", "train.epochs=4")[0] == 0
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path, capsys):
    command = [sys.executable, "-m", "vaekit", "train", "-o", "r", "--set", "train.epochs=5000"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch 1/"):
            process.send_signal(signal.SIGINT)
            break
    try:
        _, rest = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "all saved; go on with: vaekit train --resume r" in rest and "Traceback" not in rest
    step = int(re.search(r"at step ([\d,]+)", rest).group(1).replace(",", ""))
    extended = ["train", "--resume", tmp_path / "r", "--set", f"train.epochs={step // 11 + 2}"]
    assert ask(capsys, *extended)[0] == 0


@pytest.mark.long
def test_two_processes_train_from_the_command_line(tmp_path):
    command = [
        sys.executable,
        "-m",
        "vaekit",
        "train",
        "-o",
        "r",
        "--device",
        "cpu",
        "--set",
        "train.epochs=2",
    ]
    command += ["--set", "train.devices=2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stdout.strip() == "r", done.stderr
    assert len((tmp_path / "r" / "metrics.jsonl").read_text().splitlines()) == 2
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert again.returncode == 2 and "exists already" in again.stderr and "Traceback" not in again.stderr


def test_data_are_named_by_set_as_well_as_by_argument(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "nowhere" in refused(capsys, "train", "--set", "data.source=nowhere")
    np.savez(
        "two.npz", a=np.random.default_rng(0).integers(0, 255, (40, 8, 8)).astype(np.uint8), b=np.ones((3, 3))
    )
    code, _, err = ask(
        capsys, "train", "two.npz", "--set", "data.key=a", "--set", "train.epochs=1", "-o", "r"
    )
    assert code == 0 and "40 images 1x8x8" in err


def test_a_net_of_ones_own_comes_by_import_path_only_where_it_is_allowed(tmp_path):
    (tmp_path / "mynets.py").write_text(
        "from torch import nn\n"
        "class Small(nn.Module):\n"
        "    def __init__(self, in_shape: tuple[int, ...], out_shape: tuple[int, ...], width: int = 16):\n"
        "        super().__init__()\n"
        "        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, *out_shape))\n"
        "    def forward(self, x):\n"
        "        return self.net(x)\n"
    )
    vaekit_ = [str(Path(sys.executable).with_name("vaekit"))]
    train = [
        *vaekit_,
        "train",
        "-o",
        "r",
        "--set",
        "posterior.net.kind=mynets.Small",
        "--set",
        "train.epochs=1",
    ]

    def code_of(command):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        return done.returncode, done.stderr

    assert code_of(train)[0] == 2 and "--allow mynets" in code_of(train)[1]
    assert code_of([*train, "--allow", "mynets"])[0] == 0
    sample = [*vaekit_, "sample", "r", "-o", "x.png"]
    assert code_of(sample)[0] == 2
    assert code_of([*sample, "--allow", "mynets"])[0] == 0


# -- your own data


def test_a_folder_of_images_trains_from_its_path(capsys, pictures, tmp_path):
    code, _, err = ask(capsys, "train", pictures, "-o", tmp_path / "r", "--set", "train.epochs=1")
    assert code == 0 and "80 images 1x8x8" in err and "2 labels" in err and "recipe small-images" in err
    opened = vaekit.load(tmp_path / "r")
    codes = opened.encode(str(pictures))
    assert len(codes.mean) == 80 and set(codes.label) == {0, 1}


def test_set_may_change_what_only_the_chosen_recipe_has(capsys, pictures, tmp_path):
    command = ["train", pictures, "--size", 16, "-o", tmp_path / "r", "--set", "train.epochs=1"]
    command += ["--set", "posterior.net.channels=[4,8]", "--set", "likelihood.net.channels=[8,4]"]
    code, _, err = ask(capsys, *command)
    assert code == 0 and "recipe images" in err, err
    assert list(vaekit.load(tmp_path / "r").recipe.posterior.net.arguments["channels"]) == [4, 8]


def test_a_table_trains_from_its_path(capsys, tmp_path):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 3)) @ rng.normal(size=(3, 5)) * [1, 10, 0.1, 5, 1] + [0, 100, 0, 0, 3]
    lines = [
        "a,b,c,d,e,kind",
        *(",".join(f"{v:.4f}" for v in r) + f",{'xy'[i % 2]}" for i, r in enumerate(rows)),
    ]
    (tmp_path / "table.csv").write_text("\n".join(lines))
    command = [
        "train",
        tmp_path / "table.csv",
        "--labels",
        "kind",
        "-o",
        tmp_path / "r",
        "--set",
        "train.epochs=2",
    ]
    code, _, err = ask(capsys, *command)
    assert code == 0 and "200 vectors of 5, real" in err and "(gaussian), 2 labels" in err
    sampled = vaekit.load(tmp_path / "r").sample(500, seed=0, noise=True)
    assert sampled.shape == (500, 5) and abs(sampled[:, 1].mean() - 100) < 5  # in the table's own units
    assert "rows/s" in err and "images/s" not in err
    for command, name in (("sample", "s.csv"), ("encode", "codes.csv"), ("encode", "codes.npz")):
        assert ask(capsys, command, tmp_path / "r", "-o", tmp_path / name)[0] == 0
    assert (tmp_path / "s.csv").read_text().startswith("a,b,c,d,e,z_0,")
    named = [line.split(",")[-1] for line in (tmp_path / "codes.csv").read_text().splitlines()]
    codes = np.load(tmp_path / "codes.npz")
    assert named == ["label", *codes["labels"]] and set(named) == {"label", "x", "y"}
    assert (
        codes["label"].dtype == np.int64 and (codes["labels"] == np.array(["x", "y"])[codes["label"]]).all()
    )
    assert ask(capsys, "decode", tmp_path / "r", tmp_path / "s.csv", "-o", tmp_path / "d.csv")[0] == 0
    assert (tmp_path / "d.csv").read_text().startswith("a,b,c,d,e\n")
    walks = {"traverse": (), "manifold": ("-n", 3), "interpolate": ("--from", "1", "--to", "2")}
    for command, more in walks.items():
        picture = tmp_path / f"{command}.png"
        assert (
            ask(capsys, command, tmp_path / "r", *more, "-o", picture)[0] == 0
            and min(shape_of(picture)) > 100
        )


def test_an_array_is_data_and_its_run_can_be_asked_at_once(tmp_path):
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = digits.images[:300].astype(np.float32)
    run_ = vaekit.fit((x, digits.target[:300]), output=tmp_path / "r", latent=2, set=["train.epochs=2"])
    assert run_.contract.kind == "levels" and run_.contract.shape == (1, 8, 8)
    assert len(run_.evaluate(k=(1, 5))["nll"]) == 2
    assert run_.encode(x[:7]).mean.shape == (7, 2)
    with pytest.raises(vaekit.VaekitError, match="give the data again"):
        vaekit.resume(tmp_path / "r", set=["train.epochs=3"])
    again = vaekit.resume(tmp_path / "r", set=["train.epochs=3"], data=(x, digits.target[:300]))
    assert len(again.metrics()) == 3


# -- Python


def test_the_readme_s_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 2
    quick = blocks[0].replace('fit("digits", latent=2)', 'fit("digits", latent=2, set=["train.epochs=1"])')
    assert quick != blocks[0]
    for block in (quick, blocks[1]):
        exec(compile(block, "README.md", "exec"), {})


@pytest.mark.parametrize("module", ["vaekit.model"])
def test_docstrings_show_what_happens(module):
    assert doctest.testmod(importlib.import_module(module)).failed == 0


def test_the_example_of_an_own_loop_learns():
    first, last = runpy.run_path(str(ROOT / "examples" / "own_loop.py"))["main"](epochs=6)
    assert last < first - 30


@pytest.mark.long
def test_the_notebook_runs(tmp_path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(ROOT / "examples" / "latent_walk.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]
    assert sum("image/png" in o.get("data", {}) for o in shown) >= 3


def test_the_door_exits_with_its_codes(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "vaekit", "train", "nowhere"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and done.stderr.startswith("vaekit: ")
