"""`Run.disentanglement` and `vaekit evaluate --what disentanglement`, on models trained here."""

import json

import numpy as np
import pytest

import vaekit
from commands_kit import ask, refused, shape_of
from vaekit import VaekitError
from vaekit.metrics.disentanglement import dci

FEW = ["train.epochs=1", "train.pictures=false"]
SCORES = ("mig", "sap", "factorvae", "betavae", "modularity")


@pytest.fixture(scope="module", autouse=True)
def two_rounds():
    """Two rounds of boosting take seconds; what they find is not asked here."""
    before, dci.TREES = dci.TREES, 2
    yield
    dci.TREES = before


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sprites") / "r"
    return vaekit.fit(
        "sprites", recipe="small-images", size=16, limit=1000, latent=4, output=folder, seed=1,
        set=["train.epochs=30", "train.pictures=false"],
    )  # fmt: skip


@pytest.fixture(scope="module")
def found(run):
    return run.disentanglement()


def test_a_trained_model_tells_where_a_sprite_is(run, found):
    assert (found["split"], found["rows"], found["latent"], found["grid"]) == ("test", 1000, 4, False)
    assert dict(found["factors"]) == dict(run.contract.factors) and found["constant"] == []
    told = np.array(found["mutual_information"])
    assert told.shape == (4, 5) and np.array(found["dci"]["importance"]).shape == (4, 5)
    # its place is what a code of a sprite tells first; which shape it is comes much later
    share = told.max(0) / found["entropy"]
    assert min(share[3:]) > 2 * share[0]
    for name in SCORES:
        assert 0 <= found[name]["score"] <= 1
    assert found["factorvae"]["score"] > 0.25 and found["betavae"]["score"] > 0.25  # a fifth is chance
    for name in ("disentanglement", "completeness", "informativeness"):
        assert 0 <= found["dci"][name] <= 1


def test_it_is_what_the_codes_say(run, found):
    from vaekit.metrics.disentanglement.judge import scores

    rows = run.rows(split="test")
    again = scores(run.encode(split="test").mean.astype(float), rows.factors, run.contract.factors)
    assert again == {name: found[name] for name in again}


def test_the_file_the_picture_and_the_table(run, found, capsys):
    assert json.loads((run.path / "disentanglement.json").read_text()) == found
    width, height = shape_of(run.path / "disentanglement.png")
    assert width > height > 200
    code, out, err = ask(capsys, "evaluate", run.path, "--what", "disentanglement")
    lines = out.splitlines()
    assert code == 0 and err == "" and out.rstrip("\n") == run.table_of(found, "disentanglement")
    assert lines[0] == "test split, 1,000 rows; 667 points to fit on, 333 to judge, 20 bins"
    assert f"{found['mig']['score']:.3f}" in lines[1] and lines[1].startswith("MIG")
    code, out, _ = ask(capsys, "evaluate", run.path, "--what", "disentanglement", "--json")
    assert code == 0 and json.loads(out) == found


def test_other_splits_and_data_are_judged_and_not_kept(run, found):
    before = (run.path / "disentanglement.json").read_bytes()
    everything = run.disentanglement(split="all")
    assert (everything["split"], everything["rows"]) == ("all", 3000)
    assert everything["data_hash"] == run.contract.hash
    valid = run.disentanglement(run.data(), split="valid", seed=3)
    assert valid == run.disentanglement(run.rows(split="valid"), seed=3)
    assert valid["split"] == "valid" and valid["data_hash"] != found["data_hash"]
    assert (run.path / "disentanglement.json").read_bytes() == before


def test_a_point_posterior_is_judged_by_its_codes(tmp_path):
    run = vaekit.fit(
        "sprites", recipe="autoencoder", size=16, limit=150, latent=2, output=tmp_path / "r", set=FEW
    )
    assert 0 <= run.disentanglement()["dci"]["informativeness"] <= 1


def test_what_cannot_be_judged_is_one_line(run, tmp_path, digits_run, capsys):
    line = refused(capsys, "evaluate", digits_run, "--what", "disentanglement")
    assert line == (
        "vaekit: digits has no known factors, against which disentanglement is judged; give data that have, such as "
        "sprites"
    )
    with pytest.raises(VaekitError, match=r"^array has no known factors"):
        run.disentanglement(run.rows(split="test").rows(slice(None)))
    narrow = vaekit.fit("sprites", size=16, limit=60, latent=1, output=tmp_path / "one", set=FEW)
    with pytest.raises(
        VaekitError, match=r"^disentanglement compares latent dimensions, and this run has 1;"
    ):
        narrow.disentanglement()
    few = vaekit.fit("sprites", size=16, limit=60, latent=2, output=tmp_path / "few", set=FEW)
    with pytest.raises(VaekitError, match=r"^60 rows are too few .* at least 100$"):
        few.disentanglement()
