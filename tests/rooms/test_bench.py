"""The table of a bench: what is in it, what it says, and the pages that show it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from bench_kit import TINY, change, make, record, weights, written
from safetensors.torch import load_file
from train_kit import same

import vaekit
from commands_kit import ask, refused
from vaekit import VaekitError, bench
from vaekit.bench.facts import command

ROOT = Path(__file__).parents[2]
TABLES = sorted((ROOT / "benchmarks" / "tables").glob("*.json"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make(tmp_path_factory.mktemp("bench"))


def test_a_bench_leaves_a_table_a_record_a_cell_and_ordinary_runs(made):
    _, folder, found = made
    assert {p.name for p in folder.iterdir()} == {"cells", "runs", "tiny.json", "tiny.md"}
    assert {p.name for p in (folder / "runs").iterdir()} == {"vae-seed0", "vae-seed1", "iwae-seed0"}
    assert json.loads((folder / "tiny.json").read_text()) == found
    assert vaekit.load(folder / "runs" / "iwae-seed0").model.latent == 3


def test_a_figure_is_what_evaluate_gives_and_a_mean_over_seeds(made):
    _, folder, found = made
    judged = [vaekit.load(folder / "runs" / f"vae-seed{seed}").evaluate(k=(1, 5)) for seed in (0, 1)]
    row = found["rows"][0]
    values = [one["nll"][-1]["value"] for one in judged]
    assert (
        row["nll"]["mean"] == pytest.approx(sum(values) / 2) and row["nll"]["n"] == 2 and row["nll"]["k"] == 5
    )
    assert (row["nll"]["low"], row["nll"]["high"]) == (min(values), max(values))
    assert row["nll"]["deviation"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert row["elbo"] == pytest.approx(sum(one["elbo"] for one in judged) / 2)
    assert row["elbo"] == pytest.approx(-(row["rate"] + row["distortion"]))
    assert [bound["k"] for bound in row["bounds"]] == [1, 5]
    assert row["data_hash"] == judged[0]["data_hash"] and row["images"] == judged[0]["images"]
    assert row["images_seen"] == [2 * 64] and row["parameters"] == [177_248] and row["epochs"] == [2]
    assert row["train_nll"]["images"] == 64 and row["training_minutes"]["mean"] > 0
    assert found["rows"][1]["nll"]["deviation"] is None  # one seed has no spread


def test_a_cell_is_the_command_that_stands_beside_it(made, capsys, tmp_path):
    _, folder, found = made
    train, _, judge = found["rows"][0]["command"].partition(" && ")
    words = train.replace("runs/vae-seed0", str(tmp_path / "r")).split()
    assert words[0] == "vaekit" and judge == "vaekit evaluate runs/vae-seed0 --k 1,5"
    assert ask(capsys, *words[1:])[0] == 0
    same(load_file(tmp_path / "r" / "model.safetensors"), weights(folder, "vae-seed0"))


def test_the_page_sets_the_published_figure_beside_ours_and_says_what_each_number_is(made):
    _, folder, found = made
    page = (folder / "tiny.md").read_text()
    first, second = (
        line for line in page.splitlines() if line.startswith(("| `vae`", "| `iwae`")) and "min" in line
    )
    assert f"**{found['rows'][0]['nll']['mean']:.2f}** +- " in first and "(2 seeds, s = " in first
    assert "1000.00, a poor one (nobody)" in first and "| not comparable: other rows |" in first
    assert first.endswith("| factorised |") and "refitted" not in page
    assert "one seed" in second and "| - | - |" in second
    for part in (
        "k = 5",
        "torch",
        "sha256",
        "training rows",
        "vaekit evaluate runs/iwae-seed0 --k 1,5",
        "Two on digits",
    ):
        assert part in page


@pytest.fixture
def known(made, tmp_path):
    """The tiny bench as if its rows were those of the published figure: a row and its line, of other text and records."""
    folder = shutil.copytree(made[1], tmp_path / "known")

    def judged(text: str = TINY, **changes) -> tuple[dict, str]:
        for cell in ("vae-seed0", "vae-seed1"):
            change(folder, cell, lambda kept: kept["evaluation"].update(data_name="static MNIST test"))
        for cell, how in changes.items():
            change(folder, cell.replace("_", "-"), how)
        found = vaekit.benchmark(written(tmp_path, text), output=folder, only=["iwae"])
        return found["rows"][0], bench.summary(found).splitlines()[2]

    return judged


@pytest.mark.parametrize(
    ("before", "after", "passed", "shown"),
    [
        ("1000.0", "1000.0", True, "yes"),
        ("1000.0", "10.0", False, "no"),
        (
            'data = "static',
            'decoder = "autoregressive"\ndata = "static',
            None,
            "its decoder is autoregressive",
        ),
        ('data = "static MNIST test"\n', "", None, "not comparable: the published figure names no rows"),
        ("seeds = [0, 1]", "seeds = [0, 1, 2]", None, "2 of 3 seeds"),
    ],
)
def test_a_published_figure_is_passed_only_by_what_compares_with_it(known, before, after, passed, shown):
    row, line = known(TINY.replace(before, after))
    assert row["passed"] is passed and f"{shown} |" in line


def infinite(kept: dict) -> None:
    kept["evaluation"]["nll"][-1]["value"] = None


def test_a_seed_that_diverged_is_named_and_no_mean_is_made_without_it(known):
    row, line = known(vae_seed1=infinite)
    assert row["nll"] is None and row["diverged"] == [1] and row["passed"] is False
    assert row["bounds"][0]["value"] is not None and row["bounds"][1]["value"] is None
    assert "infinite for seed 1 | - |" in line and "| no |" in line


def test_a_cell_that_diverged_is_told_and_kept(tmp_path, monkeypatch, capsys):
    evaluate = vaekit.Run.evaluate

    def diverged(self, **how):
        found = evaluate(self, **how)
        found["nll"][-1]["value"] = None
        return found

    monkeypatch.setattr(vaekit.Run, "evaluate", diverged)
    code, out, err = ask(capsys, "bench", written(tmp_path), "-o", tmp_path / "b", "--only", "iwae")
    assert code == 0 and "an infinite NLL (k = 5)" in err and "infinite for seed 0" in out
    assert record(tmp_path / "b", "iwae-seed0")["state"] == "done"


def test_what_differs_between_seeds_is_all_told(known, tmp_path):
    row, _ = known(
        vae_seed1=lambda kept: kept["training"].update(epochs=3, precision="bf16", images_seen=192)
    )
    assert (row["epochs"], row["precision"], row["images_seen"]) == ([2, 3], ["fp32", "bf16"], [128, 192])
    page = (tmp_path / "known" / "tiny.md").read_text()
    assert "2, 3 epochs" in page and "fp32, bf16" in page and "| 128, 192 |" in page


def test_a_block_of_another_page_is_the_table(made, capsys, tmp_path):
    path, folder, found = made
    vaekit.benchmark(path, output=folder)
    target = tmp_path / "README.md"
    target.write_text("before\n<!-- bench: tiny -->\nold\n<!-- /bench: tiny -->\nafter\n")
    assert ask(capsys, "bench", path, "-o", folder, "--table", target)[0] == 0
    assert (
        target.read_text()
        == f"before\n<!-- bench: tiny -->\n{bench.summary(found)}\n<!-- /bench: tiny -->\nafter\n"
    )
    target.write_text("nothing marked")
    assert "<!-- bench: tiny -->" in refused(capsys, "bench", path, "-o", folder, "--table", target)
    assert "run the bench first" in refused(capsys, "bench", path, "-o", tmp_path / "none", "--table", target)


@pytest.mark.parametrize("file", TABLES, ids=lambda p: p.stem)
def test_a_committed_table_is_of_the_bench_that_the_package_has(file):
    found = bench.read(file)
    now = bench.load(found["bench"])
    assert [row["row"] for row in found["rows"]] == [row.name for row in now.rows]
    for row, asked in zip(found["rows"], now.rows, strict=True):
        assert (row["recipe"], row["data"]) == (asked.recipe, asked.data), row["row"]
        assert row["command"] == command(asked, asked.seeds[0]), row["row"]
        assert set(row["missing"]) == set(asked.seeds) - set(row["seeds"]), row["row"]
        assert row["published"] == (None if asked.anchor is None else asked.anchor.model_dump()), row["row"]
        if row.get("bounds"):
            assert [bound["k"] for bound in row["bounds"]] == sorted(asked.k), row["row"]


@pytest.mark.parametrize("file", TABLES, ids=lambda p: p.stem)
def test_the_readme_s_table_is_the_committed_one(file):
    found, text = bench.read(file), (ROOT / "README.md").read_text()
    name = found["bench"]
    assert f"<!-- bench: {name} -->\n{bench.summary(found)}\n<!-- /bench: {name} -->" in text
    for word in json.dumps(found).replace('"', " ").split():
        assert not word.startswith(("/", "~")) and ":\\" not in word, f"a path of some machine: {word}"


def test_a_table_is_written_from_the_cells_that_are_there(tmp_path):
    path = written(tmp_path)
    found = vaekit.benchmark(path, output=tmp_path / "b", only=["vae-seed1"])
    assert [row["missing"] for row in found["rows"]] == [[0], [0]] and found["rows"][0]["seeds"] == [1]
    page = (tmp_path / "b" / "tiny.md").read_text()
    assert "one seed, 1 to come" in page and "not measured" in page
    found = vaekit.benchmark(path, output=tmp_path / "b", only=["vae"], seeds=[7])
    assert found["rows"][0]["seeds"] == [1, 7]


def test_a_model_without_density_has_a_row_that_says_so(tmp_path):
    text = TINY[: TINY.index("[row.anchor]")] + 'set = ["posterior.kind=PointPosterior"]\n'
    found = vaekit.benchmark(written(tmp_path, text), output=tmp_path / "b", seeds=[0])
    assert found["rows"][0]["nll"] is None and "none: PointPosterior has no density" in bench.summary(found)
    assert "| - | - |" in (tmp_path / "b" / "tiny.md").read_text()


# -- the benches of the package


def test_the_list_names_every_bench_and_its_cells(capsys):
    code, out, _ = ask(capsys, "bench", "--list")
    assert code == 0 and {"digits", "mnist-cpu", "pythae", "uci"} <= {
        line.split()[0] for line in out.splitlines()
    }
    assert "(4 cells" in out
    code, out, _ = ask(capsys, "bench", "digits", "--list")
    assert code == 0 and "flow-prior" in out and "seeds 0, 1" in out


def test_published_figures_name_their_source_and_rows_that_are_known():
    from vaekit.data import known_hashes

    for one in bench.listing():
        assert one.title and one.description
        for row in one.rows:
            assert row.anchor is None or (row.anchor.source and row.anchor.data in known_hashes), (
                one.name,
                row.name,
            )
    with pytest.raises(VaekitError, match="no bench"):
        bench.load("nothing-like-it")
