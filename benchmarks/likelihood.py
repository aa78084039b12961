"""L_5000 of 10,000 MNIST images: `vaekit evaluate` against Pythae's `get_nll`, the same net and the same weights.

    python benchmarks/likelihood.py ../shared/data/mnist [--rounds 3] [--images 500] [--peer-images 4] [--whole]
                                    [--precision bf16] [--peers DIR] [--json FILE]

torch-mlp is trained for two epochs on bits, and its weights are copied into Pythae's VAE. vaekit is the command itself,
start-up and all; without --whole it judges 50 images and 50 + `--images`, and the time for 10,000 is start-up plus
10,000 times what an image more costs. Pythae's get_nll takes an image at a time, so its time for 10,000 is that of
`--peer-images` of them, scaled; with one thread and with two, the better in the first round goes on. Both see the same
bits; Pythae's estimate of the same images (its sign turned) stands beside vaekit's, each with its draws' own noise.
"""

from __future__ import annotations

import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import peers
import rounds
from rounds import Result

N, K, FEW = 10_000, 5000, 50
PRECISIONS = ("fp32", "bf16")


def trained(data: str, precision: str, run: Path) -> None:
    """torch-mlp on bits, two epochs."""
    settings = ["train.epochs=2", "train.pictures=false", f"train.precision={precision}"]
    words = [word for setting in settings for word in ("--set", setting)]
    command = [
        sys.executable,
        "-m",
        "vaekit",
        "train",
        data,
        "--recipe",
        "torch-mlp",
        "--binarize",
        "dynamic",
    ]
    done = subprocess.run([*command, *words, "-o", str(run)], capture_output=True, text=True)
    if done.returncode:
        raise rounds.ChildError(done.stderr.strip().splitlines()[-1])


def handed_over(run: Path, file: Path, images: int) -> list[float]:
    """Weights and bits for Pythae in `file`; vaekit's L_5000 of these images, one by one."""
    import numpy as np

    from vaekit.data import Split
    from vaekit.metrics.evaluate import evaluate
    from vaekit.run import load

    opened = load(run)
    bits = opened.data().test.frozen(opened.contract)
    x = np.asarray(bits.x[:images])
    few = Split(x, None, "test")
    evaluate(opened.model, few, opened.contract, k=(K,), save=file.parent / "few")
    weights = {name: value.numpy() for name, value in opened.model.state_dict().items()}
    np.savez(file, x=(x > 0).astype(np.float32), **weights)
    return np.load(file.parent / "few" / "per_image.npz")["nll"][0].tolist()


