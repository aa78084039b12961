"""What every test shares: one thread, a cache of its own, and one small trained run."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread a test worker: the workers share the cores

import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

# A shell's background job starts with Ctrl-C ignored, and so would every process that a test starts and interrupts.
if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    and threading.current_thread() is threading.main_thread()
):
    signal.signal(signal.SIGINT, signal.default_int_handler)

REAL = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def noise():
    """Every test draws the same noise, whichever tests ran before it in its worker."""
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """Decoded images go to a folder of this session."""
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("VAEKIT_CACHE")
    os.environ["VAEKIT_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["VAEKIT_CACHE"]
    else:
        os.environ["VAEKIT_CACHE"] = before


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory):
    """A run on the digits, latent 2, trained for a few epochs by the command line; its folder."""
    from vaekit.__main__ import run

    folder = tmp_path_factory.mktemp("runs") / "digits"
    code = run(
        ["train", "digits", "-o", str(folder), "--latent", "2", "--seed", "1", "--set", "train.epochs=8"]
    )
    assert code == 0
    return folder


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium, network off (`browser_kit`); the test is skipped where there is none."""
    from browser_kit import started

    with started() as running:
        yield running


@pytest.fixture
def pictures(tmp_path) -> Path:
    """A folder of two classes of small PNGs, drawn from the digits."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    folder = tmp_path / "pictures"
    for label in (0, 1):
        (folder / f"class-{label}").mkdir(parents=True)
        for i, x in enumerate(digits.images[digits.target == label][:40]):
            Image.fromarray((x * 15.9).astype(np.uint8)).save(folder / f"class-{label}" / f"{i:02d}.png")
    return folder
