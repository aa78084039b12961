"""What the train tests share: small real runs, and a run folder read back the way a user would."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from vaekit.data import Contract, Data, Split
from vaekit.likelihoods import BinomialLikelihood
from vaekit.model import VAE
from vaekit.nets import MLP
from vaekit.objectives import ELBO
from vaekit.posteriors import GaussianPosterior
from vaekit.priors import StandardPrior
from vaekit.recipe import TrainSettings
from vaekit.run import RunFolder
from vaekit.train import Outcome, resolve, train


def folder_at(path: Path) -> RunFolder:
    """A run folder as `vaekit.fit` leaves it before training."""
    folder = RunFolder(path)
    if not folder.recipe.exists():
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.recipe.write_text('[recipe]\nname = "test"\n')
        folder.write_contract(digits().contract)
    return folder


def digits(n: int = 120, valid: int = 60) -> Data:
    """Real digits, 8x8, counts of ink 0..16."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x, label = bunch.images.astype(np.uint8)[:, None], bunch.target.astype(np.int64)
    contract = Contract(
        source="digits", shape=(1, 8, 8), kind="levels", low=0, high=16, levels=16, offset=(0.0,),
        divisor=(16.0,), dtype="uint8", labels=tuple("0123456789"), rows={"train": n, "valid": valid},
    )  # fmt: skip
    held = Split(x[n : n + valid], label[n : n + valid], "valid") if valid else None
    return Data(contract, Split(x[:n], label[:n], "train"), held)


def vae(seed: int = 0, condition: int = 0) -> ELBO:
    """A small VAE of the digits, its weights a function of the seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        posterior = GaussianPosterior(MLP((1, 8, 8), (8,), hidden=(16,), condition=condition))
        likelihood = BinomialLikelihood(MLP((4,), (1, 8, 8), hidden=(16,), condition=condition), levels=16)
        return ELBO(VAE(StandardPrior(4), posterior, likelihood), warm_up=0.5)


class Line(nn.Module):
    """A noiseless objective, 0.5 |W x - x|^2: what a batch gives can be worked out from its parts."""

    def __init__(self, features: int = 64, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.net = nn.Linear(features, features)
        self.model = self.net

    def initialise(self, x, c, n_data):
        """Nothing to start from."""

    def forward(self, x, c, t):
        loss = 0.5 * (self.net(x.flatten(1)) - x.flatten(1)).square().sum(1).mean()
        return loss, {"loss": loss.detach()}


def settings(**changes) -> TrainSettings:
    """Six epochs of five steps on `digits()`, everything that carries state switched on."""
    base = {
        "epochs": 6, "batch_size": 24, "ema": 0.9, "patience": 50, "clip": 5.0, "skip_factor": 10.0,
        "device": "cpu", "threads": 1, "learning_rate": 3e-3,
    }  # fmt: skip
    return resolve(TrainSettings(**{**base, **changes}), n_train=120)


def run(path: Path, chosen: TrainSettings | None = None, objective=None, data=None, **how) -> Outcome:
    """Train quietly into `path`."""
    with torch.random.fork_rng():
        return train(
            objective or vae(), data or digits(), chosen or settings(), folder_at(path), progress=False, **how
        )


def left(path: Path) -> dict:
    """All that a run left that does not depend on the clock: metrics, the best model, the checkpoint."""
    lines = [{k: v for k, v in record.items() if k != "time"} for record in RunFolder(path).read_metrics()]
    state = torch.load(path / "last.ckpt", weights_only=True)
    return {"metrics": lines, "model": load_file(path / "model.safetensors"), "state": state}


def same(a, b, where: str = "") -> None:
    """Equal bit for bit, however deep."""
    assert type(a) is type(b), f"{where}: {type(a)} and {type(b)}"
    if isinstance(a, torch.Tensor):
        assert a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), f"{where}: {list(a)} and {list(b)}"
        for key in a:
            same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), f"{where}: {len(a)} and {len(b)} entries"
        for i, (first, second) in enumerate(zip(a, b, strict=True)):
            same(first, second, f"{where}[{i}]")
    else:
        assert a == b, f"{where}: {a} and {b}"


def interrupt_when(file: Path) -> threading.Thread:
    """Ctrl-C as soon as a file holds something."""

    def wait() -> None:
        while not (file.exists() and file.stat().st_size):
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread
