"""A better encoder for a trained model: decoder and prior stay as they are, and with them p(x) and what the model is."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from vaekit.errors import VaekitError
from vaekit.model import VAE
from vaekit.recipe import Recipe, build, overrides_tree
from vaekit.recipe.parts import GIVEN, WITH_NET, is_import_path
from vaekit.recipe.sections import Part
from vaekit.recipe.settings import ANYHOW
from vaekit.run import Run, RunFolder, load, weights
from vaekit.train.fit import resume
from vaekit.train.given import voice
from vaekit.train.running import begin
from vaekit.train.starting import same

FOLDER = "refitted"  # in the run's own
FROZEN = ("prior", "likelihood")
NOTHING = [("train", key) for key in ANYHOW]  # settings that make no other refit
DRAWS, STEPS, LEARNING_RATE = 8, 3000, 1e-3
# of the variance of a point posterior's codes: what its Gaussian starts with, narrow enough for the decoder
SHARE = 0.01


def refit_encoder(run: Run, *, set: Iterable[str] = (), progress: bool | None = None) -> Run:
    """As `Run.refit_encoder`."""
    folder = _folder(run)
    say, changes = voice(progress), overrides_tree(set)
    beyond = [name for name in changes if name not in ("train", "objective")]
    if beyond:
        raise VaekitError(f"a refit changes only [train] and [objective], not [{beyond[0]}]; leave it out")
    nets = {
        slot: copy.deepcopy(getattr(run.model, slot).net) for slot in WITH_NET
        if (net := getattr(run.recipe, slot).net) is not None and net.kind == GIVEN
    }  # fmt: skip
    allow = _modules(run.recipe)
    recipe, model = _recipe(run), run.model
    rows = next(run.batches(run.data().train.frozen(run.contract)))
    start = _start(build(recipe, run.contract, nets=nets, allow=allow).model, model, rows)
    if folder.path.exists() and not folder.metrics.exists():  # the mark of a run
        raise VaekitError(f"{folder.path} is no refit, and in its place; move it away")
    if folder.path.exists():
        why = _stale(folder, start, changes, allow)
        if why is None:
            if _trained(folder, allow):
                say(f"the encoder was refitted before ({_how(folder, allow)}): {folder.path}")
                again = load(folder.path, nets=nets, allow=allow)
                again.own = run.data()
                return again
            return resume(folder.path, data=run.data(), nets=nets, allow=allow, progress=progress)
        say(f"{folder.path}: {why}; {_aside(folder)}; refitting anew")
    say("refitting the encoder on the training rows; decoder and prior stay as they are")
    return begin(
        recipe.updated(changes),
        run.data(),
        folder.path,
        say,
        nets=nets,
        allow=allow,
        progress=progress,
        start=start,
    )


def _folder(run: Run) -> RunFolder:
    """Where the refit goes. Raises VaekitError for a run that has nothing to refit."""
    if set(FROZEN) <= set(run.recipe.train.frozen):
        raise VaekitError(f"{run.path} is a refit itself; refit the run that it was made from")
    if not run.model.latent:
        raise VaekitError(f"{run.path} has a latent of no dimensions: its bound is log p(x) already")
    if not run.model.likelihood.gives_density(run.contract.kind):  # type: ignore[operator]
        raise VaekitError(
            f"{type(run.model.likelihood).__name__} on {run.contract.kind} data is a cross-entropy, and has no NLL "
            "that a better encoder could bound"
        )
    if run.folder is None or not os.access(run.folder.path, os.W_OK):
        raise VaekitError(
            f"{run.path}: a refit is kept in the folder of its run, which is not here or not writable"
        )
    return RunFolder(run.folder.path / FOLDER)


def _recipe(run: Run) -> Recipe:
    """The run's recipe with what a refit changes: objective and length, a posterior and a prior of their own."""
    recipe = run.recipe
    train = recipe.train.model_copy(
        update={
            "epochs": None, "steps": STEPS, "patience": None, "keep": "best", "validate_every": 1,
            "learning_rate": LEARNING_RATE, "schedule": "cosine", "warm_up": 0.02, "learning_rate_floor": 0.0,
            "start": str(run.path), "frozen": FROZEN, "pictures": False, "picture_every": None, "compile": "auto",
            "device": "auto", "precision": "auto", "threads": "auto", "devices": 1, "nodes": 1, "strategy": "auto",
        }
    )  # fmt: skip
    parts: dict[str, Any] = {"objective": Part(kind="DReG", arguments={"draws": DRAWS}), "train": train}
    prior = run.model.prior
    if hasattr(prior, "apart"):
        apart = prior.apart()  # type: ignore[operator]
        parts["prior"] = Part(kind=type(apart).__name__, arguments={"components": len(apart.means)})
    if not getattr(run.model.posterior, "has_density", True):
        if recipe.posterior.net is None or recipe.posterior.net.kind == GIVEN:
            raise VaekitError(
                f"{run.path} has a point posterior on a net of your own, which gives no variances; train it with "
                "GaussianPosterior, or with a net of vaekit's"
            )
        parts["posterior"] = Part(kind="GaussianPosterior", net=recipe.posterior.net)
    return recipe.model_copy(update=parts)


