"""From data to a trained run: open, choose, resolve, build, train, look. `fit` starts one, `resume` goes on."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaekit.errors import VaekitError
from vaekit.train.given import (
    data_options,
    introduction,
    is_name,
    kept_source,
    opened,
    refuse_beyond_train,
    voice,
    without_none,
)
from vaekit.train.running import begin, carry_out, fitted_after

if TYPE_CHECKING:
    from torch import nn

    from vaekit.data import Data
    from vaekit.run import Run


def fit(
    data: Any = None,
    *,
    recipe: str | os.PathLike[str] | None = None,
    latent: int | None = None,
    output: str | os.PathLike[str] | None = None,
    seed: int | None = None,
    device: str | None = None,
    size: int | str | None = None,
    grey: bool | None = None,
    binarize: str | None = None,
    limit: int | None = None,
    key: str | None = None,
    labels: Any = None,
    kind: str | None = None,
    set: Iterable[str] = (),
    nets: Mapping[str, nn.Module] | None = None,
    allow: Collection[str] = (),
    progress: bool | None = None,
) -> Run:
    """Train a VAE and return the run, which is also a folder: `runs/NAME`, or `output`, which must not exist.

    data: a name, a path, an array, a tensor, an (x, y) pair, a dict of splits or a torch `Dataset`; by default
    scikit-learn's digits. recipe: a name or a TOML file; by default chosen from the data, and the reason said.
    set: overrides, "section.key=value". nets: your own modules, {"posterior": module, "likelihood": module}.
    progress: show what happens on stderr; by default only on a terminal. The other arguments are short for keys of
    the recipe's sections [data], [model] and [train].

    Raises VaekitError for bad input, and InterruptedRun (a KeyboardInterrupt) once Ctrl-C has saved the run.

    >>> run = fit("digits", latent=2, set=["train.epochs=3"])    # doctest: +SKIP
    >>> run.model.sample(16).shape                               # doctest: +SKIP
    torch.Size([16, 1, 8, 8])
    """
    from vaekit import recipe as room
    from vaekit.run import RunFolder

    say = voice(progress)
    options = {
        "size": size,
        "grey": grey,
        "binarize": binarize,
        "limit": limit,
        "key": key,
        "labels": labels,
        "kind": kind,
    }
    overrides = list(set)
    if output is not None:
        RunFolder.refuse_taken(output)  # before large data are read
    # what is wrong with an override is said before any data are opened; as long as the recipe is to be chosen
    # from the data, only those that say which data
    early = overrides if recipe is not None else [o for o in overrides if o.strip().startswith("data.")]
    room.load(recipe or room.DEFAULT, early)
    named = dict(room.overrides_tree(overrides).get("data", {}))
    source = named.pop("source", None) if data is None else data
    options = named | {name: value for name, value in options.items() if value is not None}
    found: Data | None = None
    if recipe is None:
        source = "digits" if source is None else source
        found = opened(source, options)
        recipe, reason = room.for_contract(found.contract)
        because = f"recipe {recipe}: {reason}"
    else:
        because = f"recipe {Path(recipe).stem}: as asked"
    chosen = room.load(recipe, overrides)
    plain = {name: value for name, value in options.items() if isinstance(value, str | int | bool)}
    chosen = chosen.updated(
        {"data": plain, "model": without_none(latent=latent), "train": without_none(seed=seed, device=device)}
    )
    if source is None:
        source = chosen.data.source or "digits"
    wanted = data_options(chosen) | options
    if found is None or wanted != options:
        found = opened(source, wanted)
    introduction(found, say)
    say(because)
    kept = kept_source(source) if isinstance(source, str | os.PathLike) else found.contract.source
    chosen = chosen.updated({"data": {"source": kept}})
    return begin(chosen, found, output, say, nets=nets, allow=allow, progress=progress)


def resume(
    path: str | os.PathLike[str],
    *,
    set: Iterable[str] = (),
    data: Any = None,
    nets: Mapping[str, nn.Module] | None = None,
    allow: Collection[str] = (),
    progress: bool | None = None,
) -> Run:
    """Go on with a run exactly where it stopped; with `set=["train.epochs=M"]` it is extended and planned anew.

    data: the data again, where the run was made from an array (with labels an (x, y) pair), or where they have moved;
    opened data are taken as they are.
    Raises VaekitError if the folder is no run, or its data are no longer what they were.
    """
    from vaekit.recipe import overrides_tree
    from vaekit.run import RunFolder

    say = voice(progress)
    folder = RunFolder.open(path)
    recipe, contract = folder.read_recipe(allow=allow), folder.read_contract()
    if fitted_after(recipe):
        from vaekit.run import as_trained

        how = "go on with the run that it was made from"
        if as_trained.kept(folder).is_dir():
            how = f"bring the trained one back with vaekit fit-prior {folder.path} --restore"
        raise VaekitError(
            f"{folder.path} cannot be trained further: its {recipe.prior.kind} was fitted after training; {how}"
        )
    changes = overrides_tree(set)
    refuse_beyond_train(changes)
    recipe = recipe.updated(changes)
    source = data if data is not None else recipe.data.source
    if source is None or (data is None and source == contract.source and not is_name(source)):
        raise VaekitError(
            f"{folder.path} was made from {contract.source}, not from a path; give the data again: "
            "vaekit train DATA --resume RUN, or resume(run, data=...)"
        )
    found = opened(source, data_options(recipe))
    if found.contract.hash != contract.hash:
        raise VaekitError(
            f"{found.contract.source} is not what {folder.path} was trained on (hash {found.contract.hash[:12]} now, "
            f"{contract.hash[:12]} then); bring them back, or start a new run"
        )
    if isinstance(data, str | os.PathLike):
        recipe = recipe.updated({"data": {"source": kept_source(data)}})
    say(f"resuming {folder.path}: {found.contract.line()}")
    return carry_out(
        recipe,
        found,
        folder,
        say,
        nets=nets,
        allow=allow,
        progress=progress,
        resume=True,
        changed=bool(changes) or isinstance(data, str | os.PathLike),
    )
