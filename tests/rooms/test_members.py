"""Several runs from one recipe: members and sweeps, what is kept, what goes on, and one line for what is wrong."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from train_kit import interrupt_when, same

import vaekit
from browser_kit import assert_healthy
from commands_kit import ask, refused
from vaekit import VaekitError, recipe

TRIO = """
[recipe]
description = "three on digits"
base = "_base"
[data]
source = "digits"
binarize = "dynamic"
[model]
latent = 2
[train]
epochs = 4
ema = "none"
pictures = false
[members.ae.posterior]
kind = "PointPosterior"
[members.vae-3.model]
latent = 3
[members.made.model]
latent = 0
[members.made.likelihood]
kind = "AutoregressiveLikelihood"
hidden = [30]
"""


QUICK = ["train.epochs=1", "train.pictures=false"]


def written(folder: Path, text: str = TRIO, name: str = "trio.toml") -> Path:
    (folder / name).write_text(text)
    return folder / name


@pytest.fixture(scope="module")
def trio(tmp_path_factory):
    """Three members trained: their recipe, their folder, their runs."""
    folder = tmp_path_factory.mktemp("trio")
    path = written(folder)
    return (
        path,
        folder / "runs",
        vaekit.fit_members(
            recipe=path, output=folder / "runs", set=["train.epochs=2", "train.pictures=true"]
        ),
    )


@pytest.fixture
def quick_page(monkeypatch):
    """A stand-in for the comparison, which takes longer than these trainings and has tests of its own."""

    def compare(runs, output, **_):
        Path(output).write_text(" ".join(str(run.path) for run in runs))
        return output

    monkeypatch.setattr("vaekit.report.compare", compare, raising=False)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Three betas of the digits recipe: their folder, their runs."""
    folder = tmp_path_factory.mktemp("sweep") / "runs"
    changes = ["train.epochs=12", "train.ema=none", "objective.warm_up=0.0", "train.pictures=false"]
    return folder, vaekit.sweep(
        "digits", recipe="digits", over="objective.beta=0.1,1,30", output=folder, set=changes
    )


def test_every_member_is_an_ordinary_run_and_the_page_stands_beside_them(trio):
    _, folder, runs = trio
    assert list(runs) == ["ae", "vae-3", "made"]
    assert {p.name for p in folder.iterdir()} == {"ae", "vae-3", "made", "members.toml", "compare.html"}
    assert [vaekit.load(folder / name).model.latent for name in runs] == [2, 3, 0]
    assert type(runs["ae"].model.posterior).__name__ == "PointPosterior"
    assert {run.recipe.train.epochs for run in runs.values()} == {2}  # --set goes to all
    assert [run.recipe.name for run in runs.values()] == ["trio/ae", "trio/vae-3", "trio/made"]
    assert runs["ae"].own is runs["made"].own  # opened once


def test_a_member_is_the_recipe_alone_with_its_sections_over_it(tmp_path, trio):
    _, folder, _ = trio
    vaekit.fit(
        "digits", recipe="_base", latent=3, binarize="dynamic", output=tmp_path / "alone",
        set=["train.epochs=2", "train.ema=none", "train.pictures=false"],
    )  # fmt: skip
    same(
        load_file(tmp_path / "alone" / "model.safetensors"), load_file(folder / "vae-3" / "model.safetensors")
    )


def test_the_command_trains_them_says_which_and_lists_the_recipe(capsys, tmp_path, quick_page):
    path = written(tmp_path)
    code, out, err = ask(capsys, "train", "--recipe", path, "-o", tmp_path / "r", "--set", "train.epochs=1")
    assert code == 0 and out.strip() == str(tmp_path / "r")
    assert "member made, 3 of 3" in err
    assert "ae-versus-vae" in ask(capsys, "recipes")[1]
    assert "[members.made.likelihood]" in ask(capsys, "recipes", "ae-versus-vae")[1]


def test_what_takes_one_run_says_that_these_are_several(capsys, tmp_path, trio):
    path, folder, _ = trio
    with pytest.raises(VaekitError, match=r"several runs.*fit_members"):
        vaekit.fit("digits", recipe=path, output=tmp_path / "r")
    assert str(folder / "ae") in refused(capsys, "info", folder)
    assert "--resume" in refused(capsys, "train", "--recipe", path, "-o", folder)
    with pytest.raises(VaekitError, match="no \\[members\\]"):
        vaekit.fit_members("digits", recipe="digits", output=tmp_path / "r")
    assert not (tmp_path / "r").exists()


