"""The VAE of Pythae 0.1.2, its own dense net and its own trainer, beside vaekit on static MNIST with the same CPU time.

    python benchmarks/pythae_vae.py ../shared/data/binarized-mnist [--recipe mnist] [--epochs 30] [--k 1,200,5000]
                                    [--learning-rate 1e-3] [--check 5] [--seed 0] [--peers DIR] [--json FILE]

vaekit trains Pythae's nets (784-512-16-512-784), and `--recipe`, for so many epochs each; Pythae gets the core-seconds of
the longer, start-up and all, and keeps its best weights by the validation rows. Its learning rate is set for it: the
default of 1e-4 is far behind after minutes. One thread each. All three are judged by vaekit's evaluator, Pythae's weights
in vaekit's parts; its `get_nll`, with draws in whole batches and the sign turned, stands beside on `--check` images.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import peers
import rounds
from rounds import Result

LATENT, HIDDEN, DRAWS = 16, 512, 5000
ITS_NETS = (
    f"model.latent={LATENT}",
    f"posterior.net.hidden=[{HIDDEN}]",
    f"likelihood.net.hidden=[{HIDDEN}]",
)


def core_seconds() -> float:
    """User and system time of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def vaekit(given: Any, recipe: str, settings: tuple[str, ...], run: Path) -> Result:
    """`vaekit train`, and the test NLL of what it made."""
    from vaekit.run import load

    command = [
        sys.executable,
        __file__,
        given.data,
        "--child",
        "vaekit",
        "--recipe",
        recipe,
        "--file",
        str(run),
    ]
    changes = [f"train.epochs={given.epochs}", "train.pictures=false", f"train.seed={given.seed}", *settings]
    began, spent = time.perf_counter(), core_seconds()
    rounds.child([*command, "--set", *changes], 1, given.passive)
    seconds, spent = time.perf_counter() - began, core_seconds() - spent
    judged = load(run).evaluate(k=given.k)
    return {"seconds": seconds, "core_seconds": spent, "epochs": given.epochs, "evaluation": judged}


def vaekit_child(given: Any) -> Result:
    rounds.train_by_command(given.data, given.recipe, given.file, given.set)
    return {}


def pythae(given: Any, python: Path, budget: float, folder: Path) -> Result:
    """Pythae's training in its own environment, and the test NLL of its weights in vaekit's parts."""
    import numpy as np

    from vaekit.data import Split, open_data
    from vaekit.metrics.evaluate import evaluate

    data, file = open_data(given.data), folder / "rows.npz"
    rows = {name: np.asarray(split.x, np.float32) for name, split in data.splits.items()}
    np.savez(file, **(rows | {"test": rows["test"][: given.check]}))
    command = [python, __file__, given.data, "--child", "pythae", "--file", file, "--seed", given.seed]
    command += ["--budget", budget, "--learning-rate", given.learning_rate]
    began = time.perf_counter()
    found = rounds.child(list(map(str, command)), 1, given.passive)
    found["seconds"] = time.perf_counter() - began
    model = in_our_parts(dict(np.load(folder / "weights.npz")))
    found["evaluation"] = evaluate(model, data.split("test"), data.contract, k=given.k)
    if given.check:
        few = Split(np.asarray(data.split("test").x[: given.check]), None, "test", bits=True)
        evaluate(model, few, data.contract, k=(DRAWS,), save=folder / "few")
        found["ours_on_few"] = np.load(folder / "few" / "per_image.npz")["nll"][0].tolist()
    return found


def in_our_parts(kept: dict[str, Any]) -> Any:
    """Pythae's weights as a vaekit VAE: the same function, the same density."""
    import torch

    from vaekit import MLP, VAE, BernoulliLikelihood, GaussianPosterior, StandardPrior

    def net(given: tuple[int, ...], out: tuple[int, ...]) -> MLP:
        return MLP(given, out, hidden=[HIDDEN], activation="relu")

    model = VAE(
        StandardPrior(LATENT),
        GaussianPosterior(net((1, 28, 28), (2 * LATENT,)), log_variance_bound=0.0),
        BernoulliLikelihood(net((LATENT,), (1, 28, 28))),
    )
    weights = {name: torch.from_numpy(value) for name, value in kept.items()}
    state = model.state_dict()
    for kind in ("weight", "bias"):
        state[f"posterior.net.body.0.{kind}"] = weights[f"encoder.layers.0.0.{kind}"]
        halves = [weights[f"encoder.{half}.{kind}"] for half in ("embedding", "log_var")]
        state[f"posterior.net.last.{kind}"] = torch.cat(halves)
        state[f"likelihood.net.body.0.{kind}"] = weights[f"decoder.layers.0.0.{kind}"]
        state[f"likelihood.net.last.{kind}"] = weights[f"decoder.layers.1.0.{kind}"]
    model.load_state_dict(state)
    return model.eval()


