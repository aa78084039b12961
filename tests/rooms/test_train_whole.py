"""A step as one compiled graph does what the step in parts does, and training goes on where it cannot be compiled."""

from __future__ import annotations

import os
import signal

import pytest
import torch
import torch._dynamo
from torch import nn
from train_kit import Line, digits, left, run, same, settings, vae

from vaekit import IWAE
from vaekit.data import Batches, Preparation
from vaekit.recipe import TrainSettings
from vaekit.train import start
from vaekit.train.automatic import decide
from vaekit.train.plan import Plan
from vaekit.train.steps import Steps
from vaekit.train.whole import fits


@pytest.fixture
def traced(monkeypatch):
    """The graph is traced whole and run by torch's own kernels, so that noise is that of the step in parts."""
    calls = []

    def plain(function, compile_=torch.compile, **how):
        calls.append(how)
        return compile_(function, backend="aot_eager", fullgraph=True)

    monkeypatch.setattr(torch, "compile", plain)
    torch._dynamo.reset()
    yield calls
    torch._dynamo.reset()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"clip": 3.0, "skip_factor": 2.0},
        {"ema": 0.9, "weight_decay": 0.1, "optimizer": "AdamW"},
        {"weight_decay": 0.1, "betas": (0.5, 0.9), "eps": 1e-4},
    ],
    ids=["plain", "clipped", "averaged and decayed", "L2"],
)
def test_in_one_piece_as_in_parts(tmp_path, traced, changes):
    # 120 rows in steps of 16 and one of 8, which is too short for the graph: the two ways take turns on one state
    how = {"epochs": 3, "drop_last": False, "batch_size": 16} | changes
    whole = run(tmp_path / "whole", settings(compile=True, **how), vae())
    assert len(traced) == 1
    parts = run(tmp_path / "parts", settings(**how), vae())
    for name, weight in parts.weights.items():
        torch.testing.assert_close(whole.weights[name], weight, rtol=1e-4, atol=1e-6, msg=name)
    for key in ("train_loss", "valid_loss", "gradient_norm"):
        assert whole.record[key] == pytest.approx(parts.record[key], rel=1e-4)


class Holed(nn.Module):
    """`Line` on whatever the batch is, not finite in steps before `until`."""

    def __init__(self, until: float) -> None:
        super().__init__()
        self.line, self.until = Line(), until

    @property
    def model(self):
        return self.line.model

    def forward(self, x, c, t):
        loss, terms = self.line(x, c, t)
        loss = loss * torch.where(t < self.until, float("nan"), 1.0)
        return loss, {**terms, "loss": loss.detach()}


def test_a_skipped_step_leaves_no_trace_in_the_graph_either(tmp_path, traced):
    how = {"epochs": 2, "batch_size": 20, "schedule": "constant", "warm_up": 0.0, "ema": 0.9}
    whole = run(tmp_path / "whole", settings(compile=True, **how), Holed(0.5))
    parts = run(tmp_path / "parts", settings(**how), Holed(0.5))
    assert whole.skipped == parts.skipped == 6
    for name, weight in parts.weights.items():
        torch.testing.assert_close(whole.weights[name], weight, rtol=1e-5, atol=1e-6, msg=name)


def test_a_compiled_run_stopped_within_an_epoch_resumes_bit_for_bit(tmp_path, traced, monkeypatch):
    how = settings(compile=True, epochs=3, drop_last=False, batch_size=16, ema=0.9)
    straight = run(tmp_path / "straight", how, vae())
    take = Steps.take

    def signalled(self, epoch, position, step):
        if step == 11:
            os.kill(os.getpid(), signal.SIGTERM)
        return take(self, epoch, position, step)

    with monkeypatch.context() as patched:
        patched.setattr(Steps, "take", signalled)
        stopped = run(tmp_path / "stopped", how, vae())
    assert (stopped.reason, stopped.steps) == ("interrupted", 12)  # of 24, the fourth of an epoch's eight
    done = run(tmp_path / "stopped", how, vae(), resume=True)
    assert done.reason == "finished"
    same(done.weights, straight.weights)


def later(draws: int = 5) -> IWAE:
    """One draw for the first half of training, then several."""
    return IWAE(vae().model, draws=draws, after=0.5)


