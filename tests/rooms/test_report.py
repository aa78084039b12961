"""`vaekit report`: one page that shows a run, in a real browser, in both languages, for every kind of run."""

from __future__ import annotations

import ast
import html
import json
import os
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

import vaekit
from browser_kit import assert_healthy
from commands_kit import ask, refused
from vaekit import VaekitError
from vaekit.report import cloud
from vaekit.report.words import LANGUAGES, Words, placeholders

ROOM = Path(vaekit.__file__).parent / "report"


def trained(folder: Path, data: object = "digits", **how: object) -> vaekit.Run:
    sets = ["train.epochs=2", *how.pop("set", [])]  # type: ignore[misc]
    return vaekit.fit(data, output=folder, set=sets, **how)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def run(digits_run, tmp_path_factory):
    """A copy of the shared run, for a report adds files to it."""
    return shutil.copytree(digits_run, tmp_path_factory.mktemp("report") / "digits <2>")


@pytest.fixture(scope="module")
def pages(run):
    """The page in English and in Korean."""
    opened = vaekit.load(run)
    return {lang: opened.report(lang) for lang in LANGUAGES}


def sections(page: Path) -> list[str]:
    return re.findall(r'<section id="(\w+)"', page.read_text(encoding="utf-8"))


ALL = [
    "what", "loss", "reconstructions", "extremes", "samples", "map", "grid", "traversals", "units", "prior",
    "interpolations", "curves", "film", "doctor", "again",
]  # fmt: skip


# -- the page in a browser


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("how", [{}, {"dark": True}, {"phone": True}], ids=["light", "dark", "phone"])
def test_the_page_is_whole_and_asks_for_nothing(browser, pages, lang, how):
    tab = browser.open(pages[lang], **how)
    assert_healthy(tab)
    assert tab.evaluate("document.documentElement.lang") == lang
    assert tab.evaluate("document.images.length") > 15
    assert tab.evaluate("document.title").startswith(("What digits <2>", "digits <2>"))
    dark = tab.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == how.get("dark", False)
    tab.close()


def test_a_dot_says_which_row_it_is_and_shows_it(browser, pages):
    tab = browser.open(pages["en"])
    place = tab.evaluate("""(() => {
        const svg = document.querySelector("#map svg[data-by]"), view = svg.viewBox.baseVal;
        const [, x, y] = svg.querySelector(".dots").getAttribute("d").match(/M([\\d.]+) ([\\d.]+)/);
        return [x / view.width, y / view.height];
    })()""")
    tab.point_at("#map svg[data-by]", *place)
    told = tab.evaluate("document.getElementById('tip').textContent")
    label, row = re.fullmatch(r"(\d) · training row (\d+)", told).groups()
    data = vaekit.load(pages["en"].parent).data()
    assert data.train.label[int(row)] == int(label)
    assert "url(" in tab.evaluate("document.querySelector('#tip i').style.backgroundImage")
    tab.press("Escape")
    assert tab.evaluate("document.getElementById('tip').hidden")
    tab.close()


def test_bars_can_be_walked_with_the_keyboard_and_tiles_tapped(browser, pages):
    tab = browser.open(pages["en"], phone=True)
    tab.evaluate("document.querySelector('#units svg[data-by]').focus({focusVisible: true})")
    first = tab.evaluate("document.getElementById('tip').textContent")
    tab.press("ArrowRight")
    second = tab.evaluate("document.getElementById('tip').textContent")
    assert {first[:2], second[:2]} == {"z0", "z1"} and "KL" in first and "active" in second
    tab.point_at("#extremes img", 0.05, 0.5, tap=True)
    assert re.search(r"test row \d+\n.* nats", tab.evaluate("document.getElementById('tip').textContent"))
    tab.close()


def test_a_legend_lights_up_its_dots(browser, pages):
    tab = browser.open(pages["en"])
    tab.point_at("#map .legend li:nth-child(4)")
    shown = tab.evaluate("[...document.querySelectorAll('#map .lit')].map(e => e.getAttribute('class'))")
    assert shown and all("k3" in kind.split() for kind in shown)
    tab.close()


def test_it_prints(browser, pages):
    tab = browser.open(pages["ko"])
    printed = tab.pdf()
    assert (
        printed.startswith(b"%PDF")
        and 3 < printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") < 40
    )
    tab.close()


# -- what it says


