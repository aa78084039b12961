"""Peak memory of training on MNIST, above that of torch itself: vaekit against Pythae 0.1.2, as a ratio.

    python benchmarks/memory.py [--data ../shared/data/mnist] [--rounds 3] [--peers DIR] [--json FILE]

The same work each: nets 784-400-20-400-784, binary cross-entropy on grey values, Adam at 1e-3, batches of 128, one epoch
over 50,000 images with 10,000 to validate, from the files to what the library leaves on the disk (for vaekit the command
line with all it does: pictures, a frame, the best model, a checkpoint). Pythae gets the images as its own examples give
them, an array of floats in [0, 1]; a float array is also what it trains on.

Each run is a process of its own; what counts is the high-water mark of its resident set as the kernel keeps it (VmHWM),
less that of a process of the same environment which imports torch and takes one step of Adam on such a net. Median of
`--rounds`, the three kinds in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import peers

REPORT = """
import atexit, sys
def report():
    status = open("/proc/self/status").read()
    print("\\nVmHWM", status.split("VmHWM:")[1].split()[0], file=sys.stderr)
atexit.register(report)
"""

BASE = """
import torch
from torch import nn
layers = [nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 40), nn.Linear(40, 400), nn.ReLU(), nn.Linear(400, 784)]
net = nn.Sequential(*layers)
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
net(torch.rand(128, 784)).square().sum().backward()
optimizer.step()
"""

VAEKIT = """
from vaekit.__main__ import run
data, folder, *more = sys.argv[1:]
sys.exit(run(["train", data, "--recipe", "torch-mlp", "-o", f"{folder}/run", "--set", "train.epochs=1", *more]))
"""

PYTHAE = """
import gzip
import numpy as np
import torch
from torch import nn
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.pipelines import TrainingPipeline
from pythae.trainers import BaseTrainerConfig

class Encoder(BaseEncoder):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(784, 400), nn.ReLU())
        self.mean, self.spread = nn.Linear(400, 20), nn.Linear(400, 20)
    def forward(self, x):
        h = self.body(x)
        return ModelOutput(embedding=self.mean(h), log_covariance=self.spread(h))

class Decoder(BaseDecoder):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(20, 400), nn.ReLU(), nn.Linear(400, 784), nn.Sigmoid())
    def forward(self, z):
        return ModelOutput(reconstruction=self.body(z).reshape(-1, 1, 28, 28))

data, folder = sys.argv[1:]
with gzip.open(f"{data}/train-images-idx3-ubyte.gz") as file:
    images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28) / np.float32(255)
chosen = VAEConfig(input_dim=(1, 28, 28), latent_dim=20, reconstruction_loss="bce")
model = VAE(chosen, encoder=Encoder(), decoder=Decoder())
settings = BaseTrainerConfig(
    output_dir=folder, num_epochs=1, learning_rate=1e-3, per_device_train_batch_size=128,
    per_device_eval_batch_size=128, optimizer_cls="Adam",
)
TrainingPipeline(training_config=settings, model=model)(train_data=images[:50_000], eval_data=images[50_000:])
"""


def peak(python: str, code: str, *arguments: str) -> float:
    """The high-water mark of a process that runs this code, MiB."""
    with tempfile.TemporaryDirectory() as folder:
        words = [folder if word == "FOLDER" else word for word in arguments]
        done = subprocess.run(
            [python, "-c", REPORT + code, *words], capture_output=True, text=True, check=False, cwd=folder
        )
    if done.returncode:
        sys.exit(f"a run failed:\n{done.stderr[-2000:]}")
    return int(done.stderr.rsplit("VmHWM", 1)[1].split()[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data/mnist"), help="the folder of the idx files"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--set", action="append", default=[], help="of vaekit's recipe, such as train.compile=false"
    )
    peers.add_option(parser)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        theirs = str(peers.environment("pythae", asked.peers))
    except peers.PeerError as error:
        sys.exit(str(error))
    data = str(asked.data.resolve())
    more = [word for override in asked.set for word in ("--set", override)]
    kinds = {
        "torch here": (sys.executable, BASE),
        "vaekit": (sys.executable, VAEKIT, data, "FOLDER", *more),
        "torch there": (theirs, BASE),
        "Pythae": (theirs, PYTHAE, data, "FOLDER"),
    }
    found: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(asked.rounds):
        for name, how in kinds.items():
            found[name].append(peak(*how))
    middle = {name: statistics.median(values) for name, values in found.items()}
    for name, values in found.items():
        print(f"{name:12} {middle[name]:7.0f} MiB ({min(values):.0f} to {max(values):.0f})")
    ours, others = middle["vaekit"] - middle["torch here"], middle["Pythae"] - middle["torch there"]
    print(
        f"above torch: vaekit {ours:.0f} MiB, Pythae {others:.0f} MiB, ratio {ours / others:.2f}; {asked.rounds} rounds; "
        f"{platform.machine()}, {os.cpu_count()} cores"
    )
    if asked.json:
        result = {"peaks_mib": found, "above_torch_mib": [ours, others], "ratio": ours / others}
        asked.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