# -- going on


def test_ctrl_c_keeps_what_is_trained_and_a_resume_goes_on_exactly(capsys, tmp_path, quick_page):
    path, changes = written(tmp_path), ["train.epochs=25", "data.limit=128"]
    whole = vaekit.fit_members(recipe=path, output=tmp_path / "whole", set=changes)
    folder = tmp_path / "parts"
    thread = interrupt_when(folder / "vae-3" / "metrics.jsonl")
    with pytest.raises(KeyboardInterrupt, match=f"member vae-3, 2 of 3.*--resume {folder}"):
        vaekit.fit_members(recipe=path, output=folder, set=changes)
    thread.join()
    assert not (folder / "made").exists() and not (folder / "compare.html").exists()
    before = (folder / "ae" / "model.safetensors").stat().st_mtime_ns
    code, out, err = ask(capsys, "train", "--resume", folder)
    assert code == 0 and out.strip() == str(folder) and "ae is trained, and kept" in err
    assert (folder / "ae" / "model.safetensors").stat().st_mtime_ns == before
    assert (folder / "compare.html").exists()
    for name in whole:
        same(*(load_file(runs / name / "model.safetensors") for runs in (tmp_path / "whole", folder)))


def test_a_run_whose_last_picture_is_missing_draws_it(trio, quick_page):
    _, folder, _ = trio
    weights = {path: path.stat().st_mtime_ns for path in folder.glob("*/model.safetensors")}
    drawn = {path: path.stat().st_mtime_ns for path in folder.glob("*/pictures/curves.png")}
    (folder / "made" / "pictures" / "curves.png").unlink()  # killed while drawing
    vaekit.resume_members(folder)
    assert all(
        path.stat().st_mtime_ns == before for path, before in weights.items() if path.parts[-2] != "made"
    )
    assert [path.parts[-3] for path, before in drawn.items() if path.stat().st_mtime_ns != before] == ["made"]


def test_a_start_that_was_cut_short_starts_afresh(tmp_path, quick_page):
    path, folder = written(tmp_path), tmp_path / "r"
    vaekit.fit_members(recipe=path, output=folder, set=["train.epochs=1"])
    shutil.rmtree(folder / "made")
    (folder / "made").mkdir()
    (folder / "made" / "metrics.jsonl").touch()  # as if killed right after the folder was taken
    assert vaekit.resume_members(folder)["made"].metrics()[-1]["epoch"] == 1


def test_a_resume_can_extend_all_of_them(tmp_path, quick_page):
    path, folder = written(tmp_path), tmp_path / "r"
    vaekit.fit_members(recipe=path, output=folder, set=["train.epochs=1"])
    runs = vaekit.resume_members(folder, set=["train.epochs=2"])
    assert [run.metrics()[-1]["epoch"] for run in runs.values()] == [2, 2, 2]
    assert {each.train.epochs for each in recipe.members(folder / "members.toml").values()} == {2}
    with pytest.raises(VaekitError, match=r"model\.latent: only \[train\]"):
        vaekit.resume_members(folder, set=["model.latent=5"])


def test_data_from_python_are_asked_for_again_and_data_that_moved_are_followed(tmp_path, quick_page):
    x = np.random.default_rng(0).integers(0, 2, (60, 6)).astype(np.uint8)
    path = written(tmp_path, TRIO.replace('source = "digits"\nbinarize = "dynamic"\n', ""))
    runs = vaekit.fit_members(x, recipe=path, output=tmp_path / "array", set=["train.epochs=1"])
    assert len(runs) == 3
    with pytest.raises(VaekitError, match="give the data again"):
        vaekit.resume_members(tmp_path / "array", set=["train.epochs=2"])
    assert len(vaekit.resume_members(tmp_path / "array", data=x, set=["train.epochs=2"])) == 3

    np.save(tmp_path / "x.npy", x)
    vaekit.fit_members(tmp_path / "x.npy", recipe=path, output=tmp_path / "file", set=["train.epochs=1"])
    (tmp_path / "x.npy").rename(tmp_path / "y.npy")
    vaekit.resume_members(tmp_path / "file", data=tmp_path / "y.npy")
    assert vaekit.load(tmp_path / "file" / "ae").data().train.x.shape[1] == 6