def test_every_part_is_there_in_the_readers_order(pages):
    assert sections(pages["en"]) == sections(pages["ko"]) == ALL


def test_the_numbers_are_those_of_the_evaluation(pages):
    run = pages["en"].parent
    kept = json.loads((run / "evaluation.json").read_text())
    text = pages["en"].read_text(encoding="utf-8")
    for name in ("elbo", "rate", "distortion"):
        assert f"{kept[name]:.2f}".replace("-", "−") in text


def test_an_evaluation_that_is_there_is_kept_and_one_of_other_weights_is_not_believed(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "r")
    opened = vaekit.load(folder)
    kept = opened.evaluate(k=[3])
    opened.report()
    assert json.loads((folder / "evaluation.json").read_text()) == kept
    stale = kept | {"distortion": 12345.0}
    (folder / "evaluation.json").write_text(json.dumps(stale))
    seconds = (folder / "evaluation.json").stat().st_mtime + 10
    os.utime(folder / "model.safetensors", (seconds, seconds))
    assert "12,345" not in opened.report().read_text(encoding="utf-8")
    assert json.loads((folder / "evaluation.json").read_text()) == stale


def test_the_same_run_gives_the_same_page_and_training_noise_is_left_alone(run, pages, tmp_path):
    import torch

    before = torch.random.get_rng_state()
    again = vaekit.load(run).report(output=tmp_path / "again.html")
    assert again.read_bytes() == pages["en"].read_bytes()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_what_the_doctor_said_is_told_in_the_readers_language(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "r")
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    findings = [
        {
            "code": "collapsed",
            "values": {"collapsed": 3, "latent": 5, "active": 2},
            "text": "3 of 5 <do nothing>",
        },
        {"code": "unheard-of", "values": {}, "text": "something new"},
    ]
    lines[3] = json.dumps(json.loads(lines[3]) | {"doctor": findings})
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    opened = vaekit.load(folder)
    english, korean = (opened.report(lang).read_text(encoding="utf-8") for lang in LANGUAGES)
    assert "3 of 5 latent dimensions are asleep" in english and "something new" in english
    assert "잠재 차원 5개 중 3개가 잠들어" in korean and "3 of 5 &lt;do nothing&gt;" in korean
    assert "Nothing was found" not in english


def test_the_command_it_names_repeats_the_run(capsys, tmp_path):
    folder = tmp_path / "a run"
    asked = ("train", "digits", "-o", folder, "--set", "train.epochs=2", "--seed", 3)
    assert ask(capsys, *asked)[0] == 0
    made = folder / "recipe.toml"
    first, _, *rest = made.read_text().splitlines(keepends=True)  # a test's command line is not the user's
    made.write_text("".join([first, f"# {shlex.join(['vaekit', *map(str, asked)])}\n", *rest]))
    page = vaekit.load(folder).report().read_text(encoding="utf-8")
    said, again = (
        shlex.split(html.unescape(line)) for line in re.findall("<pre><code>(vaekit .*)</code>", page)
    )
    assert said[1:] == [str(word) for word in asked]
    assert ask(capsys, *again[1:-1], tmp_path / "again")[0] == 0
    lines = [vaekit.load(tmp_path / name).metrics() for name in ("a run", "again")]
    assert [{k: v for k, v in line.items() if k != "time"} for line in lines[0]] == [
        {k: v for k, v in line.items() if k != "time"} for line in lines[1]
    ]


# -- every kind of run


@pytest.mark.parametrize(
    ("how", "left_out"),
    [
        ({"latent": 6}, []),
        ({"latent": 1}, []),
        ({"latent": 2, "recipe": "autoencoder"}, []),
        ({"latent": 3, "recipe": "conditional"}, []),
        ({"latent": 2, "set": ["prior.kind=FlowPrior"]}, []),
        ({"latent": 2, "set": ["train.pictures=false"]}, ["film"]),
        ({
            "latent": 0, "binarize": "static",
            "set": ["posterior.net.kind=Constant", "likelihood.net.kind=Constant",
                    "likelihood.kind=AutoregressiveLikelihood", "likelihood.hidden=[32]"],
        }, ["reconstructions", "map", "grid", "traversals", "units", "prior", "interpolations"]),
    ],
    ids=["six", "one", "autoencoder", "conditional", "flow", "no pictures", "no latent"],
)  # fmt: skip
def test_what_a_run_has_not_is_left_out(browser, tmp_path, how, left_out):
    page = trained(tmp_path / "r", **how).report()
    assert sections(page) == [name for name in ALL if name not in left_out]
    tab = browser.open(page)
    assert_healthy(tab)
    tab.close()


