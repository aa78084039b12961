"""A prior for a trained model: a density is fitted to the codes of its training rows, and stored as the run's prior."""

from __future__ import annotations

import copy
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vaekit import pictures
from vaekit.errors import VaekitError, nearest
from vaekit.files import write_text
from vaekit.recipe import Part
from vaekit.run import Run, RunFolder, as_trained, inputs, load
from vaekit.train.density import HIDDEN, LAYERS, Codes, flow, mixture
from vaekit.train.given import Say, voice
from vaekit.train.interrupt import Interrupt
from vaekit.train.look import look
from vaekit.train.running import InterruptedRun

if TYPE_CHECKING:
    from torch import nn

    from vaekit.data import Split

KINDS = ("gaussian", "mixture", "flow")
CODES, DRAWS = 50_000, 32  # codes that a density is fitted to, and draws of a row where rows are fewer
SHARE = 0.1  # of the training rows, held out where there are no validation rows
PICTURED = 10  # samples in a row of the picture


def fit_prior(
    run: Run, kind: str, *, data: Any = None, components: int | None = None,
    output: str | os.PathLike[str] | None = None, seed: int = 0, progress: bool | None = None,
) -> Run:  # fmt: skip
    """As `Run.fit_prior`."""
    folder = _folder(run, kind, components, output)
    if data is not None:
        run.own = inputs.own_data(run, run.contract, moved=data)
    say = voice(progress)
    try:
        after, facts, picture = _fitted(run, kind, components, seed, say, progress)
    except KeyboardInterrupt as interruption:
        raise InterruptedRun(
            f"interrupted; {folder.path} is as it was, so ask for the fit again"
        ) from interruption
    with Interrupt():  # seconds: what is stored is stored whole
        return _stored(after, folder, output, facts, picture, say)


def restore_prior(
    path: str | os.PathLike[str], *, nets: Mapping[str, nn.Module] | None = None, allow: Collection[str] = ()
) -> Run:
    """Bring back the prior that the run at `path` was trained with, and what was read by means of it. `nets` and `allow`
    as in `load`. Raises VaekitError for a run that has no other prior."""
    folder = RunFolder.open(path)
    if folder.read_recipe(allow).prior.trained is not None and not as_trained.kept(folder).is_dir():
        raise VaekitError(
            f"{path} was made with its fitted prior, and never had another; the run that it was made from has"
        )
    as_trained.restore(folder)
    run = load(path, nets=nets, allow=allow)
    try:
        run.data()
    except VaekitError:
        return run  # made from an array: there are no rows to draw its pictures with
    _pictures(run)
    return run


def _folder(run: Run, kind: str, components: int | None, output: str | os.PathLike[str] | None) -> RunFolder:
    """The run's folder. Raises VaekitError for what cannot be fitted, before anything is read."""
    inputs.need_latent(run, "there are no codes to fit a prior to")
    if kind not in KINDS:
        raise VaekitError(f"{kind!r} is no density that is fitted to codes{nearest(kind, KINDS)}")
    if components is not None and kind != "mixture":
        raise VaekitError(
            f"components belong to a mixture; leave them out, or ask for kind mixture, not {kind}"
        )
    if kind == "flow" and run.model.latent < 2:
        raise VaekitError("a coupling flow needs at least 2 latent dimensions, not 1; fit a mixture")
    if run.folder is None:
        raise VaekitError(
            f"{run.path} is a weights file alone; give the folder of its run, where a prior is kept"
        )
    if output is not None:
        RunFolder.refuse_taken(output)
    elif not os.access(run.folder.path, os.W_OK):
        raise VaekitError(f"{run.path} cannot be written to; give another folder with -o")
    return run.folder


