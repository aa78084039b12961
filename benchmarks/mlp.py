"""torch-mlp on MNIST: images a second of vaekit, of Pythae 0.1.2 and of careful hand-written torch, and the limit.

    python benchmarks/mlp.py ../shared/data/mnist [--rounds 5] [--variants] [--peers DIR] [--json FILE]

The same work for all: 784-400-20-400-784, ReLU, Adam at 1e-3, batches of 128 of the same 50,000 images as grey values,
cross-entropy summed over pixels + KL. Four epochs: the first warms up (it compiles, where there is something to compile)
and is not counted; images a second are those of the three after it, their steps alone: validation, pictures, checkpoints
and logging are outside for all alike. vaekit is the command line itself, compiled as it is for the recipe's
30 epochs, its time what it writes into metrics.jsonl.
Each turn is a process of its own, all ways in turn, and the ratios are taken round by round. The loss is the mean over
the last epoch.

By hand: an index of a resident uint8 tensor a batch, fused Adam, bf16 autocast, torch.compile; without compile; in fp32;
and fp32 as tutorials write it, DataLoader over a TensorDataset. Each and Pythae (its own trainer, its own defaults) with
one thread and with two in the first round: the better goes on for it. The limit: 3.3 MFLOP an image over the rate of the
bf16 products of a step at these shapes, timed in the same round on as many threads as vaekit uses.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import peers
import rounds
from rounds import Result

EPOCHS, BATCH, N = 4, 128, 50_000
LAYERS = [(784, 400), (400, 40), (20, 400), (400, 784)]  # mean and log-variance in one
HAND = ("hand, compiled bf16", "hand, bf16", "hand, fp32", "hand, fp32, DataLoader")
CHOSEN = ["train.compile=true"]  # what the recipe's own 30 epochs choose; four would not repay it
VARIANTS = {
    "vaekit, eager fp32": ["train.precision=fp32", "train.compile=false"],
    "vaekit, eager bf16": ["train.precision=bf16", "train.compile=false"],
    "vaekit, compiled fp32": ["train.precision=fp32", "train.compile=true"],
    "vaekit, compiled bf16": ["train.precision=bf16", "train.compile=true"],
}


# -- the ways, each in a process of its own


def vaekit(data: Path, overrides: list[str], passive: bool) -> Result:
    """The command line; the steps' seconds of each epoch and the loss are those of metrics.jsonl."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        settings = [f"train.epochs={EPOCHS}", "train.pictures=false", *overrides]
        words = [word for setting in settings for word in ("--set", setting)]
        command = [sys.executable, __file__, str(data), "--child", "vaekit", "--file", str(run), *words]
        return rounds.child(command, None, passive)


def vaekit_child(data: str, run: str, settings: list[str]) -> Result:
    rounds.train_by_command(data, "torch-mlp", run, settings)
    lines = [json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text().splitlines()]
    resolved = (Path(run) / "recipe.toml").read_text()
    shown = [line for line in resolved.splitlines() if line.startswith(("precision", "compile", "threads"))]
    threads = next(int(line.split("=")[1]) for line in shown if line.startswith("threads"))
    result = counted([line["time"]["seconds"] for line in lines], lines[-1]["train_loss"])
    return result | {"settings": ", ".join(shown), "threads": threads}


def counted(seconds: list[float], loss: float) -> Result:
    """Images a second over the epochs after the first."""
    return {"rate": N * (len(seconds) - 1) / sum(seconds[1:]), "first_epoch": seconds[0], "loss": loss}