# -- what is wrong


def test_a_member_that_fails_is_one_line_and_the_others_remain(capsys, tmp_path, quick_page):
    broken = '[members.flow.prior]\nkind = "FlowPrior"\n[members.flow.model]\nlatent = 1\n'
    path = written(tmp_path, TRIO + broken)
    code, out, err = ask(capsys, "train", "--recipe", path, "-o", tmp_path / "r", "--set", "train.epochs=1")
    assert code == 2 and out.strip() == str(tmp_path / "r")
    notes = [line for line in err.splitlines() if "member flow failed" in line]
    assert len(notes) == 1 and "at least 2 latent dimensions" in notes[0]
    assert (tmp_path / "r" / "compare.html").exists() and (
        tmp_path / "r" / "made" / "model.safetensors"
    ).exists()


def test_where_no_member_can_be_trained_that_is_the_error(tmp_path):
    path = written(tmp_path, TRIO + '[members.made.train]\ndevice = "cpu"\n')
    with pytest.warns(UserWarning, match="failed"), pytest.raises(VaekitError, match="no member of trio"):
        vaekit.fit_members(recipe=path, output=tmp_path / "r", set=["prior.kind=FlowPrior", "model.latent=1"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[members]\n", ["[members] is {}", "members.NAME"]),
        ("members = 3\n", ["[members] is 3"]),
        ('[members."a/b".model]\nlatent = 2\n', ["'a/b'", "folder"]),
        ('[members.".."]\n', ["'..'", "folder"]),
        ('[members."compare.html"]\n', ["'compare.html'"]),
        ("[members.a]\n[members.A]\n", ["'A'", "one folder"]),
        ("[members.a.modle]\nlatent = 2\n", ["member a", "[modle]", "did you mean 'model'"]),
        ('[members.a.model]\nlatent = "two"\n', ["member a", "model.latent", "a whole number"]),
        ("[members]\na = 3\n", ["members.a is 3"]),
        ('[members.a.recipe]\nbase = "digits"\n', ["members.a.recipe.base"]),
    ],
)
def test_bad_members_are_one_line(capsys, tmp_path, text, expected):
    path = written(tmp_path, text)
    line = refused(capsys, "train", "digits", "--recipe", path, "-o", tmp_path / "r")
    assert all(part in line for part in expected), line
    assert not (tmp_path / "r").exists()


def test_a_members_file_that_is_damaged_is_one_line(capsys, tmp_path):
    (tmp_path / "members.toml").write_text("")
    assert "[members] is {}" in refused(capsys, "train", "--resume", tmp_path)
    (tmp_path / "members.toml").write_text("[members")
    assert "is not TOML" in refused(capsys, "train", "--resume", tmp_path)


def test_several_processes_are_for_one_run(tmp_path):
    with pytest.raises(VaekitError, match="one after another"):
        vaekit.fit_members(recipe=written(tmp_path), output=tmp_path / "r", set=["train.devices=2"])


# -- the sweep


def test_a_sweep_trains_one_run_a_value_and_leaves_the_curve(swept):
    folder, runs = swept
    assert list(runs) == ["0.1", "1", "30"]
    assert [run.objective.beta for run in runs.values()] == [0.1, 1.0, 30.0]
    assert {p.name for p in folder.iterdir()} == {
        *runs,
        "members.toml",
        "sweep.html",
        "sweep.png",
        "sweep.csv",
    }
    rows = list(csv.DictReader((folder / "sweep.csv").open()))
    rate, error, distortion = (
        [float(row[name]) for row in rows] for name in ("rate", "squared_error", "distortion")
    )
    assert rate == sorted(rate, reverse=True) and error == sorted(error) and distortion == sorted(distortion)
    for row, run in zip(rows, runs.values(), strict=True):
        seen = run.evaluate(k=(1,))  # other draws of the same codes
        assert float(row["rate"]) == pytest.approx(seen["rate"], rel=1e-4)
        assert float(row["distortion"]) == pytest.approx(seen["distortion"], rel=0.05)
        assert float(row["elbo"]) == pytest.approx(-float(row["rate"]) - float(row["distortion"]))


