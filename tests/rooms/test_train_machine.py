"""What is chosen automatically, how a run is planned, several processes, and what a person is shown."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from train_kit import digits, folder_at, run, same, settings, vae

from vaekit.devices import cgroup_quota
from vaekit.errors import VaekitError
from vaekit.recipe import TrainSettings
from vaekit.train import resolve, train
from vaekit.train.automatic import decide
from vaekit.train.plan import Plan, mix
from vaekit.train.progress import Lines, clock

HERE = Path(__file__).parent


@pytest.mark.parametrize(("n", "batch"), [(1, 1), (5, 5), (40, 8), (200, 16), (1437, 128), (50_000, 128)])
def test_the_batch_suits_the_number_of_rows(n, batch):
    assert resolve(TrainSettings(), n_train=n).batch_size == batch


def test_steps_become_epochs_and_nothing_is_left_to_choose():
    chosen = resolve(TrainSettings(steps=1000, batch_size=100), n_train=1437)
    assert (chosen.epochs, chosen.steps) == (72, None)  # 14 steps an epoch, so 1,008
    assert "auto" not in chosen.model_dump(exclude={"strategy"}).values()
    assert resolve(chosen, n_train=1437) == chosen
    assert resolve(TrainSettings(steps=1000, epochs=3), n_train=1437).epochs == 3
    partial = TrainSettings(steps=15, batch_size=100, drop_last=False)
    assert resolve(partial, n_train=1437).epochs == 1  # the short step counts


def test_every_choice_has_a_reason():
    _, reasons = decide(TrainSettings(), n_train=100)
    assert {"device", "precision", "threads", "compile", "batch_size", "epochs"} <= reasons.keys()
    assert all(reasons.values())


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(VaekitError, match=r"train\.device is 'cuda', but this machine has cpu"):
        resolve(TrainSettings(device="cuda"), n_train=100)
    with pytest.raises(VaekitError, match=r"call vaekit\.train\.resolve first"):
        train(vae(), digits(), TrainSettings(), None)


@pytest.mark.parametrize(
    "wrong", [{"epoch": 3}, {"optimizer": "adam"}, {"ema": 1.5}, {"batch_size": 0}, {"clip": -1}]
)
def test_settings_refuse_what_they_do_not_know(wrong):
    with pytest.raises(ValidationError):
        TrainSettings(**wrong)


def test_threads_follow_the_cgroup(tmp_path):
    (tmp_path / "self").write_text("4:cpu,cpuacct:/job\n0::/pod/job\n")
    assert cgroup_quota(tmp_path, tmp_path / "self") is None
    (tmp_path / "pod" / "job").mkdir(parents=True)
    (tmp_path / "pod" / "job" / "cpu.max").write_text("max 100000\n")
    (tmp_path / "pod" / "cpu.max").write_text("250000 100000\n")  # the parent's limit counts
    assert cgroup_quota(tmp_path, tmp_path / "self") == 2.5
    (tmp_path / "cpu" / "job").mkdir(parents=True)
    (tmp_path / "cpu" / "job" / "cpu.cfs_quota_us").write_text("150000\n")
    (tmp_path / "cpu" / "job" / "cpu.cfs_period_us").write_text("100000\n")
    assert cgroup_quota(tmp_path, tmp_path / "self") == 1.5
    assert resolve(TrainSettings(threads=3), n_train=10).threads == 3


def test_a_small_step_is_not_shared_between_threads(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert resolve(TrainSettings(device="cpu"), n_train=2000, multiply_adds=10_000).threads == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert resolve(TrainSettings(device="cpu"), n_train=2000, multiply_adds=10_000).threads == 3


def test_the_learning_rate_warms_up_and_comes_down():
    chosen = settings(epochs=20, warm_up=0.1, learning_rate=1.0, learning_rate_floor=0.2)
    cosine = Plan.of(chosen, 120)
    assert cosine.steps == 100
    assert [round(cosine.rate(s), 6) for s in (0, 4, 9, 10)] == [0.1, 0.5, 1.0, 1.0]
    assert cosine.rate(55) == pytest.approx(0.6)
    assert 0.2 < cosine.rate(99) < 0.201
    constant = Plan.of(chosen.model_copy(update={"schedule": "constant"}), 120)
    assert constant.rate(3) == 0.4 and {constant.rate(s) for s in range(10, 100)} == {1.0}


def test_every_row_is_seen_once_an_epoch_by_one_process():
    plan = Plan.of(settings(batch_size=7, gradient_accumulation_steps=2, devices=3, drop_last=False), 120)
    order = torch.randperm(120).numpy()
    steps = [plan.rows(order, position) for position in range(plan.steps_per_epoch)]
    seen = [[part.tolist() for part in plan.shares(rows, rank)] for rows in steps for rank in range(3)]
    assert all(1 <= len(parts) <= 2 and all(0 < len(part) <= 7 for part in parts) for parts in seen)
    assert sorted(row for parts in seen for part in parts for row in part) == list(range(120))


def test_noise_differs_by_seed_purpose_step_and_rank():
    seeds = {
        mix(s, p, n, r) for s in range(3) for p in ("step", "valid") for n in range(50) for r in range(2)
    }
    assert len(seeds) == 3 * 2 * 50 * 2 and all(0 <= seed < 2**63 for seed in seeds)


def test_compile_covers_the_step_and_changes_nothing(tmp_path, monkeypatch):
    import torch._dynamo

    def traced_whole(module, compile_=torch.compile, **_):  # Fabric calls it twice
        return compile_(module, backend="aot_eager", fullgraph=True)

    monkeypatch.setattr(torch, "compile", traced_whole)
    torch._dynamo.reset()
    traced = run(tmp_path / "traced", settings(compile=True, epochs=2))
    plain = run(tmp_path / "plain", settings(epochs=2))
    assert traced.record["train_loss"] == pytest.approx(plain.record["train_loss"], rel=1e-5)
    assert "train_distortion" in traced.record
    torch._dynamo.reset()


def test_bf16_autocast_trains_and_logs_full_precision(tmp_path):
    half = run(tmp_path / "half", settings(precision="bf16", epochs=3))
    whole = run(tmp_path / "whole", settings(epochs=3))
    assert half.record["valid_loss"] == pytest.approx(whole.record["valid_loss"], rel=0.01)
    assert half.record["valid_loss"] != whole.record["valid_loss"]
    assert all(weight.dtype == torch.float32 for weight in half.weights.values())


def test_a_watcher_sees_the_model_as_it_would_be_shipped_and_cannot_end_a_run(tmp_path):
    seen = []

    def watch(epoch, model):
        assert not model.training
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        torch.randn(7)  # noise drawn here does not change what follows
        if epoch == 4:
            raise OSError("the picture is\nlost")

    outcome = run(tmp_path / "watched", settings(), on_epoch=watch)
    assert len(seen) == 4 and "the picture is lost" in outcome.notes[0] and "\n" not in outcome.notes[0]
    first = run(tmp_path / "first", settings()).weights
    same(outcome.weights, first)
    run(tmp_path / "one", settings(), on_epoch=lambda _, model: seen.append(model.state_dict()))
    same(dict(seen[-1]), first)  # the last epoch is the best one here


def test_where_there_is_no_terminal_a_plain_line_comes_now_and_then(tmp_path):
    stream = io.StringIO()
    folder = folder_at(tmp_path)
    train(vae(), digits(), settings(), folder, progress=Lines(stream))
    lines = [line for line in stream.getvalue().splitlines() if not line.startswith("doctor: ")]
    assert len(lines) == 2 and lines[0].startswith("epoch 1/6 · reconstruction ")
    assert all(word in lines[1] for word in ("epoch 6/6", "KL", "nats", "validation", "images/s"))
    assert [clock(s) for s in (7.6, 185, 3729)] == ["8 s", "3:05", "1:02:09"]
