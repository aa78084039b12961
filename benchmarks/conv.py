"""The Keras tutorials' convolutional nets: images a second of vaekit, of Keras 3 on TensorFlow, and of plain torch.

    python benchmarks/conv.py ../shared/data/mnist [--rounds 3] [--images 6400] [--peers DIR] [--json FILE]

keras-conv-leaky at batch 32 and keras-conv-2d at batch 128, on the first images of MNIST. Keras trains as its example
does: a model with a `train_step` under `model.fit`, compiled as Keras chooses; TensorFlow with its own thread settings,
and held to one core: the better in the first round goes on for it. Plain torch is the same nets with bf16 autocast and
channels-last, one thread and two. vaekit is the command line itself. Three epochs: the first warms up and is not counted;
images a second are those of the steps of the two after it, validation and logging apart. Each turn is a process of its
own, all ways in turn, ratios round by round. The loss is per image, over the last epoch: what is compared is whether all
learn, for they start from other weights.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peers
import rounds
from rounds import Result

EPOCHS = 3
RECIPES = {"keras-conv-leaky": (32, 5e-4), "keras-conv-2d": (128, 1e-3)}  # batch, rate
SCALE = 1000.0  # of the squared error in keras-conv-leaky


def vaekit_child(recipe: str, data: str, run: str) -> Result:
    """The command line; seconds of the steps from metrics.jsonl."""
    # compiled, as the recipes' own epochs choose; three would not repay it
    settings = [f"train.epochs={EPOCHS}", "train.pictures=false", "train.compile=true"]
    rounds.train_by_command(data, recipe, run, settings)
    lines = [json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text().splitlines()]
    loss = lines[-1]["train_loss"]
    if recipe == "keras-conv-leaky":  # nats: a Gaussian's constant, and the Jacobian of grey levels
        loss -= 784 * (0.5 * math.log(2 * math.pi * 784 / (2 * SCALE)) + math.log(255))
    shown = (Path(run) / "recipe.toml").read_text().splitlines()
    chosen = [line for line in shown if line.startswith(("precision", "compile", "threads"))]
    images = [line["time"]["images_per_second"] * line["time"]["seconds"] for line in lines]
    seconds = [line["time"]["seconds"] for line in lines]
    rate = sum(images[1:]) / sum(seconds[1:])
    return {"rate": rate, "first_epoch": seconds[0], "loss": loss, "settings": ", ".join(chosen)}


def keras_child(recipe: str, file: str) -> Result:
    import keras
    import numpy as np
    import tensorflow as tf
    from keras import layers, ops

    if os.environ.get("OMP_NUM_THREADS") == "1":
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    leaky = recipe == "keras-conv-leaky"
    batch, rate = RECIPES[recipe]

    def conv(kind: Any, channels: int, stride: int, x: Any) -> Any:
        x = kind(channels, 3, strides=stride, padding="same", activation=None if leaky else "relu")(x)
        return layers.LeakyReLU()(x) if leaky else x

    image = x = keras.Input((28, 28, 1))
    for channels, stride in ((32, 1), (64, 2), (64, 2), (64, 1)) if leaky else ((32, 2), (64, 2)):
        x = conv(layers.Conv2D, channels, stride, x)
    x = layers.Flatten()(x)
    if not leaky:
        x = layers.Dense(16, activation="relu")(x)
    encoder = keras.Model(image, [layers.Dense(2)(x), layers.Dense(2)(x)])
    code = keras.Input((2,))
    x = layers.Reshape((7, 7, 64))(layers.Dense(3136, activation=None if leaky else "relu")(code))
    for channels, stride in ((64, 1), (64, 2), (32, 2)) if leaky else ((64, 2), (32, 2)):
        x = conv(layers.Conv2DTranspose, channels, stride, x)
    decoder = keras.Model(code, layers.Conv2DTranspose(1, 3, padding="same", activation="sigmoid")(x))

    class Model(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.decoder = encoder, decoder
            self.seed, self.mean_loss = keras.random.SeedGenerator(0), keras.metrics.Mean(name="loss")

        @property
        def metrics(self) -> list[Any]:
            return [self.mean_loss]

        def train_step(self, data: Any) -> dict[str, Any]:
            with tf.GradientTape() as tape:
                mean, log_variance = self.encoder(data)
                noise = keras.random.normal(ops.shape(mean), seed=self.seed)
                out = self.decoder(mean + ops.exp(0.5 * log_variance) * noise)
                if leaky:
                    reconstruction = SCALE * ops.mean(ops.square(data - out), axis=(1, 2, 3))
                else:
                    reconstruction = ops.sum(keras.losses.binary_crossentropy(data, out), axis=(1, 2))
                kl = -0.5 * ops.sum(1 + log_variance - ops.square(mean) - ops.exp(log_variance), axis=1)
                loss = ops.mean(reconstruction + kl)
            weights = self.trainable_weights
            self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
            self.mean_loss.update_state(loss)
            return {"loss": self.mean_loss.result()}

    class Clock(keras.callbacks.Callback):
        seconds: list[float] = []  # noqa: RUF012

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.began = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.seconds.append(time.perf_counter() - self.began)

    data = np.load(file).reshape(-1, 28, 28, 1).astype("float32") / 255
    model, clock = Model(), Clock()
    model.compile(optimizer=keras.optimizers.Adam(rate))
    history = model.fit(data, epochs=EPOCHS, batch_size=batch, verbose=0, callbacks=[clock])
    return counted(clock.seconds, len(data), float(history.history["loss"][-1]))


def torch_child(recipe: str, file: str) -> Result:
    """bf16 autocast, channels-last, an index of a resident tensor a batch, fused Adam."""
    import numpy as np
    import torch
    from torch import nn
    from torch.nn import functional as F

    torch.manual_seed(0)
    leaky = recipe == "keras-conv-leaky"
    batch, rate = RECIPES[recipe]
    act: Callable[[], nn.Module] = (lambda: nn.LeakyReLU(0.3)) if leaky else nn.ReLU
    down: list[nn.Module] = []
    before = 1
    for after, stride in ((32, 1), (64, 2), (64, 2), (64, 1)) if leaky else ((32, 2), (64, 2)):
        down += [nn.Conv2d(before, after, 3, stride, 1), act()]
        before = after
    dense = [] if leaky else [nn.Linear(3136, 16), nn.ReLU()]
    encoder = nn.Sequential(*down, nn.Flatten(), *dense, nn.Linear(3136 if leaky else 16, 4))
    up: list[nn.Module] = [nn.Linear(2, 3136), nn.Unflatten(1, (64, 7, 7))]
    if not leaky:
        up.insert(1, nn.ReLU())
    before = 64
    for after, stride in ((64, 1), (64, 2), (32, 2)) if leaky else ((64, 2), (32, 2)):
        up += [nn.ConvTranspose2d(before, after, 3, stride, 1, output_padding=stride - 1), act()]
        before = after
    decoder = nn.Sequential(*up, nn.ConvTranspose2d(32, 1, 3, 1, 1))
    net = nn.ModuleList((encoder, decoder)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(net.parameters(), lr=rate, eps=1e-7, fused=True)
    data = torch.from_numpy(np.load(file).reshape(-1, 1, 28, 28))
    seconds: list[float] = []
    for _ in range(EPOCHS):
        began, total = time.perf_counter(), torch.zeros(())
        for index in torch.randperm(len(data)).split(batch):
            x = (data[index].float() / 255).to(memory_format=torch.channels_last)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                mean, log_variance = encoder(x).float().chunk(2, -1)
                out = decoder(mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance))
            out = out.float()
            if leaky:
                reconstruction = SCALE * (torch.sigmoid(out) - x).square().mean((1, 2, 3)).sum()
            else:
                reconstruction = F.binary_cross_entropy_with_logits(out, x, reduction="sum")
            kl = -0.5 * torch.sum(1 + log_variance - mean.square() - log_variance.exp())
            loss = (reconstruction + kl) / len(x)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            total += loss.detach() * len(x)
        last = float(total) / len(data)
        seconds.append(time.perf_counter() - began)
    return counted(seconds, len(data), last)


def counted(seconds: list[float], images: int, loss: float) -> Result:
    return {"rate": images * (EPOCHS - 1) / sum(seconds[1:]), "first_epoch": seconds[0], "loss": loss}


def ways_of(recipe: str, file: Path, given: argparse.Namespace) -> dict[str, Callable[[], Result]]:
    theirs = peers.environment("keras", given.peers)

    def other(python: str | Path, name: str, threads: int | None) -> Callable[[], Result]:
        command = [python, __file__, recipe, "--child", name, "--file", str(file)]
        return lambda: rounds.child(command, threads, given.passive)

    def vaekit() -> Result:
        with tempfile.TemporaryDirectory() as folder:
            whole = str(file.with_name("whole.npy"))
            command = [sys.executable, __file__, whole, "--child", "vaekit", "--recipe", recipe]
            return rounds.child([*command, "--file", f"{folder}/run"], None, given.passive)

    return {
        "vaekit": vaekit,
        "Keras, as it comes": other(theirs, "keras", None),
        "Keras, one core": other(theirs, "keras", 1),
        "torch bf16, 1": other(sys.executable, "torch", 1),
        "torch bf16, 2": other(sys.executable, "torch", 2),
    }


def compared(recipe: str, file: Path, given: argparse.Namespace) -> dict[str, list[Result]]:
    """All ways once, then vaekit with the better setting of each peer."""
    ways = ways_of(recipe, file, given)
    results = rounds.interleaved(ways, 1)
    pairs = (("Keras, as it comes", "Keras, one core"), ("torch bf16, 1", "torch bf16, 2"))
    on = ["vaekit", *(max(pair, key=lambda name: results[name][0]["rate"]) for pair in pairs)]
    more = rounds.interleaved({name: ways[name] for name in on}, given.rounds - 1)
    return {name: results[name] + more[name] for name in on}


def report(recipe: str, results: dict[str, list[Result]]) -> str:
    ours, rows = rounds.values(results["vaekit"], "rate"), []
    for name, found in results.items():
        ratio = rounds.spread(rounds.ratios(ours, rounds.values(found, "rate")), 2)
        loss, first = (statistics.median(rounds.values(found, key)) for key in ("loss", "first_epoch"))
        rows.append([name, rounds.spread(rounds.values(found, "rate")), ratio, f"{loss:.1f}", f"{first:.1f}"])
    head = [
        f"{recipe}, batch {RECIPES[recipe][0]}",
        "images/s",
        "vaekit is so many times it",
        "loss",
        "first epoch, s",
    ]
    return f"{rounds.table(head, rows)}\n\nvaekit ran with {results['vaekit'][0]['settings']}.\n"


def main() -> int:
    parser = rounds.options(__doc__, 3)
    parser.add_argument("data", help="MNIST: a path, such as ../shared/data/mnist")
    parser.add_argument("--images", type=int, default=6400, help="images an epoch (default 6400)")
    parser.add_argument("--recipe", action="append", choices=list(RECIPES), help="one of them alone")
    peers.add_option(parser)
    given = parser.parse_args()
    if given.child:
        if given.child == "vaekit":
            found = vaekit_child(given.recipe[0], given.data, given.file)
        else:
            found = {"keras": keras_child, "torch": torch_child}[given.child](given.data, given.file)
        print(json.dumps(found))
        return 0
    import numpy as np

    from vaekit.data import open_data

    about, kept = rounds.machine(), {}
    with tempfile.TemporaryDirectory() as folder:
        file, rows = Path(folder) / "images.npy", open_data(given.data).train.x
        np.save(file, np.asarray(rows[: given.images]))
        # vaekit keeps a fifth of an array to validate and test
        np.save(file.with_name("whole.npy"), np.asarray(rows[: given.images * 5 // 4]))
        try:
            for recipe in given.recipe or RECIPES:
                kept[recipe] = compared(recipe, file, given)
                print(report(recipe, kept[recipe]), flush=True)
        except (peers.PeerError, rounds.ChildError) as error:
            print(error, file=sys.stderr)
            return 2
    rounds.keep(given.json, {"machine": about, "results": kept})
    return 0


if __name__ == "__main__":
    sys.exit(main())
