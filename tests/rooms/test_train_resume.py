"""A run stopped anywhere and resumed equals the uninterrupted one, bit for bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from train_kit import digits, folder_at, left, run, same, settings, vae

from vaekit.errors import VaekitError
from vaekit.train.best import Best
from vaekit.train.plan import Plan

HERE = Path(__file__).parent


class Signals(torch.nn.Module):
    """Passes everything on to an objective, and sends this process a signal inside a chosen forward pass."""

    def __init__(self, objective, after: int, number: int, validating: bool = False) -> None:
        super().__init__()
        self.objective, self.model = objective, objective.model
        self.left, self.number, self.validating = after, number, validating

    def initialise(self, x, c, n_data):
        self.objective.initialise(x, c, n_data)

    def forward(self, x, c, t):
        if self.training != self.validating:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), self.number)
        return self.objective(x, c, t)


def wrapped():
    """The same wrapper, never firing: names of the weights must be those of the interrupted run."""
    return Signals(vae(), 0, 0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "run"
    assert run(path, objective=wrapped()).reason == "finished"
    return left(path)


@pytest.mark.parametrize("step", [1, 4, 5, 6, 17, 29, 30])
def test_a_run_interrupted_after_any_step_resumes_bit_for_bit(tmp_path, whole, step):
    before = signal.getsignal(signal.SIGINT)
    number = signal.SIGINT if step % 2 else signal.SIGTERM
    stopped = run(tmp_path, objective=Signals(vae(), step, number))
    assert (stopped.reason, stopped.steps, stopped.signal) == ("interrupted", step, number.name)
    assert f"--resume {tmp_path}" in stopped.notes[-1]
    assert signal.getsignal(signal.SIGINT) is before
    resumed = run(tmp_path, objective=wrapped(), resume=True)
    assert resumed.reason == "finished" and resumed.steps == 30
    same(left(tmp_path), whole)


def test_a_signal_during_validation_loses_nothing(tmp_path, whole):
    # The average is a copy of the objective, and it is the one that is validated: three epochs, two batches
    # each.
    stopped = run(tmp_path, objective=Signals(vae(), 5, signal.SIGINT, validating=True))
    assert stopped.reason == "interrupted" and (stopped.steps, stopped.epochs) == (15, 2)
    run(tmp_path, objective=wrapped(), resume=True)
    same(left(tmp_path), whole)


CHOICES = {
    "sgd, accumulation, a short last step": {
        "optimizer": "SGD", "gradient_accumulation_steps": 2, "batch_size": 13, "drop_last": False,
        "learning_rate": 1e-4,
    },
    "adam, no average": {"optimizer": "Adam", "ema": None, "weight_decay": 0.01, "betas": (0.5, 0.9)},
    "validation every other epoch": {"validate_every": 2, "schedule": "constant", "skip_factor": 1.01},
}  # fmt: skip


@pytest.mark.parametrize("choice", CHOICES)
def test_every_kind_of_state_is_resumed(tmp_path, choice):
    chosen = settings(**CHOICES[choice], epochs=4)
    run(tmp_path / "whole", chosen, wrapped())
    run(tmp_path / "parts", chosen, Signals(vae(), 11, signal.SIGTERM))
    run(tmp_path / "parts", chosen, Signals(vae(), 4, signal.SIGTERM), resume=True)
    assert run(tmp_path / "parts", chosen, wrapped(), resume=True).reason == "finished"
    same(left(tmp_path / "parts"), left(tmp_path / "whole"))


def test_without_validation_rows_too(tmp_path):
    data, chosen = digits(valid=0), settings(patience=None)
    run(tmp_path / "whole", chosen, wrapped(), data)
    run(tmp_path / "parts", chosen, Signals(vae(), 8, signal.SIGINT), data)
    run(tmp_path / "parts", chosen, wrapped(), data, resume=True)
    same(left(tmp_path / "parts"), left(tmp_path / "whole"))


def test_kill_9_mid_epoch_and_before_the_first_checkpoint(tmp_path, whole):
    script = textwrap.dedent("""
        import signal, sys
        from test_train_resume import Signals
        from train_kit import run, settings, vae
        every = int(sys.argv[3]) or None
        run(sys.argv[1], settings(checkpoint_every=every), Signals(vae(), int(sys.argv[2]), signal.SIGKILL))
    """)
    cases = {
        "early": (3, 0),
        "mid": (14, 4),
    }  # the second leaves a checkpoint of step 12, two steps into an epoch
    killed = {
        name: subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / name), str(step), str(every)], cwd=HERE
        )
        for name, (step, every) in cases.items()
    }
    assert [process.wait(timeout=120) for process in killed.values()] == [-signal.SIGKILL] * 2
    assert not (tmp_path / "early" / "last.ckpt").exists()
    for name, (_, every) in cases.items():
        chosen = settings(checkpoint_every=every or None)
        resumed = run(tmp_path / name, chosen, wrapped(), resume=True)
        assert resumed.reason == "finished"
        got = left(tmp_path / name)
        got["state"]["settings"]["checkpoint_every"] = None
        same(got, whole)
        assert ("afresh" in " ".join(resumed.notes)) == (name == "early")


def test_what_is_newer_than_the_checkpoint_is_dropped(tmp_path, whole):
    run(tmp_path, objective=Signals(vae(), 12, signal.SIGINT))
    folder = folder_at(tmp_path)
    folder.append_metrics({"epoch": 3, "step": 15, "train_loss": 1.0})
    folder.write_model({name: torch.zeros_like(w) for name, w in wrapped().model.state_dict().items()})
    run(tmp_path, objective=wrapped(), resume=True)
    same(left(tmp_path), whole)


def test_after_the_last_epoch_there_is_nothing_to_do(tmp_path, whole):
    run(tmp_path, objective=wrapped())
    (
        tmp_path / "model.safetensors"
    ).unlink()  # killed before the pictures, or tidied away: it is in the checkpoint
    again = run(tmp_path, objective=wrapped(), resume=True)
    assert (again.reason, again.steps) == ("nothing to do", 30)
    same(left(tmp_path), whole)
    same(again.weights, whole["model"])


def test_more_epochs_extend_a_run_and_plan_its_schedule_anew(tmp_path, whole):
    run(tmp_path / "a", objective=wrapped())
    longer = settings(epochs=9)
    extended = run(tmp_path / "a", longer, wrapped(), resume=True)
    assert extended.reason == "finished" and (extended.epochs, extended.steps) == (9, 45)
    assert "9 epochs instead of 6" in extended.notes[0] and "anew" in extended.notes[0]
    lines = left(tmp_path / "a")["metrics"]
    assert lines[:6] == whole["metrics"]
    assert [line["learning_rate"] for line in lines[6:]] == [
        Plan.of(longer, 120).rate(s) for s in (34, 39, 44)
    ]
    # An extension that is itself interrupted still resumes exactly, and is announced once.
    run(tmp_path / "b", objective=wrapped())
    run(tmp_path / "b", longer, Signals(vae(), 7, signal.SIGINT), resume=True)
    assert run(tmp_path / "b", longer, wrapped(), resume=True).notes == ()
    same(left(tmp_path / "b"), left(tmp_path / "a"))


def test_a_run_that_ran_out_of_patience_stays_stopped_until_extended(tmp_path):
    chosen = settings(learning_rate=1e-12, ema=None, patience=2, warm_up=0.0, schedule="constant")
    first = run(tmp_path, chosen, wrapped())
    assert first.reason == "stopped early" and first.epochs < 6
    assert run(tmp_path, chosen, wrapped(), resume=True).reason == "nothing to do"
    more = run(tmp_path, chosen.model_copy(update={"epochs": 20}), wrapped(), resume=True)
    assert more.epochs > first.epochs


def test_the_best_is_told_from_weights_that_are_still_there():
    newest = Best(None, "last")
    for epoch, loss in enumerate((3.0, 1.0, 2.0), 1):
        newest.judge(epoch, loss, lambda epoch=epoch: {"w": torch.tensor(float(epoch))})
    best = Best(None, "best")
    best.load_state_dict(newest.state_dict())
    best.judge(4, 1.5, lambda: {"w": torch.tensor(4.0)})
    assert (best.epoch, best.value, best.weights) == (4, 1.5, {"w": torch.tensor(4.0)})


def test_a_finished_run_cannot_ship_other_weights_than_it_kept(tmp_path):
    import vaekit

    made = vaekit.fit("digits", output=tmp_path / "r", set=["train.epochs=2", "train.pictures=false"])
    before = (made.path / "model.safetensors").read_bytes()
    with pytest.raises(VaekitError, match=r"finished with keep 'best', .* ask for more epochs"):
        vaekit.resume(made.path, set=["train.keep=last"])
    assert vaekit.load(made.path).recipe.train.keep == "best"
    again = vaekit.resume(made.path, set=["train.keep=last", "train.epochs=3"])
    assert again.recipe.train.keep == "last" and (made.path / "model.safetensors").read_bytes() != before


def test_a_full_disk_is_one_line_and_the_last_checkpoint_stays(tmp_path):
    import resource

    run(tmp_path, settings(epochs=2), wrapped())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # What may be written is more than a model and less than a checkpoint.
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before["model.safetensors"]) + 5000, hard))
    try:
        with pytest.raises(VaekitError, match=r"^cannot write .*last\.ckpt: .*free some space") as caught:
            run(tmp_path, settings(epochs=3), wrapped(), resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == before.keys()
    assert (tmp_path / "last.ckpt").read_bytes() == before["last.ckpt"]
    assert run(tmp_path, settings(epochs=3), wrapped(), resume=True).epochs == 3


def test_what_cannot_be_resumed_says_why_and_changes_nothing(tmp_path):
    run(tmp_path, settings(epochs=2), wrapped())
    before = (tmp_path / "metrics.jsonl").read_text()
    with pytest.raises(VaekitError, match="batch_size was 24 and is now 12"):
        run(tmp_path, settings(epochs=3, batch_size=12), wrapped(), resume=True)
    with pytest.raises(VaekitError, match="trained on 120 rows, the data now has 119"):
        run(tmp_path, settings(epochs=3), wrapped(), digits(n=119), resume=True)
    checkpoint = tmp_path / "last.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:2000])
    with pytest.raises(VaekitError, match=r"last\.ckpt cannot be read .* damaged"):
        run(tmp_path, settings(epochs=3), wrapped(), resume=True)
    assert (tmp_path / "metrics.jsonl").read_text() == before