def core_seconds() -> float:
    """User and system time of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def evaluation(run: Path, images: int | None) -> Result:
    """Seconds of the command for so many images (None: all)."""
    limit = [] if images is None else ["--limit", str(images)]
    command = [sys.executable, "-m", "vaekit", "evaluate", str(run), "--k", f"1,{K}", "--json", *limit]
    began, spent = time.perf_counter(), core_seconds()
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise rounds.ChildError(done.stderr.strip().splitlines()[-1])
    seconds, spent = time.perf_counter() - began, core_seconds() - spent
    found = json.loads(done.stdout)
    return {
        "seconds": seconds,
        "core_seconds": spent,
        "precision": found["precision"],
        "nll": found["nll"][-1]["value"],
    }


def vaekit(run: Path, images: int, whole: bool) -> Result:
    if whole:
        return evaluation(run, None) | {"start": 0.0}
    few, many = evaluation(run, FEW), evaluation(run, FEW + images)

    def scaled(key: str) -> tuple[float, float]:
        each = (many[key] - few[key]) / images
        return few[key] - FEW * each, few[key] + (N - FEW) * each

    start, seconds = scaled("seconds")
    return many | {"seconds": seconds, "start": start, "core_seconds": scaled("core_seconds")[1]}


def pythae_child(file: str) -> Result:
    import numpy as np
    import torch
    from pythae_mlp import torch_mlp
    from torch import nn

    kept = {name: torch.from_numpy(value) for name, value in np.load(file).items()}

    def take(layer: nn.Linear, name: str, rows: slice = slice(None)) -> None:
        layer.load_state_dict({key: kept[f"{name}.{key}"][rows] for key in ("weight", "bias")})

    model = torch_mlp().eval()
    take(model.encoder.body, "posterior.net.body.0")
    take(model.encoder.mean, "posterior.net.last", slice(20))
    take(model.encoder.variance, "posterior.net.last", slice(20, 40))
    take(model.decoder.body, "likelihood.net.body.0")
    take(model.decoder.last, "likelihood.net.last")
    x = kept["x"]
    torch.manual_seed(0)
    with torch.no_grad():
        model.get_nll(x[:1], n_samples=K)  # warms up
        began, spent = time.perf_counter(), time.process_time()
        nll = [-float(model.get_nll(image, n_samples=K)) for image in x.split(1)]
        seconds, spent = time.perf_counter() - began, time.process_time() - spent
    return {"seconds": N / len(x) * seconds, "core_seconds": N / len(x) * spent, "nll": nll}


def report(ours: dict[str, list[Result]], theirs: list[Result], name: str, nll: list[float]) -> str:
    peer = rounds.values(theirs, "seconds")
    rows = [[name, rounds.spread(peer), "", rounds.spread(rounds.values(theirs, "core_seconds")), ""]]
    for precision, found in ours.items():
        seconds = rounds.values(found, "seconds")
        ratio = rounds.spread(rounds.ratios(peer, seconds), 1)
        start = f"{statistics.median(rounds.values(found, 'start')):.1f}"
        spent = rounds.spread(rounds.values(found, "core_seconds"))
        rows.append([f"vaekit evaluate, {precision}", rounds.spread(seconds, 1), ratio, spent, start])
    head = [f"L_{K} of {N:,} images", "s", "so many times as fast", "core-seconds", "of which start-up, s"]
    apart = [a - b for a, b in zip(nll, theirs[0]["nll"], strict=True)]
    noise = statistics.stdev(apart) if len(apart) > 1 else math.nan
    ends = "; ".join(f"{p} {f[0]['nll']:.4f} nats" for p, f in ours.items())
    return (
        f"{rounds.table(head, rows)}\n\nNLL of the images judged: {ends}. On {len(nll)} images vaekit gives "
        f"{statistics.fmean(nll):.3f} nats and Pythae {statistics.fmean(theirs[0]['nll']):.3f}: apart by "
        f"{statistics.fmean(apart):+.3f}, image by image with a deviation of {noise:.3f}."
    )


def main() -> int:
    parser = rounds.options(__doc__, 3)
    parser.add_argument("data", help="MNIST: a path, such as ../shared/data/mnist")
    parser.add_argument("--images", type=int, default=500, help="images that vaekit's time is scaled from")
    parser.add_argument("--peer-images", type=int, default=4, help="images that Pythae's time is scaled from")
    parser.add_argument("--whole", action="store_true", help="vaekit judges all 10,000")
    parser.add_argument("--precision", choices=PRECISIONS, help="one of them alone")
    peers.add_option(parser)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(pythae_child(given.file)))
        return 0
    about = rounds.machine()
    precisions = [given.precision] if given.precision else list(PRECISIONS)
    try:
        python = peers.environment("pythae", given.peers)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "weights.npz"
            for precision in precisions:
                trained(given.data, precision, Path(folder) / precision)
            nll = handed_over(Path(folder) / precisions[0], file, given.peer_images)
            command = [python, __file__, given.data, "--child", "pythae", "--file", str(file)]
            ways: dict[str, Callable[[], Result]] = {
                precision: lambda run=Path(folder) / precision: vaekit(run, given.images, given.whole)
                for precision in precisions
            }
            theirs: dict[str, Callable[[], Result]] = {
                f"Pythae, {threads}": lambda threads=threads: rounds.child(command, threads, given.passive)
                for threads in (1, 2)
            }
            results = rounds.interleaved(ways | theirs, 1)
            name = min(theirs, key=lambda one: results[one][0]["seconds"])
            more = rounds.interleaved(ways | {name: theirs[name]}, given.rounds - 1)
    except (peers.PeerError, rounds.ChildError) as error:
        print(error, file=sys.stderr)
        return 2
    for way, found in more.items():
        results[way] += found
    print(report({precision: results[precision] for precision in precisions}, results[name], name, nll))
    rounds.keep(given.json, {"machine": about, "vaekit_nll": nll, "results": results})
    return 0


if __name__ == "__main__":
    sys.exit(main())