@pytest.mark.parametrize("columns", [2, 5])
def test_a_table_has_a_page_too(browser, tmp_path, columns):
    rng = np.random.default_rng(0)
    table = np.concatenate([rng.normal(m, 1, (40, columns)) for m in (-2, 2)]).astype(np.float32)
    page = trained(tmp_path / "r", table, latent=2).report("ko")
    assert sections(page) == ALL
    tab = browser.open(page, phone=True)
    assert_healthy(tab)
    tab.close()


def test_colour_pictures_have_a_page_and_a_film(browser, tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (60, 3, 70, 80), dtype=np.uint8)
    page = trained(tmp_path / "r", x, latent=2, set=["train.epochs=1"]).report()
    with np.load(tmp_path / "r" / "frames" / "epoch-0001.npz") as frame:
        assert frame["decoded"].shape == (20, 3, 35, 40)
    tab = browser.open(page)
    assert_healthy(tab)
    tab.close()


def test_data_that_have_gone_leave_a_page_of_what_is_known(tmp_path):
    source = tmp_path / "rows.npy"
    np.save(source, np.random.default_rng(0).normal(size=(80, 4)).astype(np.float32))
    trained(tmp_path / "r", source, latent=2)
    source.unlink()
    page = vaekit.load(tmp_path / "r").report()
    assert sections(page) == ["what", "samples", "grid", "curves", "film", "doctor", "again"]
    assert "could not be opened again" in page.read_text(encoding="utf-8")


def test_a_broken_model_has_a_page_that_says_so(browser, run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "r")
    (folder / "evaluation.json").unlink(missing_ok=True)
    opened = vaekit.load(folder)
    for weights in opened.model.posterior.parameters():
        weights.data.fill_(float("nan"))
    page = opened.report()
    assert "could not be judged" in page.read_text(encoding="utf-8")
    tab = browser.open(page)
    assert_healthy(tab)
    tab.close()


# -- the film


def test_frames_are_kept_at_powers_of_two_and_the_end_and_are_small(digits_run):
    frames = {path.stem: dict(np.load(path)) for path in (digits_run / "frames").iterdir()}
    assert sorted(frames) == ["epoch-0001", "epoch-0002", "epoch-0004", "epoch-0008"]
    assert all(path.stat().st_size < 50_000 for path in (digits_run / "frames").iterdir())
    first, last = frames["epoch-0001"], frames["epoch-0008"]
    for same in ("z", "row", "label", "picked", "original"):
        assert np.array_equal(first[same], last[same])
    assert not np.array_equal(first["code"], last["code"])
    run = vaekit.load(digits_run)
    rows = run.data().test
    assert np.array_equal(last["label"], rows.label[last["row"]])
    assert len(set(rows.label[last["picked"]])) == 10


def test_the_last_frame_is_what_the_kept_weights_show(tmp_path):
    run = trained(tmp_path / "r", set=["train.epochs=2", "train.ema=none", "train.keep=last"], latent=2)
    frame = dict(np.load(tmp_path / "r" / "frames" / "epoch-0002.npz"))
    codes = run.encode(run.data().test, split="test").mean[frame["row"]]
    assert frame["code"] == pytest.approx(codes, abs=5e-3)
    again = run.reconstruct(run.data().test)[1][frame["picked"]] / 16
    assert frame["reconstruction"] / 255 == pytest.approx(again, abs=1 / 16)


def test_a_film_costs_training_nothing(tmp_path):
    """Frames are looked at with noise of their own, so the weights are those of a run without them."""
    filmed = trained(tmp_path / "a", set=["train.epochs=3", "train.picture_every=1"], latent=2)
    blind = trained(tmp_path / "b", set=["train.epochs=3", "train.pictures=false"], latent=2)
    assert len(list((tmp_path / "a" / "frames").iterdir())) == 3 and not (tmp_path / "b" / "frames").exists()
    other = blind.model.state_dict()
    assert all((value == other[name]).all() for name, value in filmed.model.state_dict().items())