def pythae_child(file: str) -> Result:
    import numpy as np
    import torch
    from pythae.data.datasets import BaseDataset
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from pythae_mlp import torch_mlp

    torch.manual_seed(0)
    data = torch.from_numpy(np.load(file).reshape(-1, 1, 28, 28)).float() / 255
    model = torch_mlp()
    seconds, losses = [], []

    class Timed(BaseTrainer):
        def train_step(self, epoch: int) -> float:
            began = time.perf_counter()
            loss = super().train_step(epoch)
            seconds.append(time.perf_counter() - began)
            losses.append(float(loss))
            return loss

    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(
            output_dir=folder, num_epochs=EPOCHS, per_device_train_batch_size=BATCH, learning_rate=1e-3,
            optimizer_cls="Adam", no_cuda=True,
        )  # fmt: skip
        labels = torch.zeros(len(data))
        Timed(model, train_dataset=BaseDataset(data, labels), training_config=config).train()
    return counted(seconds, losses[-1])


def hand_child(way: str, file: str) -> Result:
    """What one writes by hand when speed matters; and, with DataLoader, when it does not."""
    import numpy as np
    import torch
    from torch import nn
    from torch.nn import functional as F

    torch.manual_seed(0)
    raw = torch.from_numpy(np.load(file).reshape(-1, 784))
    halved, compiled, loader = "bf16" in way, "compiled" in way, "DataLoader" in way

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.heads = nn.Linear(784, 400), nn.Linear(400, 40)
            self.decoder, self.last = nn.Linear(20, 400), nn.Linear(400, 784)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=halved):
                mean, log_variance = self.heads(F.relu(self.encoder(x))).chunk(2, -1)
                z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
                logits = self.last(F.relu(self.decoder(z)))
            mean, log_variance, logits = mean.float(), log_variance.float(), logits.float()
            kl = -0.5 * torch.sum(1 + log_variance - mean.square() - log_variance.exp())
            return (F.binary_cross_entropy_with_logits(logits, x, reduction="sum") + kl) / len(x)

    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=not loader)

    def loss_of(batch: torch.Tensor) -> torch.Tensor:
        return net(batch if loader else batch.float() / 255)

    forward = torch.compile(loss_of) if compiled else loss_of
    floats = torch.utils.data.TensorDataset(raw.float() / 255) if loader else None

    def batches() -> Iterator[torch.Tensor]:
        if floats is not None:
            yield from (x for (x,) in torch.utils.data.DataLoader(floats, BATCH, shuffle=True))
        else:
            yield from (raw.index_select(0, index) for index in torch.randperm(N).split(BATCH))

    seconds: list[float] = []
    for _ in range(EPOCHS):
        began, total = time.perf_counter(), torch.zeros(())
        for batch in batches():
            loss = forward(batch)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            total += loss.detach() * len(batch)  # read once an epoch
        last = float(total) / N
        seconds.append(time.perf_counter() - began)
    return counted(seconds, last)


def limit_child() -> Result:
    """FLOP/s of the bf16 products of a step, and the images a second they would allow if all else were free."""
    import torch

    products = [(BATCH, a, b) for a, b in LAYERS]  # forward
    products += [(a, BATCH, b) for a, b in LAYERS]  # gradients of weights
    products += [(BATCH, b, a) for a, b in LAYERS[1:]]  # gradients of inputs; the data want none
    flop = sum(2 * m * k * n for m, k, n in products)
    seconds = 0.0
    with torch.no_grad():
        for m, k, n in products:
            a, b = torch.randn(m, k).bfloat16(), torch.randn(k, n).bfloat16()
            each = []
            for _ in range(7):
                began = time.perf_counter()
                for _ in range(50):
                    a @ b
                each.append((time.perf_counter() - began) / 50)
            seconds += min(each)
    return {"gflops": flop / seconds / 1e9, "flop": flop / BATCH, "rate": BATCH / seconds}


# -- the comparison


def ways_of(data: Path, file: Path, given: argparse.Namespace) -> dict[str, Callable[[], Result]]:
    theirs = peers.environment("pythae", given.peers)

    def other(python: str | Path, name: str, threads: int) -> Callable[[], Result]:
        command = [python, __file__, str(data), "--child", name, "--file", str(file)]
        return lambda: rounds.child(command, threads, given.passive)

    ways: dict[str, Callable[[], Result]] = {"vaekit": lambda: vaekit(data, CHOSEN, given.passive)}
    if given.variants:
        for name, overrides in VARIANTS.items():
            ways[name] = lambda overrides=overrides: vaekit(data, overrides, given.passive)
    for threads in (1, 2):
        ways[f"Pythae, {threads}"] = other(theirs, "pythae", threads)
        for name in HAND:
            ways[f"{name}, {threads}"] = other(sys.executable, name, threads)
        ways[f"limit, {threads}"] = other(sys.executable, "limit", threads)
    return ways


