"""The story: what the README and the docstrings show is run, and bad input gets one clear line."""

from __future__ import annotations

import doctest
import importlib
import json
import re
import runpy
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

import vaekit
from vaekit.__main__ import run

ROOT = Path(__file__).parents[1]


def ask(capsys, *arguments: object) -> tuple[int, str, str]:
    """Run a command in this process: exit code, stdout, stderr."""
    capsys.readouterr()
    code = run([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def shape_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        image.load()
        return image.size


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


# -- the commands


def test_sample_writes_pictures_and_arrays_and_the_seed_decides(capsys, digits_run, tmp_path):
    for name, seed in (("a.npz", 7), ("b.npz", 7), ("c.npz", 8)):
        assert ask(capsys, "sample", digits_run, "-n", 20, "--seed", seed, "-o", tmp_path / name)[0] == 0
    a, b, c = (np.load(tmp_path / name)["x"] for name in ("a.npz", "b.npz", "c.npz"))
    assert a.shape == (20, 1, 8, 8) and a.min() >= 0 and a.max() <= 16
    assert (a == b).all() and (a != c).any()
    code, out, _ = ask(capsys, "sample", digits_run, "-n", 20, "-o", tmp_path / "grid.png")
    assert (
        code == 0 and out.strip() == str(tmp_path / "grid.png") and min(shape_of(tmp_path / "grid.png")) > 100
    )


def test_encode_gives_every_row_its_code_and_decode_takes_them_back(capsys, digits_run, tmp_path):
    for name in ("codes.npz", "codes.csv", "codes.parquet", "map.png"):
        if name.endswith("parquet"):
            pytest.importorskip("pyarrow")
        assert ask(capsys, "encode", digits_run, "-o", tmp_path / name)[0] == 0
    codes = np.load(tmp_path / "codes.npz")
    assert codes["mean"].shape == codes["log_variance"].shape == (1797, 2) and codes["label"].shape == (1797,)
    header, first = (tmp_path / "codes.csv").read_text().splitlines()[:2]
    assert header == "mean_0,mean_1,log_variance_0,log_variance_1,label"
    assert float(first.split(",")[0]) == pytest.approx(float(codes["mean"][0, 0]), rel=1e-5)
    assert ask(capsys, "decode", digits_run, tmp_path / "codes.npz", "-o", tmp_path / "x.npy")[0] == 0
    assert np.load(tmp_path / "x.npy").shape == (1797, 1, 8, 8)
    code, _, err = ask(capsys, "decode", digits_run, tmp_path / "codes.npz", "-o", tmp_path / "dec.png")
    assert code == 0 and "the first 400 of 1,797" in err


def test_decode_interpolate_traverse_manifold_reconstruct(capsys, digits_run, tmp_path):
    commands = {
        "point.npz": ["decode", digits_run, "--point", "0.5,0.5"],
        "walk.npz": ["interpolate", digits_run, "--from", "3", "--to", "0.5,-1", "--steps", 5],
        "straight.npz": [
            "interpolate",
            digits_run,
            "--from",
            "0,0",
            "--to",
            "1,1",
            "--steps",
            3,
            "--path",
            "linear",
        ],
        "traversal.npz": ["traverse", digits_run, "--steps", 5],
        "grid.npz": ["manifold", digits_run, "-n", 6],
        "pairs.npz": ["reconstruct", digits_run, "-n", 4],
    }
    shapes = {}
    for name, command in commands.items():
        code, _, err = ask(capsys, *command, "-o", tmp_path / name)
        assert code == 0, err
        shapes[name] = {k: v.shape for k, v in np.load(tmp_path / name).items()}
        picture = (tmp_path / name).with_suffix(".png")
        assert ask(capsys, *command, "-o", picture)[0] == 0 and min(shape_of(picture)) > 20
    assert shapes["point.npz"]["x"] == (1, 1, 8, 8)
    assert shapes["walk.npz"] == {"x": (5, 1, 8, 8), "z": (5, 2)}
    assert shapes["traversal.npz"]["z"] == (10, 2)
    assert shapes["grid.npz"]["x"] == (36, 1, 8, 8)
    assert shapes["pairs.npz"]["original"] == shapes["pairs.npz"]["reconstruction"] == (4, 1, 8, 8)
    straight = np.load(tmp_path / "straight.npz")["z"]
    np.testing.assert_allclose(straight, [[0, 0], [0.5, 0.5], [1, 1]], atol=1e-6)


def test_evaluate_prints_one_json_object(capsys, digits_run):
    code, out, _ = ask(capsys, "evaluate", digits_run, "--k", "1,10,50", "--json")
    result = json.loads(out)
    assert code == 0 and result["split"] == "test" and result["images"] == 180
    assert result["elbo"] == pytest.approx(-(result["rate"] + result["distortion"]))
    values = [entry["value"] for entry in result["nll"]]
    assert [entry["k"] for entry in result["nll"]] == [1, 10, 50]
    assert values == sorted(values, reverse=True) and values[0] < 200
    assert all(
        entry["standard_error"] > 0 and entry["effective_sample_size"]["median"] >= 1
        for entry in result["nll"]
    )
    assert 1 <= result["active_units"] <= 2 and len(result["data_hash"]) == 64
    assert ask(capsys, "evaluate", digits_run, "--k", "1,10,50", "--json")[1] == out


def test_info_data_recipes_and_version(capsys, digits_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = ask(capsys, "info", digits_run)
    assert code == 0 and "GaussianPosterior" in out
    facts = json.loads(ask(capsys, "info", digits_run, "--json")[1])
    assert type(facts["epochs"]) is int and facts["best"]["epoch"] <= facts["epochs"]
    assert f"{facts['parameters']:,}" in out and f"{facts['epochs']} of {facts['planned']}" in out
    code, out, _ = ask(capsys, "data", "digits")
    assert code == 0 and out.startswith("digits: 1,797 images") and (tmp_path / "data.png").is_file()
    names = [line.split()[0] for line in ask(capsys, "recipes")[1].splitlines()]
    assert {"digits", "mnist", "images", "conditional", "autoencoder"} <= set(names)
    for name in names:
        assert ask(capsys, "recipes", name)[0] == 0
    assert ask(capsys, "--version")[1].strip() == vaekit.__version__


def test_a_conditional_run_draws_what_it_is_asked_for(capsys, tmp_path):
    folder = tmp_path / "r"
    command = ["train", "-o", folder, "--recipe", "conditional", "--set", "train.epochs=40"]
    assert ask(capsys, *command)[0] == 0
    opened = vaekit.load(folder)
    zeros, ones = (opened.sample(100, seed=0, label=label) for label in ("0", "1"))
    centre = (slice(None), 0, slice(3, 5), slice(3, 5))
    assert ones[centre].mean() > zeros[centre].mean() + 5  # a one has ink in the middle, a zero has none
    code, _, err = ask(capsys, "sample", folder, "--label", "eleven", "-o", tmp_path / "x.png")
    assert code == 2 and "eleven" in err


def test_bernoulli_on_grey_values_is_called_a_cross_entropy_and_has_no_nll(capsys, tmp_path):
    folder = tmp_path / "r"
    command = [
        "train",
        "-o",
        folder,
        "--set",
        "likelihood.kind=BernoulliLikelihood",
        "--set",
        "train.epochs=1",
    ]
    _, _, err = ask(capsys, *command)
    assert "cross-entropy" in err
    result = json.loads(ask(capsys, "evaluate", folder, "--k", "1,5", "--json")[1])
    assert result["nll"] is None and "binarize" in result["reason"]
    result = json.loads(ask(capsys, "evaluate", folder, "--k", "1,5", "--binarize", "dynamic", "--json")[1])
    assert len(result["nll"]) == 2


# -- your own data


@pytest.fixture
def pictures(tmp_path) -> Path:
    """A folder of two classes of small PNGs, drawn from the digits."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    folder = tmp_path / "pictures"
    for label in (0, 1):
        (folder / f"class-{label}").mkdir(parents=True)
        for i, x in enumerate(digits.images[digits.target == label][:40]):
            Image.fromarray((x * 15.9).astype(np.uint8)).save(folder / f"class-{label}" / f"{i:02d}.png")
    return folder


def test_a_folder_of_images_trains_from_its_path(capsys, pictures, tmp_path):
    code, _, err = ask(capsys, "train", pictures, "-o", tmp_path / "r", "--set", "train.epochs=1")
    assert code == 0 and "80 images 1x8x8" in err and "2 labels" in err and "recipe small-images" in err
    opened = vaekit.load(tmp_path / "r")
    codes = opened.encode(str(pictures))
    assert len(codes.mean) == 80 and set(codes.label) == {0, 1}


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


# -- bad input: one line, exit code 2, nothing left behind


def refused(capsys, *arguments: object) -> str:
    code, out, err = ask(capsys, *arguments)
    lines = [
        line
        for line in err.splitlines()
        if line.startswith("vaekit: ") and not line.startswith("vaekit: note")
    ]
    assert code == 2 and out == "" and len(lines) == 1 and "Traceback" not in err, err
    return lines[0]


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
    bad = np.load(np.__file__ and _saved(tmp_path / "nan.npy", np.full((50, 4), np.nan)))
    assert np.isnan(bad).all() and "nan.npy" in refused(capsys, "train", "nan.npy")
    _saved(tmp_path / "constant.npy", np.ones((50, 4)))
    assert "constant" in refused(capsys, "train", "constant.npy")
    _saved(tmp_path / "big.npy", np.full((5, 1, 8, 8), 300))
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


def _saved(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path


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
