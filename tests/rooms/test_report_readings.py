"""What readings beside the loss leave in a run, on its page."""

import json
import os
import shutil

import pytest

import vaekit
from browser_kit import assert_healthy
from vaekit.metrics.disentanglement import dci
from vaekit.report.words import LANGUAGES

AIS = {"images": 2, "steps": 5, "chains": 2}


@pytest.fixture(scope="module")
def digits(digits_run, tmp_path_factory):
    run = vaekit.load(shutil.copytree(digits_run, tmp_path_factory.mktemp("readings") / "digits"))
    return run, run.samples(), run.copies(), run.evaluate(k=(1, 10), ais=AIS)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_samples_and_copies_have_their_place_once_they_were_judged(browser, digits, lang):
    run, samples, copies, nats = digits
    page = run.report(lang)
    text = page.read_text(encoding="utf-8")
    assert '<section id="quality"' in text and '<section id="copies"' in text
    for name in ("samples", "reconstructions", "floor"):
        assert f"{samples['items'][name]['frechet']:.2f}" in text
    assert copies["verdict"].replace(">", "&gt;") in text
    assert f"{nats['ais']['gap']['value']:.2f}".replace("-", "−") in text
    assert not nats["nll"][-1]["trusted"] and "--ais 100" in text
    tab = browser.open(page)
    assert_healthy(tab)
    tab.close()


def test_readings_of_other_weights_are_not_shown(digits, tmp_path):
    run = digits[0]
    folder = shutil.copytree(run.path, tmp_path / "r")
    assert '<section id="quality"' in vaekit.load(folder).report().read_text(encoding="utf-8")
    seconds = (folder / "samples.json").stat().st_mtime + 10
    os.utime(folder / "model.safetensors", (seconds, seconds))
    text = vaekit.load(folder).report().read_text(encoding="utf-8")
    assert '<section id="quality"' not in text and '<section id="copies"' not in text


def test_a_reading_of_another_version_is_not_shown(digits, tmp_path):
    folder = shutil.copytree(digits[0].path, tmp_path / "r")
    (folder / "samples.json").write_text(json.dumps(digits[1] | {"schema": 0}))
    text = vaekit.load(folder).report().read_text(encoding="utf-8")
    assert '<section id="quality"' not in text and '<section id="copies"' in text


def test_pairs_that_have_gone_or_are_no_longer_whole_leave_the_verdict(digits, tmp_path):
    folder = shutil.copytree(digits[0].path, tmp_path / "r")
    (folder / "copies.npz").write_bytes(b"PK no longer whole")
    text = vaekit.load(folder).report().read_text(encoding="utf-8")
    assert digits[2]["verdict"].replace(">", "&gt;") in text and "nearest held out" not in text


def test_factors_have_their_place(browser, tmp_path, monkeypatch):
    monkeypatch.setattr(dci, "TREES", 2)
    run = vaekit.fit(
        "sprites", recipe="autoencoder", size=16, limit=150, latent=2, output=tmp_path / "r",
        set=["train.epochs=1", "train.pictures=false"],
    )  # fmt: skip
    assert '<section id="factors"' not in run.report().read_text(encoding="utf-8")
    found = run.disentanglement()
    page = run.report()
    text = page.read_text(encoding="utf-8")
    assert '<section id="factors"' in text and f"{found['mig']['score']:.2f}" in text
    assert json.loads((run.path / "disentanglement.json").read_text()) == found
    tab = browser.open(page, phone=True)
    assert_healthy(tab)
    tab.close()