class OutOfTimeError(Exception):
    """Ends Pythae's loop, which knows epochs alone."""


def pythae_child(given: Any) -> Result:
    import numpy as np
    import torch
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from pythae.trainers.training_callbacks import TrainingCallback

    class Clock(TrainingCallback):
        epochs = 0

        def on_epoch_end(self, training_config: Any, **_: Any) -> None:
            self.epochs += 1
            if time.process_time() > given.budget:
                raise OutOfTimeError

    torch.manual_seed(given.seed)
    home = Path(given.file).parent
    rows = {name: torch.from_numpy(value) for name, value in np.load(given.file).items()}
    model = VAE(VAEConfig(input_dim=(1, 28, 28), latent_dim=LATENT, reconstruction_loss="bce"))
    settings = BaseTrainerConfig(
        output_dir=str(home / "pythae"), num_epochs=10**6, learning_rate=given.learning_rate, seed=given.seed,
        per_device_train_batch_size=128, per_device_eval_batch_size=512, no_cuda=True,
    )  # fmt: skip
    train, valid = (BaseDataset(rows[name], torch.zeros(len(rows[name]))) for name in ("train", "valid"))
    clock = Clock()
    trainer = BaseTrainer(model, train, valid, training_config=settings, callbacks=[clock])
    trainer.prepare_training()
    try:
        trainer.train()
    except OutOfTimeError:
        spent = time.process_time()
    best = trainer._best_model.eval()
    np.savez(home / "weights.npz", **{name: value.numpy() for name, value in best.state_dict().items()})
    with torch.no_grad():  # an image at a time, for it gives a mean over images
        nll = [
            -float(best.get_nll(image, n_samples=DRAWS, batch_size=100)) for image in rows["test"].split(1)
        ]
    return {"core_seconds": spent, "epochs": clock.epochs, "its_own_nll": nll}


def report(results: dict[str, Result]) -> str:
    ks = [bound["k"] for bound in next(iter(results.values()))["evaluation"]["nll"]]
    head = [
        "static MNIST test, nats an image",
        "core-seconds",
        "epochs",
        "-ELBO",
        *(f"k = {k:,}" for k in ks),
        "+-",
    ]
    rows = []
    for name, found in results.items():
        judged = found["evaluation"]
        bounds = [f"{bound['value']:.2f}" for bound in judged["nll"]]
        error = f"{judged['nll'][-1]['standard_error']:.2f}"
        spent = [f"{found['core_seconds']:.0f}", str(found["epochs"]), f"{-judged['elbo']:.2f}"]
        rows.append([name, *spent, *bounds, error])
    text = rounds.table(head, rows)
    peer = next(found for found in results.values() if "its_own_nll" in found)
    if peer["its_own_nll"]:
        ours, its = statistics.fmean(peer["ours_on_few"]), statistics.fmean(peer["its_own_nll"])
        count = len(peer["its_own_nll"])
        text += f"\n\nOn {count} images, {DRAWS} draws: vaekit's evaluator {ours:.2f}, Pythae's get_nll {its:.2f}."
    return text


def main() -> int:
    parser = rounds.options(__doc__, 1)
    parser.add_argument("data", help="static MNIST: a path, such as ../shared/data/binarized-mnist")
    parser.add_argument("--recipe", default="mnist", help="of vaekit, beside Pythae's nets")
    parser.add_argument("--epochs", type=int, default=30, help="of vaekit's runs")
    parser.add_argument("--k", type=lambda text: [int(k) for k in text.split(",")], default=[1, 200, 5000])
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="of Pythae's Adam")
    parser.add_argument("--check", type=int, default=5, help="images that get_nll judges too")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], help="changes to vaekit's recipe")
    parser.add_argument("--budget", type=float, help="core-seconds of a child")
    peers.add_option(parser)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(pythae_child(given) if given.child == "pythae" else vaekit_child(given)))
        return 0
    about = rounds.machine()
    try:
        python = peers.environment("pythae", given.peers)
        with tempfile.TemporaryDirectory() as home:
            folder = Path(home)
            results = {
                "vaekit, Pythae's nets": vaekit(given, "torch-mlp", ITS_NETS, folder / "same"),
                f"vaekit, {given.recipe}": vaekit(given, given.recipe, tuple(given.set), folder / "recipe"),
            }
            budget = max(rounds.values(list(results.values()), "core_seconds"))
            results["Pythae 0.1.2, VAE"] = pythae(given, python, budget, folder)
    except (peers.PeerError, rounds.ChildError) as error:
        print(error, file=sys.stderr)
        return 2
    print(report(results))
    rounds.keep(given.json, {"machine": about, "results": results})
    return 0


if __name__ == "__main__":
    sys.exit(main())