def _fitted(
    run: Run, kind: str, components: int | None, seed: int, say: Say, progress: bool | None
) -> tuple[Run, dict[str, Any], Any]:
    """The run with the new prior, in memory alone; what it has brought; and samples before and after as a picture."""
    chooses = kind == "flow" or (kind == "mixture" and components is None)
    taught, choosing, held = _splits(run, seed, chooses)
    codes, others = drawn(run, taught, seed), drawn(run, choosing, seed + 1)
    judged = drawn(run, held, seed + 2) if chooses else others
    if not float(codes.z.flatten(0, 1).std(0, correction=0).max()):
        raise VaekitError(
            f"all codes of {run.path} are one point: the model has collapsed, so train it again"
        )
    draws = f"{len(codes.z)} draw{'s' * (len(codes.z) != 1)} each"
    say(f"fitting a {kind} to the codes of {codes.z.shape[1]:,} training rows, {draws}")
    arguments: dict[str, Any]
    if kind == "flow":
        prior = flow(codes, others, run.recipe, run.contract, seed, progress)
        arguments = {"layers": LAYERS, "hidden": list(HIDDEN)}
    else:
        prior = mixture(codes, others, 1 if kind == "gaussian" else components, seed, say)
        arguments = {"components": len(prior.means)}  # type: ignore[arg-type]
    former = run.recipe.prior
    part = Part(kind=type(prior).__name__, arguments=arguments, trained=former.trained or former)
    objective = copy.deepcopy(run.objective)
    objective.model.prior = prior.to(run.device).eval()
    before = Run(run.path, run.recipe, run.contract, run.objective)  # neither leaves readings in a folder
    after = Run(run.path, run.recipe.model_copy(update={"prior": part}), run.contract, objective)
    before.own = after.own = run.own
    facts = {
        "prior": part.kind, "arguments": arguments, "before": former.kind, "kind": kind, "seed": seed,
        "rows": codes.z.shape[1], "draws": len(codes.z),
        "log_density": {"choosing_rows": len(choosing) if chooses else 0} | _densities(before, after, held, judged),
        "samples": _samples(before, after, say, progress),
    }  # fmt: skip
    return after, facts, _side_by_side(before, after, seed)


def _stored(
    after: Run, folder: RunFolder, output: str | os.PathLike[str] | None, facts: dict[str, Any], picture: Any, say: Say
) -> Run:  # fmt: skip
    """Make `after` the run of the folder, or of a new one."""
    if output is not None:
        return _new(after, folder, Path(output).expanduser(), facts, picture)
    kept = as_trained.keep(folder)
    _written(after, folder, folder, facts, picture)
    say(kept)
    return _as(after, folder)