@torch.no_grad()
def _start(fresh: VAE, model: VAE, rows: tuple[Tensor, Tensor | None]) -> dict[str, Tensor]:
    """The run's weights as the refit has them, its own where it has more. A prior that is made of the posterior is taken
    apart from it; a point posterior's last layer becomes the means, beside log-variances that start as constants."""
    state = model.state_dict()
    if hasattr(model.prior, "apart"):
        apart: nn.Module = model.prior.apart()  # type: ignore[operator]
        state = {name: value for name, value in state.items() if not name.startswith("prior.")}
        state |= {f"prior.{name}": value for name, value in apart.state_dict().items()}
    own = fresh.state_dict()
    if getattr(model.posterior, "has_density", True):
        return {name: value.detach().cpu().clone() for name, value in state.items()}
    x, c = rows
    spread = (SHARE * model.encode(x, c).mean.var(0)).clamp_min(1e-6).log()  # [D]
    for name, value in state.items():
        if own[name].shape != value.shape:
            wide = torch.zeros_like(own[name])
            if wide.shape != (2 * len(value), *value.shape[1:]):
                raise VaekitError(
                    f"posterior.{name} is {list(value.shape)} and would be {list(wide.shape)}: this net has no last "
                    "layer that could give variances too; train it with GaussianPosterior"
                )
            wide[: len(value)] = value
            if value.dim() == 1:
                wide[len(value) :] = spread
            state[name] = wide
    return {name: value.detach().cpu().clone() for name, value in state.items()}


def _stale(
    folder: RunFolder, start: dict[str, Tensor], changes: dict[str, Any], allow: list[str]
) -> str | None:
    """Why a refit that is there serves no longer, or None."""
    if not (folder.recipe.is_file() and folder.contract.is_file() and folder.start.is_file()):
        return "it was cut short before it began"
    if not same(weights.read(folder.start)[1], start, exact="likelihood."):
        return "it belongs to other weights of this run"
    recipe = folder.read_recipe(allow)
    telling = {
        name: {key: value for key, value in section.items() if (name, key) not in NOTHING}
        for name, section in changes.items()
    }
    return "it was made with other settings" if recipe.updated(telling) != recipe else None


def _aside(folder: RunFolder) -> str:
    """Make room for another refit, and say how: one that holds weights is kept, under the next free number."""
    if not folder.weights.is_file():
        shutil.rmtree(folder.path)
        return "removed, for it has no weights"
    number = 2
    while (target := folder.path.with_name(f"{FOLDER}-{number}")).exists():
        number += 1
    folder.path.rename(target)
    return f"it is now {target}"


def _how(folder: RunFolder, allow: list[str]) -> str:
    objective = folder.read_recipe(allow).objective
    draws, epochs = objective.arguments.get("draws", 1), folder.read_metrics()[-1]["epoch"]
    return f"{objective.kind}, {draws} draw{'s' * (draws != 1)}, {epochs} epoch{'s' * (epochs != 1)}"


def _trained(folder: RunFolder, allow: list[str]) -> bool:
    lines, epochs = folder.read_metrics(), folder.read_recipe(allow).train.epochs
    return folder.weights.is_file() and bool(lines) and lines[-1]["epoch"] == epochs


def _modules(recipe: Recipe) -> list[str]:
    """The modules of parts from outside vaekit, which were allowed when the run was opened."""
    parts = [recipe.prior, recipe.posterior, recipe.likelihood, recipe.posterior.net, recipe.likelihood.net]
    kinds = [part.kind for part in parts if part is not None and part.kind is not None]
    return [kind.rpartition(".")[0] for kind in kinds if is_import_path(kind)]
