"""Several processes are one run: the same weights, one voice, and an end that says how to go on."""

from __future__ import annotations

import os
import re
import signal
import statistics
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from train_kit import digits, folder_at, left, run, same, settings, vae

from commands_kit import refused
from vaekit.errors import VaekitError
from vaekit.likelihoods import BinomialLikelihood
from vaekit.model import VAE
from vaekit.nets import MLP
from vaekit.objectives import ELBO
from vaekit.posteriors import PointPosterior
from vaekit.priors import StandardPrior
from vaekit.recipe import TrainSettings
from vaekit.train import resolve
from vaekit.train.plan import Plan

HERE = Path(__file__).parent
# 120 rows in steps of 32, the last of 24; 61 validation rows, so that shares are unequal
HOW = {"epochs": 3, "drop_last": False, "clip": 20.0, "ema": 0.9, "gradient_accumulation_steps": 2}
NOISY = {"epochs": 40, "learning_rate": 1e-2}


def point(seed: int = 0) -> ELBO:
    """An autoencoder of the digits: no noise anywhere. A learned scale apart, parameters of every shape."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        posterior = PointPosterior(MLP((1, 8, 8), (4,), hidden=(15,)))
        likelihood = BinomialLikelihood(MLP((4,), (1, 8, 8), hidden=(15,)), levels=16)
        return ELBO(VAE(StandardPrior(4), posterior, likelihood), beta=0.0)


def environment() -> dict[str, str]:
    """As a person's: nothing of another launcher in it."""
    kept = {name: value for name, value in os.environ.items() if "RANK" not in name and "MASTER" not in name}
    return kept | {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)]), "OMP_NUM_THREADS": "1"}


def script(path: Path, text: str) -> Path:
    path.write_text(
        "import os, signal, sys\n"
        "from test_train_processes import *\n"
        "from test_train_resume import Signals\n"
        "from vaekit.train import start\n" + textwrap.dedent(text)
    )
    return path