def _new(after: Run, folder: RunFolder, path: Path, facts: dict[str, Any], picture: Any) -> Run:
    """`after` in a folder of its own with what training left to look at, which appears whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=path.parent) as beside:
            target = RunFolder.create(Path(beside) / "run")
            for name in as_trained.RUN[1:-1]:
                if (folder.path / name).is_file():
                    shutil.copy2(folder.path / name, target.path / name)
            for place in (folder.pictures, folder.frames):
                if place.is_dir():
                    shutil.copytree(place, target.path / place.name)
            _written(after, folder, target, facts, picture)
            target.path.rename(path)
    except OSError as error:
        raise VaekitError(f"cannot make {path}: {error.strerror}; choose another -o") from error
    return _as(after, RunFolder(path))


def _written(after: Run, former: RunFolder, target: RunFolder, facts: dict[str, Any], picture: Any) -> None:
    """Recipe, weights, facts and pictures of `after`, which was made from the run in `former`."""
    target.write_recipe(after.recipe, _command(former))
    target.write_model(after.model.state_dict())
    write_text(target.path / "prior.json", json.dumps(facts, indent=2) + "\n")
    _pictures(_as(after, target))
    pictures.save(picture, target.pictures / "prior.png")


def _as(run: Run, folder: RunFolder) -> Run:
    """The run, opened from a folder."""
    result = Run(folder.path, run.recipe, run.contract, run.objective, folder)
    result.own = run.own
    return result


def _splits(run: Run, seed: int, chooses: bool) -> tuple[Split, Split, Split]:
    """Training rows; rows that are held out from the fit to choose a density; and rows that say what it has gained, which
    are others where it `chooses`. The validation split, by halves, else a tenth of the training rows."""
    data, rng = run.data(), np.random.default_rng(seed)
    train, valid = data.train.frozen(run.contract), data.valid
    if valid is not None and len(valid) > 1:
        held = valid.frozen(run.contract)
    elif len(train) > 2:
        order = rng.permutation(len(train))
        few = max(2, round(SHARE * len(train)))
        train, held = inputs.subset(train, np.sort(order[few:])), inputs.subset(train, np.sort(order[:few]))
    else:
        raise VaekitError(f"there is no prior to fit to so few rows: {len(train)}; give at least 3")
    if not chooses:
        return train, held, held
    halves = np.array_split(rng.permutation(len(held)), 2)
    first, second = (inputs.subset(held, np.sort(half[:CODES])) for half in halves)
    return train, first, second


def drawn(run: Run, rows: Split, seed: int) -> Codes:
    """Codes of at most `CODES` rows: draws of the posterior, more than one of each where the rows are few, or the one
    code of a point posterior. Raises VaekitError for codes that are not finite.

    The mean log p(z) of draws is the one term of the ELBO that a prior can raise; that of mean codes is not.
    """
    if len(rows) > CODES:
        rows = inputs.subset(rows, np.sort(np.random.default_rng(seed).permutation(len(rows))[:CODES]))
    point = not getattr(run.model.posterior, "has_density", True)
    times = 1 if point else int(np.clip(CODES // len(rows), 1, DRAWS))
    parts = []
    with run.looking(seed):
        for x, c in run.batches(rows):
            q = run.model.encode(x, c)
            parts.append((q.mean[None] if point else q.sample((times,))).float().cpu())
    z = torch.cat(parts, 1)  # [S, N, D]
    if not z.isfinite().all():
        raise VaekitError(
            f"some codes of {run.path} are not finite; its weights are broken, so train it again"
        )
    label = torch.from_numpy(rows.label) if run.condition and rows.label is not None else None
    return Codes(z, label, len(run.contract.labels) if run.condition else 0)


def _densities(before: Run, after: Run, held: Split, codes: Codes) -> dict[str, Any]:
    """Mean log p(z) of codes held out from the fit, under both priors, and what the fit has gained."""
    found = []
    for run in (before, after):
        home = run.device
        with run.looking():
            found.append(codes.log_density(run.model.cpu().prior))
        run.model.to(home)
    gain = found[1] - found[0]
    error = float(gain.std() / len(gain) ** 0.5) if len(gain) > 1 else None
    return {
        "split": held.name, "rows": len(gain), "before": float(found[0].mean()), "after": float(found[1].mean()),
        "gain": float(gain.mean()), "gain_standard_error": error,
    }  # fmt: skip


def _samples(before: Run, after: Run, say: Say, progress: bool | None) -> dict[str, Any] | None:
    """How far samples are from held-out rows, before and after; None where rows are too few to tell."""
    say("judging samples")
    name = next(name for name in ("test", "valid", "train", "all") if name in before.data().splits)
    try:
        first, second = (run.samples(split=name, progress=bool(progress)) for run in (before, after))
    except VaekitError as error:
        say(f"samples are not judged: {error}")
        return None
    kinds = {"features": first["features"]["kind"], "n": first["items"]["n"], "split": name}
    measures = {
        key: {"before": first["items"]["samples"][key], "after": second["items"]["samples"][key],
              "floor": first["items"]["floor"][key]}
        for key in ("frechet", "precision", "recall")
    }  # fmt: skip
    return kinds | measures


def _side_by_side(before: Run, after: Run, seed: int) -> Any:
    """Samples of both priors with the same seed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the former prior was fitted to nothing is why we are here
        items = [run.sample(3 * PICTURED, seed=seed) for run in (before, after)]
    names = [type(run.model.prior).__name__ for run in (before, after)]
    if before.contract.is_image:
        rows = [names[0], "", "", names[1], "", ""]
        return before.picture_of(np.concatenate(items), columns=PICTURED, rows=rows)
    return pictures.vectors(items[0], items[1], before.contract.columns or None, (names[0], names[1]))


def _pictures(run: Run) -> None:
    """The run's pictures that show its prior, drawn anew."""
    data = run.data()
    shown = data.test or data.valid or data.train
    assert run.folder is not None
    look(
        run.model, run.contract, shown.frozen(run.contract), (), run.folder.pictures, seed=run.recipe.train.seed,
        condition=run.condition, mapped=data.train if len(shown) < 1000 else shown, fitted=run.fitted,
    )  # fmt: skip


def _command(folder: RunFolder) -> str:
    """What made the run, as its recipe says: the prior is in the recipe, the way it was trained is not elsewhere."""
    lines = folder.recipe.read_text(encoding="utf-8").splitlines()
    return lines[1].removeprefix("# ") if len(lines) > 1 and lines[1].startswith("# ") else ""