def test_a_film_has_no_frames_of_epochs_that_were_never_reached(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "r")
    shutil.copy(folder / "frames" / "epoch-0008.npz", folder / "frames" / "epoch-0064.npz")
    (folder / "frames" / "epoch-0003.npz").write_bytes(b"broken")
    text = vaekit.load(folder).report().read_text(encoding="utf-8")
    assert "epoch 8</b>" in text and "epoch 64</b>" not in text and "epoch 3</b>" not in text


# -- the texts


def test_the_catalogues_have_the_same_keys_and_placeholders():
    english, korean = (Words(lang).texts() for lang in ("en", "ko"))
    assert english.keys() == korean.keys()
    assert {k: placeholders(v) for k, v in english.items()} == {k: placeholders(v) for k, v in korean.items()}
    assert all(text.strip() for text in (*english.values(), *korean.values()))


def test_every_key_that_is_asked_for_exists_and_every_text_is_asked_for():
    texts, asked = set(Words("en").texts()), []
    for path in ROOM.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                asked.append(re.escape(node.value))
            elif isinstance(node, ast.JoinedStr):  # a key that is put together: f"grid.{how}"
                parts = [re.escape(v.value) if isinstance(v, ast.Constant) else r"\w+" for v in node.values]  # type: ignore[arg-type]
                asked.append("".join(parts) if r"\." in "".join(parts) else "")
            elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "words",
                "found.words",
                "self.words",
            ):
                key = node.args[0]
                assert not isinstance(key, ast.Constant) or key.value in texts, (
                    f"{path.name}: {ast.unparse(node)}"
                )
    known = re.compile("|".join(sorted(set(asked) - {""})))
    assert not {key for key in texts if not known.fullmatch(key)}


def test_every_illness_has_words_in_both_languages():
    from vaekit.train.ailments import AILMENTS

    for lang in LANGUAGES:
        texts = Words(lang).texts()
        assert all(f"doctor.{ailment.code.replace('-', '_')}" in texts for ailment in AILMENTS)


@pytest.mark.long
def test_with_umap_there_is_a_second_map_of_the_same_dots(browser, tmp_path):
    pytest.importorskip("umap", reason="pip install 'vaekit[umap]'")
    page = trained(tmp_path / "r", latent=6).report()
    tab = browser.open(page)
    assert_healthy(tab)
    counts = tab.evaluate(
        "[...document.querySelectorAll('#map svg[data-by]')].map(s => s.innerHTML.split('h0').length)"
    )
    assert len(counts) == 2 and counts[0] == counts[1] > 1000
    tab.close()


# -- clouds


def test_a_cloud_has_no_holes_against_itself_and_all_against_another_place():
    rng = np.random.default_rng(0)
    for D in (1, 2, 8):
        a, b = rng.normal(size=(2, 2000, D))
        assert 0 < cloud.outside(a, b, b) < 0.03
        assert cloud.outside(a + 20, b, b) == 1
        # codes strewn over a wide space leave the prior empty, however far they are from each other
        assert cloud.outside(a, 1e5 * b, a) > 0.99
        assert cloud.distances(a, b) == pytest.approx(np.zeros(D), abs=0.1)
        assert cloud.distances(b + 3, b) == pytest.approx(np.full(D, 3 / b.std(0)), rel=1e-9)


def test_rows_that_stand_by_class_are_seen_from_all_classes():
    a, b = np.random.default_rng(0).normal(size=(2, 6000, 2))
    assert cloud.outside(a, b[np.argsort(b[:, 0])], a) < 0.03


# -- the command


def test_the_command_writes_where_it_is_told(capsys, run, tmp_path):
    code, out, _ = ask(capsys, "report", run, "--lang", "ko", "-o", tmp_path / "page.html")
    assert code == 0 and out.strip() == str(tmp_path / "page.html")
    assert '<html lang="ko">' in (tmp_path / "page.html").read_text(encoding="utf-8")
    code, out, _ = ask(capsys, "report", run)
    assert code == 0 and Path(out.strip()) == run / "report.html"


def test_what_cannot_be_written_is_refused_in_one_line(capsys, run, tmp_path):
    assert ".html" in refused(capsys, "report", run, "-o", tmp_path / "page.pdf")
    assert "no run" in refused(capsys, "report", tmp_path / "none")
    shutil.copy(run / "model.safetensors", tmp_path / "model.safetensors")
    assert "-o report.html" in refused(capsys, "report", tmp_path / "model.safetensors")
    with pytest.raises(VaekitError, match="'de'"):
        vaekit.load(run).report("de")
