"""`vaekit compare`: runs side by side on one page, in a real browser, from readings that are kept in the runs."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

import vaekit
from browser_kit import assert_healthy
from commands_kit import ask, refused
from vaekit import VaekitError

BITS = ["likelihood.kind=AutoregressiveLikelihood", "likelihood.hidden=[32]"]
ALL = ["short", "numbers", "bound", "error", "maps", "holes", "samples", "midpoints", "smooth"]


def trained(folder: Path, data: object = "digits", epochs: int = 2, **how: object) -> vaekit.Run:
    sets = [f"train.epochs={epochs}", "train.pictures=false", *how.pop("set", [])]  # type: ignore[misc]
    return vaekit.fit(data, output=folder, set=sets, seed=1, **how)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """An autoencoder and VAEs of the digits, as grey levels and as bits, and a model of the bits without a latent."""
    folder = tmp_path_factory.mktemp("compared")
    return {
        "ae": trained(folder / "ae", epochs=8, latent=2, recipe="autoencoder"),
        "vae": trained(folder / "vae", epochs=8, latent=2),
        "vae-5": trained(folder / "vae-5", epochs=8, latent=5),
        "bits": trained(folder / "bits", latent=2, binarize="dynamic"),
        "made": trained(folder / "made", latent=0, binarize="dynamic", set=BITS),
    }


@pytest.fixture(scope="module")
def page(runs):
    """Of the autoencoder and the VAEs, from the command line."""
    from vaekit.__main__ import run

    target = runs["ae"].path.parent / "page.html"
    names = [str(runs[name].path) for name in ("ae", "vae", "vae-5")]
    assert run(["compare", *names, "-o", str(target)]) == 0
    return target


class Table(HTMLParser):
    """The cells of the first table, a row a name: (text, whether it is bold)."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.rows: dict[str, list[tuple[str, bool]]] = {}
        self.heads: list[str] = []
        self.cells: list[tuple[str, bool]] = []
        self.text, self.bold = "", False
        whole = page.read_text(encoding="utf-8")
        self.feed(whole[whole.index("<table") : whole.index("</table>")])

    def handle_starttag(self, tag, attrs):
        if tag in ("td", "th"):
            self.text, self.bold = "", False
        self.bold |= tag == "strong"

    def handle_data(self, data):
        self.text += data

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.cells.append((self.text, self.bold))
        if tag == "tr":
            (name, _), *cells = self.cells
            self.heads = self.heads or [text for text, _ in cells]
            self.rows[name] = cells
            self.cells = []


def kept(run: vaekit.Run, name: str) -> dict:
    return json.loads((run.path / f"{name}.json").read_text())


def sections(page: Path) -> list[str]:
    return re.findall(r'<section id="(\w+)"', page.read_text(encoding="utf-8"))


# -- the page in a browser


@pytest.mark.parametrize("how", [{}, {"dark": True}, {"phone": True}], ids=["light", "dark", "phone"])
def test_the_page_is_whole_and_asks_for_nothing(browser, page, how):
    tab = browser.open(page, **how)
    assert_healthy(tab)
    assert page.stat().st_size < 5_000_000 and tab.evaluate("document.images.length") > 9
    assert sections(page) == ALL
    tab.close()


def test_maps_share_their_axes_and_show_the_prior(browser, page):
    tab = browser.open(page)
    ticks = "svg => [...svg.querySelectorAll('text:not(.centre, .name, .ring-name)')].map(t => t.textContent).join()"
    charts = "[...document.querySelectorAll('#maps > .beside svg[data-by]')]"
    assert tab.evaluate(f"{charts}.length") == 3
    assert tab.evaluate(f"new Set({charts}.map({ticks})).size") == 1
    own = "[...document.querySelectorAll('#maps details svg[data-by]')]"
    assert tab.evaluate(f"new Set({own}.map({ticks})).size") == 3
    rings = f"{charts}[1].querySelectorAll('.ring')"
    # a circle of the prior is as wide as its sigma, and round
    box = tab.evaluate(f"[...{rings}].map(r => r.getBBox()).map(b => [b.width, b.height])")
    (one, tall), (two, _) = box
    assert two == pytest.approx(2 * one, rel=0.02) and one == pytest.approx(tall, rel=0.04)
    tab.point_at("#maps svg[data-by]")
    assert re.fullmatch(r"\d · test row \d+", tab.evaluate("document.getElementById('tip').textContent"))
    tab.close()


# -- what it says


