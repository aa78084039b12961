"""The run folder: names that never collide, logs that never tear, weights that travel without a path."""

import json
import platform
import resource
import tomllib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from vaekit import VaekitError, open_data, recipe
from vaekit.run import RunFolder


@pytest.fixture(scope="module")
def digits():
    return open_data("digits")


@pytest.fixture
def folder(tmp_path, digits):
    """A run folder as training has it before the first step, and the objective."""
    made = RunFolder.create(tmp_path / "run")
    resolved = recipe.resolve(recipe.load("digits"), digits.contract)
    made.write_recipe(resolved.updated({"data": {"source": "/home/somebody/secret/digits"}}))
    made.write_contract(digits.contract)
    return made


@contextmanager
def full_disk(room):
    """No file may grow over `room` bytes: to the writer, a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def model(digits):
    return recipe.build(recipe.load("digits"), digits.contract).model


def test_names_count_on_and_a_given_folder_must_be_new(tmp_path):
    made = [RunFolder.create(name="digits", root=tmp_path).path.name for _ in range(3)]
    assert made == ["digits", "digits-2", "digits-3"]
    odd = RunFolder.create(name="../my data (1)/x", root=tmp_path).path
    assert odd.parent == tmp_path and " " not in odd.name
    given = RunFolder.create(tmp_path / "deep" / "here")
    (given.path / "recipe.toml").write_text("")
    with pytest.raises(VaekitError, match=r"here exists already.*--resume.*-o"):
        RunFolder.create(given.path)
    (tmp_path / "file").write_text("kept")
    with pytest.raises(VaekitError, match="file"):
        RunFolder.create(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "kept"
    (tmp_path / "empty").mkdir()
    RunFolder.create(tmp_path / "empty")
    with pytest.raises(VaekitError, match="empty exists already"):
        RunFolder.create(tmp_path / "empty")


def test_many_that_want_a_folder_at_once_each_get_their_own(tmp_path):
    with ThreadPoolExecutor(16) as pool:
        names = list(pool.map(lambda _: RunFolder.create(name="x", root=tmp_path).path.name, range(16)))
        tried = list(pool.map(lambda _: _created(tmp_path / "one"), range(16)))
    assert len(set(names)) == 16
    assert sum(tried) == 1


def _created(path):
    try:
        RunFolder.create(path)
    except VaekitError:
        return False
    return True


def test_a_folder_that_is_no_run_is_told(tmp_path):
    with pytest.raises(VaekitError, match="there is no run at"):
        RunFolder.open(tmp_path / "nowhere")
    with pytest.raises(VaekitError, match=r"recipe\.toml"):
        RunFolder.open(tmp_path)


def test_recipe_and_contract_come_back(folder, digits):
    again = RunFolder.open(folder.path)
    assert again.read_contract() == digits.contract
    assert again.read_recipe().data.source == "/home/somebody/secret/digits"
    folder.write_recipe(again.read_recipe(), command="vaekit train x\n[train]\nepochs = 9")
    head = folder.recipe.read_text().splitlines()
    assert head[0].startswith("# vaekit 0.") and head[1] == "# vaekit train x [train] epochs = 9"
    assert again.read_recipe().train.epochs == recipe.load("digits").train.epochs


def test_damaged_facts_are_named(folder):
    folder.contract.write_text('{"schema": 99}')
    with pytest.raises(VaekitError, match=r"data.json.*schema 99"):
        folder.read_contract()
    folder.contract.write_text("{")
    with pytest.raises(VaekitError, match=r"data\.json is damaged"):
        folder.read_contract()
    folder.recipe.write_text("[train]\nepoch = 3")
    with pytest.raises(VaekitError, match=r"recipe.toml.*did you mean 'epochs'"):
        folder.read_recipe()


def test_the_environment_says_what_a_number_depends_on_and_names_nobody(folder):
    folder.write_environment()
    text = folder.environment.read_text()
    facts = json.loads(text)
    assert facts["torch"] == torch.__version__ and facts["threads"] == torch.get_num_threads()
    assert facts["cpu"] and facts["python"] and facts["numpy"] and facts["vaekit"]
    assert (platform.node() or "?") not in text.split('"') and "/" not in json.dumps(facts["platform"])
    assert (
        str(folder.path.parent) not in text
        and str(Path.cwd()) not in text
        and str(Path.home()) not in text.split('"')
    )


def test_metrics_are_lines_of_json_and_a_resume_drops_those_after_its_checkpoint(folder):
    for epoch in (1, 2, 3):
        folder.append_metrics(
            {"epoch": epoch, "step": 10 * epoch, "train_loss": 1 / epoch, "time": {"seconds": 0.1}}
        )
    folder.append_metrics({"epoch": 4, "step": 40, "train_loss": float("nan"), "n": torch.tensor(2)})
    lines = folder.read_metrics()
    assert [line["step"] for line in lines] == [10, 20, 30, 40]
    assert lines[-1]["train_loss"] is None and lines[-1]["n"] == 2 and lines[1]["train_loss"] == 0.5
    before = folder.metrics.read_text().splitlines(keepends=True)
    folder.drop_metrics_after(2)
    assert folder.metrics.read_text() == "".join(before[:2])
    folder.drop_metrics_after(0)
    assert folder.read_metrics() == []


def test_a_line_cut_short_by_a_kill_is_dropped_and_other_damage_is_told(folder):
    folder.append_metrics({"epoch": 1, "step": 1})
    with folder.metrics.open("a") as file:
        file.write('{"epoch": 2, "st')
    assert folder.read_metrics() == [{"epoch": 1, "step": 1}]
    folder.drop_metrics_after(1)
    folder.append_metrics({"epoch": 2, "step": 2})
    assert [line["epoch"] for line in folder.read_metrics()] == [1, 2]
    folder.metrics.write_text('nonsense\n{"epoch": 1}\n')
    with pytest.raises(VaekitError, match=r"metrics\.jsonl line 1"):
        folder.read_metrics()


def test_a_full_disk_is_told_and_leaves_nothing_half_written(folder, digits):
    folder.write_model(model(digits).state_dict())
    folder.append_metrics({"epoch": 1, "step": 1})
    before = {path.name: path.read_bytes() for path in folder.path.iterdir()}
    with full_disk(4096):
        with pytest.raises(VaekitError, match=r"cannot write .*model.safetensors.*space"):
            folder.write_model(model(digits).state_dict())
        with pytest.raises(VaekitError, match=r"cannot write .*metrics.jsonl"):
            folder.append_metrics({"epoch": 2, "text": "x" * 8000})
    assert {path.name: path.read_bytes() for path in folder.path.iterdir()} == before


def test_weights_carry_recipe_and_contract_but_no_path(folder, digits):
    trained = model(digits)
    folder.write_model(trained.state_dict())
    with safe_open(str(folder.weights), "pt") as file:
        metadata = file.metadata()
        assert all(torch.equal(file.get_tensor(name), value) for name, value in trained.state_dict().items())
    assert tomllib.loads(metadata["recipe"])["data"]["source"] == "digits"
    assert json.loads(metadata["contract"])["hash"] == digits.contract.hash
    assert metadata["schema"] == "1" and metadata["vaekit"]
    assert b"secret" not in folder.weights.read_bytes()


def test_tied_weights_can_be_written(folder):
    shared = torch.zeros(2, 3)
    folder.write_model({"a": shared, "b": shared, "c": shared.T})
    with safe_open(str(folder.weights), "pt") as file:
        assert file.get_tensor("c").shape == (3, 2)
