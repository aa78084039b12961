"""The number of threads follows what others leave of the cores; how OpenMP waits is chosen before torch is loaded."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from vaekit import __main__ as door
from vaekit.train import company

TICKS = os.sysconf("SC_CLK_TCK")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Two cores whose counters we write: `pass_by(seconds, own, others)`."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setenv("GOMP_SPINCOUNT", "10000")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    clock = {"wall": 0.0, "own": 0.0, "busy": 0.0}
    monkeypatch.setattr(company.time, "monotonic", lambda: clock["wall"])
    monkeypatch.setattr(company.time, "process_time", lambda: clock["own"])
    stat = tmp_path / "stat"

    def pass_by(seconds: float, own: float, others: float) -> None:
        clock["wall"] += seconds
        clock["own"] += own
        clock["busy"] += own + others
        half = int(clock["busy"] * TICKS / 2)
        # core 2 is busy with something else, and none of our affair
        stat.write_text(
            f"cpu  9 9 9 9\ncpu0 {half} 0 0 5 0 0 0 0\ncpu1 {half} 0 0 5 0 0 0 0\ncpu2 99999 0 0 0 0 0 0 0\nintr 5\n"
        )

    pass_by(0, 0, 0)
    yield stat, pass_by
    torch.set_num_threads(before)


def test_a_neighbour_takes_a_thread_and_gives_it_back_once_it_has_gone(machine):
    stat, pass_by = machine
    watch = company.Company(2, stat)

    def after(seconds, own, others):
        pass_by(seconds, own, others)
        watch.look()
        return torch.get_num_threads()

    assert after(0.5, own=1.0, others=0.0) == 2
    assert after(0.1, own=0.1, others=0.1) == 2  # too short a time to tell
    assert after(0.5, own=0.6, others=0.5) == 1
    assert after(0.5, own=0.5, others=0.5) == 1
    quiet = [after(0.5, own=0.5, others=0.02) for _ in range(4)]
    assert quiet == [1, 1, 1, 2]  # not at the first gap


def test_threads_that_sleep_or_are_one_or_cannot_be_told_are_left_alone(machine, monkeypatch, tmp_path):
    stat, pass_by = machine
    alone, untold = company.Company(1, stat), company.Company(2, tmp_path / "no such file")
    monkeypatch.setenv("GOMP_SPINCOUNT", "0")
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    sleeping = company.Company(2, stat)
    pass_by(1.0, own=1.0, others=1.0)
    for watch in (alone, untold, sleeping):
        watch.look()
        assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    ("given", "arguments", "policy", "spin"),
    [
        ({}, ["train", "digits"], "PASSIVE", "10000"),
        ({}, ["evaluate", "run"], "PASSIVE", None),  # nothing there looks out for the neighbours
        ({"OMP_WAIT_POLICY": "ACTIVE"}, ["train"], "ACTIVE", None),
        ({"GOMP_SPINCOUNT": "7"}, ["train"], None, "7"),
    ],
)
def test_how_threads_wait(monkeypatch, given, arguments, policy, spin):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    door.choose_waiting(arguments)
    assert (os.environ.get("OMP_WAIT_POLICY"), os.environ.get("GOMP_SPINCOUNT")) == (policy, spin)
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)


THREADS = """
import sys, tempfile, torch, pathlib
sys.path[:0] = sys.argv[1:2]
from train_kit import run, settings
from vaekit import ELBO, MLP, VAE, BinomialLikelihood, GaussianPosterior, StandardPrior
torch.manual_seed(0)
wide = dict(hidden=(1024, 1024))  # wide enough for torch to divide its rows
posterior, net = GaussianPosterior(MLP((1, 8, 8), (8,), **wide)), MLP((4,), (1, 8, 8), **wide)
objective = ELBO(VAE(StandardPrior(4), posterior, BinomialLikelihood(net, levels=16)))
chosen = settings(threads=int(sys.argv[2]), epochs=2, clip=3.0, batch_size=60)
out = run(pathlib.Path(tempfile.mkdtemp()) / "r", chosen, objective)
from safetensors.torch import save_file
save_file(out.weights, sys.argv[3])
"""


def test_the_number_of_threads_changes_weights_by_rounding_at_most(tmp_path):
    # to the bit with oneDNN on AVX-512; other libraries may divide a sum among threads
    for threads in ("1", "2"):
        environment = {**os.environ, "OMP_NUM_THREADS": threads}
        command = [sys.executable, "-c", THREADS, os.path.dirname(__file__), threads, str(tmp_path / threads)]
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    one, two = load_file(tmp_path / "1"), load_file(tmp_path / "2")
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-4, atol=1e-6, msg=name)