def test_the_numbers_are_those_kept_in_the_runs_and_the_best_are_marked(runs, page):
    table, chosen = Table(page), [runs[name] for name in ("ae", "vae", "vae-5")]
    assert table.heads == ["ae", "vae", "vae-5"]
    nats, codes = [kept(run, "evaluation") for run in chosen], [kept(run, "latents") for run in chosen]

    def row(name, values, shown, best):
        told = ["–" if value is None else shown.format(value).replace("-", "−") for value in values]
        known = [value for value in values if value is not None]
        marked = [value is not None and best is not None and value == best(known) for value in values]
        assert table.rows[name] == list(zip(told, marked, strict=True)), name

    row("ELBO, higher is better", [one["elbo"] for one in nats], "{:.2f}", max)
    row("distortion (reconstruction)", [one["distortion"] for one in nats], "{:.2f}", None)
    bounds = [one["nll"] and one["nll"][-1]["value"] for one in nats]
    row("NLL at most, 100 draws", bounds, "{:.2f}", min)
    row("reconstruction error (RMSE)", [one["error"]["root_mean_squared"] for one in codes], "{:.4f}", min)
    row("Fréchet: samples of the prior", [one["items"]["samples"]["frechet"] for one in codes], "{:.2f}", min)
    row("from (2, −2) to (2.1, −2.1)", [one["smoothness"]["pair"] for one in codes], "{:.4f}", None)
    holes = [100 * one["holes"]["prior"]["holes"] for one in codes]
    row("holes: prior draws where no code lives", holes, "{:.1f} %", min)
    row("MMD² of codes and prior", [one["prior"]["mmd"]["value"] for one in codes], "{:.4f}", None)


def test_differences_are_paired_row_by_row(runs, page):
    text = page.read_text(encoding="utf-8")
    elbo = {name: np.load(runs[name].path / "per_image.npz")["elbo"] for name in ("vae", "vae-5")}
    best = max(elbo, key=lambda name: elbo[name].mean())
    (other,) = set(elbo) - {best}
    off = elbo[best] - elbo[other]
    half = 1.96 * off.std(ddof=1) / math.sqrt(len(off))
    assert f"{off.mean() - half:.2f} … {off.mean() + half:.2f}".replace("-", "−") in text
    assert f"needs {off.mean():.2f} ± {half:.2f} nats more" in text
    bound = text[text.index('id="bound"') : text.index('id="error"')]
    assert "No bound for <code>ae</code>" in bound
    assert "At 2 latent dimensions, the autoencoder <code>ae</code> against the VAE <code>vae</code>" in text


def test_readings_are_used_again_and_those_of_other_weights_are_not_believed(runs, page, tmp_path):
    folders = [shutil.copytree(runs[name].path, tmp_path / name) for name in ("ae", "vae")]
    told = kept(vaekit.load(folders[1]), "evaluation") | {"distortion": 12345.0}
    (folders[1] / "evaluation.json").write_text(json.dumps(told))
    first = vaekit.compare(folders, tmp_path / "1.html").read_text(encoding="utf-8")
    assert "12,345.00" in first and kept(vaekit.load(folders[1]), "evaluation") == told
    seconds = (folders[1] / "evaluation.json").stat().st_mtime + 10
    os.utime(folders[1] / "model.safetensors", (seconds, seconds))
    second = vaekit.compare(folders, tmp_path / "2.html").read_text(encoding="utf-8")
    assert "12,345.00" not in second and kept(vaekit.load(folders[1]), "evaluation")["distortion"] < 1000


def test_latent_readings_of_an_older_version_are_read_without_what_they_lack(runs, page, tmp_path):
    folders = [shutil.copytree(runs[name].path, tmp_path / name) for name in ("ae", "vae")]
    told = kept(vaekit.load(folders[1]), "latents")
    del told["prior"], told["dimensions"]
    (folders[1] / "latents.json").write_text(json.dumps(told | {"schema": 2}))
    table = Table(vaekit.compare(folders, tmp_path / "old.html"))
    assert kept(vaekit.load(folders[1]), "latents")["schema"] == 2
    assert [shown for shown, _ in table.rows["MMD² of codes and prior"]][1] == "–"


def test_one_seed_is_one_page_and_noise_elsewhere_is_left_alone(runs, page, tmp_path):
    before = torch.random.get_rng_state()
    chosen = [runs[name] for name in ("ae", "vae", "vae-5")]
    again = vaekit.compare(chosen, tmp_path / "again.html")
    assert again.read_bytes() == page.read_bytes() and torch.equal(torch.random.get_rng_state(), before)
    other = vaekit.compare(chosen, tmp_path / "other.html", seed=3, title="Two <kinds>", lang="ko")
    text = other.read_text(encoding="utf-8")
    assert (
        "<h1>Two &lt;kinds&gt;</h1>" in text
        and '<html lang="ko">' in text
        and "같은 축 위의 잠재 지도" in text
    )
    assert kept(chosen[0], "latents")["seed"] == 3
    vaekit.compare(chosen, tmp_path / "back.html")