def a_way(given: argparse.Namespace) -> Result:
    """What a child measures."""
    if given.child == "vaekit":
        return vaekit_child(str(given.data), given.file, given.set)
    if given.child == "limit":
        return limit_child()
    return pythae_child(given.file) if given.child == "pythae" else hand_child(given.child, given.file)


def main() -> int:
    parser = rounds.options(__doc__, 5)
    parser.add_argument("data", type=Path, help="MNIST: a path, such as ../shared/data/mnist")
    parser.add_argument(
        "--variants", action="store_true", help="vaekit in fp32 and bf16, eager and compiled, as well"
    )
    parser.add_argument("--set", action="append", default=[], help=argparse.SUPPRESS)
    peers.add_option(parser)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(a_way(given)))
        return 0
    import numpy as np

    from vaekit.data import open_data

    about = rounds.machine()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "train.npy"
        np.save(file, np.asarray(open_data(str(given.data)).train.x[:N]))
        try:
            ways = ways_of(given.data, file, given)
            results = rounds.interleaved(ways, 1)
            on = [name for name in ways if name.startswith(("vaekit", "limit"))] + better(results)
            more = rounds.interleaved({name: ways[name] for name in ways if name in on}, given.rounds - 1)
        except (peers.PeerError, rounds.ChildError) as error:
            print(error, file=sys.stderr)
            return 2
    for name, found in more.items():
        results[name] += found
    print(report(results))
    rounds.keep(given.json, {"machine": about, "results": results})
    return 0


def better(results: dict[str, list[Result]]) -> list[str]:
    """Of each peer the number of threads that suits it better in the first round."""
    return [
        max((f"{kind}, {threads}" for threads in (1, 2)), key=lambda name: results[name][0]["rate"])
        for kind in ("Pythae", *HAND)
    ]


def report(results: dict[str, list[Result]]) -> str:
    ours = rounds.values(results["vaekit"], "rate")
    chosen = better(results)
    rows = []
    for name in [name for name in results if name.startswith("vaekit")] + chosen:
        found = results[name]
        against = rounds.spread(rounds.ratios(ours, rounds.values(found, "rate")), 2)
        loss = statistics.median(rounds.values(found, "loss"))
        first = statistics.median(rounds.values(found, "first_epoch"))
        rows.append(
            [name, rounds.spread(rounds.values(found, "rate")), against, f"{loss:.2f}", f"{first:.1f}"]
        )
    losses = [statistics.median(rounds.values(results[name], "loss")) for name in ("vaekit", *chosen)]
    apart = max(losses) / min(losses) - 1
    threads = results["vaekit"][0]["threads"]
    lines = [
        rounds.table(
            ["way, threads", "images/s", "vaekit is so many times it", "loss", "first epoch, s"], rows
        ),
        "",
        f"vaekit ran with {results['vaekit'][0]['settings']}. Final losses lie within {apart:.2%} of each other.",
    ]
    for count in sorted({1, 2, threads}):
        found = results.get(f"limit, {count}")
        if found:
            share = rounds.spread(rounds.ratios(ours, rounds.values(found, "rate")), 2)
            speed = rounds.spread(rounds.values(found, "gflops"))
            flop = f"{found[0]['flop'] / 1e6:.2f} MFLOP"
            lines.append(
                f"limit on {count} thread{'s' * (count > 1)}: {flop} an image, bf16 products at {speed} GFLOP/s, "
                f"{rounds.spread(rounds.values(found, 'rate'))} images/s; vaekit reaches {share} of it"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