def done(command: list[object], where: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run it in a process of its own, which starts others."""
    ended = subprocess.run(
        [sys.executable, *map(str, command)], cwd=where, env=environment(), capture_output=True, text=True, timeout=150
    )  # fmt: skip
    assert ended.returncode == code, ended.stderr
    return ended


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Folders of runs by two gloo processes: without noise, interrupted and resumed, and with noise; ddp and fsdp."""
    folder = tmp_path_factory.mktemp("two")
    told = done([script(folder / "two.py", f"""
        from vaekit.train import sharded
        sharded.share_out.__defaults__ = (500,)  # layers so small are gathered one by one
        for path, first, then in (("ddp", "ddp", "ddp"), ("fsdp", "fsdp", "fsdp"), ("switched", "ddp", "fsdp")):
            chosen, data = settings(batch_size=8, devices=2, strategy=first, **{HOW!r}), digits(valid=61)
            fabric = start(chosen)
            # a signal to the second process alone, in its third step: all stop at the end of the epoch's steps
            signals = Signals(point(), 6 if fabric.global_rank else 0, signal.SIGTERM)
            stopped = run(path, chosen, signals, data, fabric=fabric)
            assert (stopped.reason, stopped.epochs, stopped.steps) == ("interrupted", 0, 4), stopped
            chosen, objective = chosen.model_copy(update={{"strategy": then}}), Signals(point(), 0, 0)
            ended = run(path, chosen, objective, data, fabric=start(chosen), resume=True)
            assert ended.reason == "finished", ended
            if fabric.global_rank == 0:  # of shared-out weights, too, the caller's objective is left with the last
                torch.save(objective.objective.state_dict(), path + "/last.pt")
        for strategy in ("ddp", "fsdp"):
            chosen = settings(batch_size=12, devices=2, strategy=strategy, **{NOISY!r})
            run("noisy-" + strategy, chosen, vae(), digits(), fabric=start(chosen))
        """)], folder)  # fmt: skip
    assert (
        "find_unused_parameters" not in told.stderr
    )  # torch says so where every step is searched for nothing
    return folder


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """One process with the doubled batch: its outcome, and the objective it was left with."""
    objective = point()
    where = tmp_path_factory.mktemp("one") / "r"
    return run(where, settings(batch_size=16, **HOW), objective, digits(valid=61)), objective


@pytest.mark.parametrize("strategy", ["ddp", "fsdp", "switched"])
def test_two_processes_equal_one_with_the_doubled_batch_even_if_interrupted(two, one, strategy):
    outcome, objective = one
    shipped, last = load_file(two / strategy / "model.safetensors"), torch.load(two / strategy / "last.pt")
    for name, weight in outcome.weights.items():
        torch.testing.assert_close(shipped[name], weight, rtol=1e-5, atol=1e-6)
    for name, weight in objective.state_dict().items():
        torch.testing.assert_close(last[name], weight, rtol=1e-5, atol=1e-6)
    lines = folder_at(two / strategy).read_metrics()
    assert len(lines) == 3
    for key in ("train_loss", "valid_loss", "gradient_norm"):
        assert lines[-1][key] == pytest.approx(outcome.record[key], rel=1e-5)


def test_with_noise_two_processes_end_within_the_spread_over_seeds(two, tmp_path):
    ends = [run(tmp_path / str(s), settings(batch_size=24, seed=s, **NOISY)).best_value for s in range(5)]
    mean, spread = statistics.mean(ends), statistics.stdev(ends)
    for strategy in ("ddp", "fsdp"):
        value = min(line["valid_loss"] for line in folder_at(two / f"noisy-{strategy}").read_metrics())
        assert abs(value - mean) < 3 * spread, (value, ends)


@pytest.mark.long
def test_one_process_that_holds_its_only_part_is_plain_training(tmp_path):
    ended = done([script(tmp_path / "alone.py", """
        plain = run("plain", settings())
        chosen = settings(strategy="fsdp")
        shared = run("shared", chosen, fabric=start(chosen))
        for name, weight in plain.weights.items():
            torch.testing.assert_close(shared.weights[name], weight, rtol=1e-5, atol=1e-6)
        """)], tmp_path)  # fmt: skip
    assert not ended.stderr


def runs(where: Path, strategy: str, *wanted: str, after: int = 0, code: int = 0) -> list[str]:
    """Runs by two processes, resumed where they exist; the second kills itself in step `after`; stderr."""
    text = script(where / "runs.py", """
        strategy, after, *wanted = sys.argv[1:]
        chosen = settings(batch_size=12, devices=2, strategy=strategy, checkpoint_every=3)
        fabric = start(chosen)
        for path in wanted:
            found = os.path.exists(path)
            fabric.barrier()
            objective = Signals(vae(), int(after) if fabric.global_rank == 1 else 0, signal.SIGKILL)
            try:
                run(path, chosen, objective, fabric=fabric, resume=found)
            except VaekitError as error:
                sys.exit("" if error.aloud is False else str(error))
        """)  # fmt: skip
    return done([text, strategy, after, *wanted], where, code).stderr.splitlines()


@pytest.mark.long
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_killed_process_ends_the_run_in_one_line_and_a_resume_goes_on_as_if_nothing_had_been(
    tmp_path, strategy
):
    (line,) = runs(tmp_path, strategy, "r", after=9, code=1)  # of five steps an epoch
    assert line.startswith("process 1 was killed by SIGKILL") and " at step 8; " in line
    assert line.endswith("last.ckpt holds the state after step 6; go on with: vaekit train --resume r")
    assert torch.load(tmp_path / "r" / "last.ckpt", weights_only=True)["step"] == 6
    assert not runs(tmp_path, strategy, "r", "whole")
    same(left(tmp_path / "r"), left(tmp_path / "whole"))


def members(of: int) -> dict[str, int]:
    """Process ids by local rank, of what a process has started, and what that has."""
    table = subprocess.run(["ps", "-Ao", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(pid): int(parent) for pid, parent in map(str.split, table.splitlines())}
    found = {}
    for pid, parent in parents.items():
        if of in (pid, parent):
            words = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
            ranks = [word.partition("=")[2] for word in words if word.startswith("LOCAL_RANK=")]
            found |= {rank: pid for rank in ranks}
    return {"0": of} | found


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for the processes in /proc")
@pytest.mark.parametrize(
    ("launcher", "rank"), [("command", "1"), ("command", "0"), ("torchrun", "0"), ("torchrun", "1")]
)
def test_whichever_process_is_killed_one_line_says_how_to_go_on(tmp_path, launcher, rank):
    train = ["-m", "vaekit", "train", "-o", "r", "--device", "cpu", "--set", "train.epochs=4000"]
    if launcher == "torchrun":
        train = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *train]
    else:
        train += ["--devices", "2", "--strategy", "fsdp"]
    process = subprocess.Popen(
        [sys.executable, *train], cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch 1/"):
            break
    while not (tmp_path / "r" / "last.ckpt").exists() and process.poll() is None:
        time.sleep(0.05)
    started = members(process.pid)
    os.kill(started[rank], signal.SIGKILL)
    said = process.stderr.read().splitlines()  # which ends when the last of them has
    assert process.wait(timeout=60) != 0
    (line,) = [line for line in said if line.startswith("vaekit: ")]
    step = re.search(
        r"last\.ckpt holds the state after step (\d+); go on with: vaekit train --resume r$", line
    )
    assert step is not None, line
    assert launcher == "torchrun" or said == [line]  # torchrun has much to say of its own
    assert torch.load(tmp_path / "r" / "last.ckpt", weights_only=True)["step"] == int(step[1])


@pytest.mark.long
def test_the_reason_of_a_process_that_fails_alone_is_what_is_said(tmp_path):
    text = script(tmp_path / "fails.py", """
        class Full(Signals):
            def forward(self, x, c, t):
                self.left -= self.training
                if self.training and self.left == 0:
                    raise MemoryError("not enough memory")
                return self.objective(x, c, t)

        chosen = settings(batch_size=12, devices=2)
        fabric = start(chosen)
        try:
            run("r", chosen, Full(vae(), 9 if fabric.global_rank else 0, 0), fabric=fabric)
        except VaekitError as error:
            sys.exit("" if error.aloud is False or fabric.global_rank else str(error))
        """)  # fmt: skip
    (line,) = [line for line in done([text], tmp_path, 1).stderr.splitlines() if line]
    assert (
        line.startswith("process 1: training failed at step 9 (epoch 2), 24 rows") and "out of memory" in line
    )
    assert line.endswith("go on with: vaekit train --resume r")


def test_a_long_epoch_does_not_keep_a_checkpoint_waiting(tmp_path, monkeypatch):
    from vaekit.train import checkpoint

    monkeypatch.setattr(checkpoint, "LATEST", 0.0)
    monkeypatch.setattr(checkpoint, "SHARE", 0)
    seen = []

    class Looking(type(vae())):
        def forward(self, x, c, t):
            path = tmp_path / "r" / "last.ckpt"
            seen.append(torch.load(path, weights_only=True)["step"] if path.exists() else 0)
            return super().forward(x, c, t)

    objective = vae()
    objective.__class__ = Looking
    run(tmp_path / "r", settings(epochs=2), objective, digits(valid=0))
    assert seen == list(range(10))


def test_every_process_takes_as_many_micro_batches_as_the_others_or_knows_how_many_they_take():
    plan = Plan.of(settings(batch_size=7, gradient_accumulation_steps=2, devices=3, drop_last=False), 121)
    for position in range(plan.steps_per_epoch):
        rows = plan.rows(np.arange(121), position)
        assert plan.micro_steps(rows) == max(len(plan.shares(rows, rank)) for rank in range(3))


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--nodes", "2"], ["train.nodes is 2", "MASTER_ADDR", "NODE_RANK", "torchrun"]),
        (["--devices", "0"], ["--devices"]),
        (["--strategy", "zero"], ["--strategy"]),
        (["--resume", "r", "--devices", "2"], ["--devices"]),
    ],
)
def test_bad_flags_are_one_line(capsys, tmp_path, monkeypatch, flags, expected):
    monkeypatch.chdir(tmp_path)
    line = refused(capsys, "train", *flags)
    assert all(part in line for part in expected), line
    assert not list(tmp_path.iterdir())


def test_a_node_must_be_one_of_them(monkeypatch):
    for name, value in {"MASTER_ADDR": "a", "MASTER_PORT": "29500", "NODE_RANK": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(VaekitError, match=r"NODE_RANK is '2', but train.nodes is 2; give 0 to 1"):
        resolve(TrainSettings(nodes=2), n_train=100)


def test_torchrun_is_not_contradicted(monkeypatch):
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    chosen = resolve(TrainSettings(device="cpu"), n_train=1000)
    assert (chosen.devices, chosen.nodes) == (2, 2)
    assert resolve(chosen, n_train=1000) == chosen
    with pytest.raises(VaekitError, match="torchrun has started 2 processes on each of 2"):
        resolve(TrainSettings(devices=3), n_train=1000)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_more_gpus_than_there_are_is_one_line():
    count = torch.cuda.device_count()
    with pytest.raises(
        VaekitError, match=f"train.devices is {count + 1}, but this machine has {count} of cuda"
    ):
        resolve(TrainSettings(devices=count + 1, device="cuda"), n_train=1000)