def test_bits_and_grey_levels_are_not_held_against_each_other(runs, tmp_path):
    target = vaekit.compare([runs["vae"], runs["bits"]], tmp_path / "page.html")
    text, table = target.read_text(encoding="utf-8"), Table(target)
    assert (
        "Not all bounds are of the same bits" in text and "Not all runs are judged on the same rows" in text
    )
    assert "95 % interval" not in text
    for name in ("ELBO, higher is better", "reconstruction error (RMSE)", "Fréchet: samples of the prior"):
        assert [bold for _, bold in table.rows[name]] == [False, False]
    assert any(bold for _, bold in table.rows["label from the code, k-NN"])


def test_a_model_without_a_latent_stands_beside_a_vae_of_the_same_bits(browser, runs, tmp_path):
    target = vaekit.compare([runs["made"], runs["bits"]], tmp_path / "page.html")
    table, text = Table(target), target.read_text(encoding="utf-8")
    assert table.rows["rate (KL)"][0] == ("0.00", False)
    assert table.rows["ELBO, higher is better"][0][0] == "−" + table.rows["NLL at most, 100 draws"][0][0]
    assert table.rows["reconstruction error (RMSE)"][0] == ("–", False)
    assert "there is no code, and the bound is exact" in text and "How many nats more" in text
    tab = browser.open(target)
    assert_healthy(tab)
    tab.close()


def test_a_cross_entropy_is_called_one(runs, tmp_path):
    cross = trained(tmp_path / "cross", latent=2, set=["likelihood.kind=BernoulliLikelihood"])
    text = vaekit.compare([runs["vae"], cross], tmp_path / "page.html").read_text(encoding="utf-8")
    assert "What <code>cross</code> report is a cross-entropy of grey values" in text
    assert "How many nats more" not in text and "How much larger the mean squared error" in text
    again = trained(tmp_path / "again", latent=3, set=["likelihood.kind=BernoulliLikelihood"])
    text = vaekit.compare([again, cross], tmp_path / "both.html").read_text(encoding="utf-8")
    assert "How many nats more" in text and "the highest likelihood" not in text


def test_vectors_lines_of_codes_and_labels_that_are_given(browser, tmp_path):
    rng = np.random.default_rng(0)
    table = np.concatenate([rng.normal(m, 1, (60, 4)) for m in (-2, 2)]).astype(np.float32)
    label = np.repeat(["low", "high"], 60)
    pair = [
        trained(tmp_path / "line", table, labels=label, latent=1),
        trained(tmp_path / "given", table, labels=label, latent=3, recipe="conditional"),
    ]
    target = vaekit.compare(pair, tmp_path / "page.html")
    assert sections(target) == ALL
    tab = browser.open(target, phone=True)
    assert_healthy(tab)
    tab.close()


def test_rows_of_validation_serve_where_there_are_none_for_a_test(tmp_path):
    x = np.random.default_rng(0).normal(size=(150, 5)).astype(np.float32)
    source = tmp_path / "rows.npz"
    np.savez(source, train=x[:100], valid=x[100:])
    pair = [trained(tmp_path / name, source, latent=D) for name, D in (("a", 1), ("b", 2))]
    target = vaekit.compare(pair, tmp_path / "page.html")
    text = target.read_text(encoding="utf-8")
    assert "50 rows of the validation split" in text and "95 % interval" in text
    assert not (tmp_path / "a" / "latents.json").exists()


def test_runs_are_called_by_what_tells_them_apart(runs, page, tmp_path):
    pair = [shutil.copytree(runs["vae"].path, tmp_path / name / "run") for name in ("first", "second")]
    assert Table(vaekit.compare(pair, tmp_path / "page.html")).heads == ["first/run", "second/run"]


def test_what_cannot_be_compared_is_one_line(runs, capsys, tmp_path):
    ae, vae = runs["ae"].path, runs["vae"].path
    assert "1 run came; a comparison takes two or more" in refused(capsys, "compare", ae)
    assert "came twice" in refused(capsys, "compare", ae, vae, ae)
    assert "end it in .html" in refused(capsys, "compare", ae, vae, "-o", tmp_path / "x.png")
    other = trained(tmp_path / "other", np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32))
    assert "give runs on the same data" in refused(
        capsys, "compare", ae, other.path, "-o", tmp_path / "x.html"
    )
    with pytest.raises(VaekitError, match="no texts in 'de'"):
        vaekit.compare([ae, vae], tmp_path / "x.html", lang="de")
    assert not (tmp_path / "x.html").exists()
    assert ask(capsys, "compare", "--help")[0] == 0