def test_a_finished_sweep_is_kept_and_its_page_written_again(swept, capsys):
    folder, _ = swept
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/model.safetensors")}
    (folder / "sweep.html").unlink()
    assert ask(capsys, "train", "--resume", folder)[0] == 0
    assert (folder / "sweep.html").exists()
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*/model.safetensors")} == before


@pytest.mark.parametrize("phone", [False, True])
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_of_a_sweep_in_a_browser(browser, swept, phone, dark):
    tab = browser.open(swept[0] / "sweep.html", phone=phone, dark=dark)
    assert_healthy(tab)
    assert tab.evaluate("document.querySelectorAll('section').length") == 4
    assert tab.evaluate("document.images.length") == 4 + 3  # the originals, and two lines a value
    tab.close()


def test_a_sweep_whose_likelihood_changes_compares_no_nats(tmp_path, capsys, browser):
    code, _, err = ask(
        capsys, "sweep", "digits", "--recipe", "digits", "--over", "objective.r_loss_factor=10,1000",
        "-o", tmp_path / "r", "--set", "train.epochs=2", "--set", "train.pictures=false", "--lang", "ko",
    )  # fmt: skip
    assert code == 0, err
    rows = list(csv.DictReader((tmp_path / "r" / "sweep.csv").open()))
    assert [row["value"] for row in rows] == ["10", "1000"]
    assert all(row["distortion"] == row["elbo"] == "" and float(row["squared_error"]) > 0 for row in rows)
    tab = browser.open(tmp_path / "r" / "sweep.ko.html")
    assert_healthy(tab)
    assert (
        tab.evaluate("document.documentElement.lang") == "ko"
        and tab.evaluate("document.querySelectorAll('svg[role=img]').length") == 1
    )
    tab.close()


def test_a_sweep_over_anything(tmp_path):
    x = np.random.default_rng(0).normal(size=(80, 5)).astype(np.float32)
    over = "posterior.kind=GaussianPosterior,PointPosterior"
    runs = vaekit.sweep(x, over=over, output=tmp_path / "kinds", set=QUICK)
    assert [type(run.model.posterior).__name__ for run in runs.values()] == [
        "GaussianPosterior",
        "PointPosterior",
    ]
    rows = list(csv.DictReader((tmp_path / "kinds" / "sweep.csv").open()))
    assert rows[0]["rate"] and not rows[1]["rate"]
    runs = vaekit.sweep(x, over="posterior.net.hidden=[4],[4, 3]", output=tmp_path / "nets", set=QUICK)
    assert list(runs) == ["4", "4-3"]
    assert [run.recipe.posterior.net.arguments["hidden"] for run in runs.values()] == [[4], [4, 3]]


def test_a_sweep_over_the_interval_of_grey_values_has_one_ruler(tmp_path):
    more = [*QUICK, "likelihood.kind=GaussianLikelihood", "train.learning_rate=1e-9"]
    runs = vaekit.sweep(
        "digits", over="data.scale_to=[0, 1],[0, 2]", latent=2, output=tmp_path / "r", set=more
    )
    rows = list(csv.DictReader((tmp_path / "r" / "sweep.csv").open()))
    for row, run in zip(rows, runs.values(), strict=True):
        x, again = run.reconstruct()
        error = np.square((x - again.astype(float)) / 16).mean()  # the digits' levels are 0..16
        assert float(row["squared_error"]) == pytest.approx(error, rel=0.1)


@pytest.mark.parametrize(
    ("over", "expected"),
    [
        ("objective.beta", "write a setting and two values"),
        ("objective.beta=1", "two values"),
        ("=1,2", "two values"),
        ("objective.beta=1,1", "each value once"),
        ("objective.betta=1,2", "objective.betta"),
        ("beta=1,2", "names no section"),
        ("objective.beta=1,two", "'two'"),
    ],
)
def test_a_bad_sweep_is_one_line(capsys, tmp_path, over, expected):
    line = refused(capsys, "sweep", "digits", "--recipe", "digits", "--over", over, "-o", tmp_path / "r")
    assert expected in line and not (tmp_path / "r").exists()