def test_each_stage_of_an_objective_is_a_graph_of_its_own(tmp_path, traced):
    how = {"epochs": 4, "drop_last": False, "batch_size": 16, "ema": 0.9}
    whole = run(tmp_path / "whole", settings(compile=True, **how), later())
    assert len(traced) == 2
    parts = run(tmp_path / "parts", settings(**how), later())
    for name, weight in parts.weights.items():
        torch.testing.assert_close(whole.weights[name], weight, rtol=1e-4, atol=1e-6, msg=name)


def test_draws_that_come_later_are_taken_later_and_judged_by_always(tmp_path):
    how = {"epochs": 4, "batch_size": 16}
    one, many, both = (
        run(tmp_path / name, settings(**how), objective)
        for name, objective in (("one", later(1)), ("many", IWAE(vae().model, draws=5)), ("both", later()))
    )
    lines = [left(tmp_path / name)["metrics"] for name in ("one", "many", "both")]
    for key in ("train_loss", "train_elbo"):  # as with one draw in the first half, and not in the second
        assert [a[key] == b[key] for a, b in zip(lines[0], lines[2], strict=True)] == [
            True,
            True,
            False,
            False,
        ]
    # validation takes all draws from the first epoch on: it is tighter than the same weights' ELBO
    assert all(line["valid_bound"] > line["valid_elbo"] for line in lines[2])
    assert one.steps == many.steps == both.steps


def test_training_goes_on_where_the_step_cannot_be_compiled(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no compiler that works")

    monkeypatch.setattr(torch, "compile", broken)
    outcome = run(tmp_path / "whole", settings(compile=True, epochs=2), vae())
    assert any("no compiler that works" in note and "goes on without" in note for note in outcome.notes)
    same(outcome.weights, run(tmp_path / "parts", settings(epochs=2), vae()).weights)


def test_compiling_is_chosen_where_the_steps_repay_it(monkeypatch):
    def chosen(**changes):
        given = TrainSettings(device="cpu", batch_size=100, **changes)
        settings, reasons = decide(given, n_train=10_000, multiply_adds=500_000, model_tensors=10)
        return settings.compile, reasons["compile"]

    monkeypatch.setattr("vaekit.train.whole.compiler_here", lambda: True)
    assert chosen(epochs=100)[0] is True
    assert chosen(epochs=3) == (False, "300 steps; it pays from 3,500")
    assert chosen(epochs=100, compile=False) == (False, "as set")
    assert (
        chosen(epochs=100, optimizer="SGD")[0]
        is chosen(epochs=100, gradient_accumulation_steps=2)[0]
        is False
    )
    monkeypatch.setattr("vaekit.train.whole.compiler_here", lambda: False)
    assert chosen(epochs=100) == (False, "compiling needs a C++ compiler, and there is none")


@pytest.mark.long
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_inductor_writes_trains_as_the_step_in_parts(tmp_path, precision):
    # the noise is the same; and two runs in one process must not share a graph
    torch._dynamo.reset()
    how = {"epochs": 3, "batch_size": 16, "clip": 50.0, "ema": 0.9, "precision": precision}
    loose = 1e-4 if precision == "fp32" else 2e-2
    for number, make in enumerate((Line, lambda: Line(seed=1), vae)):
        whole = run(tmp_path / f"whole{number}", settings(compile=True, **how), make())
        parts = run(tmp_path / f"parts{number}", settings(**how), make())
        assert not any("failed" in note for note in whole.notes)
        for name, weight in parts.weights.items():
            torch.testing.assert_close(whole.weights[name], weight, rtol=loose, atol=loose, msg=name)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
@pytest.mark.parametrize("compile", [False, True])
def test_a_step_does_not_wait_for_the_gpu(compile):
    data = digits()
    how = settings(device="cuda", compile=compile, batch_size=16, ema=0.9, clip=10.0)
    fabric, plan = start(how), Plan.of(how, len(data.train))
    batches = Batches(data.train, data.contract, fabric.device, condition=False)
    steps = Steps(vae(), Preparation(data.contract).to(fabric.device), batches, plan, how, fabric)
    for number in range(
        3
    ):  # allocation, autotuning and compiling may wait; so may each 50th look at the buffers
        steps.take(0, number, number)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for number in range(3, 7):
            steps.take(0, number, number)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_what_a_graph_cannot_hold_stays_in_parts():
    assert fits(TrainSettings(), 1)
    assert not fits(TrainSettings(), 2)
    assert not fits(TrainSettings(optimizer="SGD"), 1)
    assert not fits(TrainSettings(gradient_accumulation_steps=2), 1)
