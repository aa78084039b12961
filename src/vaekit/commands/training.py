"""`train`, `sweep`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from vaekit.commands.app import Allow, Count, Out, Seed, Set, app
from vaekit.commands.results import trust
from vaekit.errors import VaekitError


@app.command
def train(
    data: str | None = None,
    /,
    *,
    output: Out = None,
    recipe: str | None = None,
    resume: Path | None = None,
    latent: int | None = None,
    seed: Seed | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] | None = None,
    devices: Count | None = None,
    nodes: Count | None = None,
    strategy: Literal["auto", "ddp", "fsdp"] | None = None,
    size: str | None = None,
    grey: bool | None = None,
    binarize: Literal["dynamic", "static"] | None = None,
    limit: int | None = None,
    key: str | None = None,
    labels: str | None = None,
    kind: str | None = None,
    set_: Set = None,
    allow: Allow = None,
) -> int:
    """Train a VAE on a name or a path; without one, on scikit-learn's handwritten digits.

    Parameters
    ----------
    data
        digits, mnist, fashion-mnist, static-mnist, sprites, dna, mushrooms, or a path: images in a folder, zip or
        tar; idx, npy, npz, CSV, parquet.
    output
        The run folder to make; it must not exist. Without it: runs/NAME, then NAME-2.
    recipe
        A recipe by name (see `vaekit recipes`) or a TOML file. Without it one is chosen, and the reason said. One with
        [members] writes RUN/NAME for each of them and RUN/compare.html.
    resume
        Go on with this run (or with members, or a sweep) exactly where it stopped; with --set train.epochs=M it is
        extended. DATA is needed only where the data have moved.
    latent
        Latent dimensions D (short for --set model.latent=D).
    seed
        The run's seed (the split of the data has its own, data.seed).
    device
        Where to compute; auto takes CUDA, then MPS, then the CPU.
    devices
        Processes on this machine, one a GPU or, on the CPU, each with its share of the cores. train.batch_size is that
        of one process.
    nodes
        Machines. Run the same command on each, with MASTER_ADDR and MASTER_PORT of the first and its own NODE_RANK from
        0 in the environment, and a run folder that all of them see; or use torchrun, and leave --devices and --nodes
        out.
    strategy
        How processes share the work: ddp keeps all weights in each, fsdp a part of them.
    size
        Images to this short side with a centre crop, or to HxW.
    grey
        Colour images to grey.
    binarize
        Bits instead of grey values: drawn afresh at each access, or once.
    limit
        At most so many rows a split.
    key
        Which array of an npz.
    labels
        Which array or column holds the labels.
    kind
        What the values are, if the guess is wrong: binary, levels, 8-bit, colour, real, counts, categories.
    set_
        Override a value of the recipe: --set train.epochs=3 --set prior.kind=FlowPrior.
    allow
        A module whose classes a recipe may name by import path.
    """
    from vaekit import members
    from vaekit.train import fit as room

    trust(allow)
    several = {"devices": devices, "nodes": nodes, "strategy": strategy}
    if resume is not None:
        fixed = {
            "-o": output, "--recipe": recipe, "--latent": latent, "--seed": seed, "--device": device, "--size": size,
            "--grey": grey, "--binarize": binarize, "--limit": limit, "--key": key, "--labels": labels, "--kind": kind,
            **{f"--{name}": value for name, value in several.items()},
        }  # fmt: skip
        extra = [name for name, value in fixed.items() if value is not None]
        if extra:
            raise VaekitError(
                f"--resume goes on with a run as it is; leave out {', '.join(extra)}, or use --set train."
            )
        again: dict[str, Any] = {"data": data, "set": set_ or (), "allow": allow or (), "progress": True}
        if members.has_several(resume):
            return _tell(members.resume_members(resume, **again))
        run = room.resume(resume, **again)
    else:
        set_ = [
            *(f"train.{name}={value}" for name, value in several.items() if value is not None),
            *(set_ or ()),
        ]
        asked: dict[str, Any] = {
            "recipe": recipe, "latent": latent, "output": output, "seed": seed, "device": device, "size": size,
            "grey": grey, "binarize": binarize, "limit": limit, "key": key, "labels": labels, "kind": kind,
            "set": set_, "allow": allow or (), "progress": True,
        }  # fmt: skip
        if recipe is not None and members.is_of_several(recipe):
            return _tell(members.fit_members(data, **asked))
        run = room.fit(data, **asked)
    if os.environ.get("RANK", "0") == "0":  # once, though several processes trained
        print(run.path)
    return 0


@app.command
def sweep(
    data: str | None = None,
    /,
    *,
    over: str,
    output: Out = None,
    recipe: str | None = None,
    latent: int | None = None,
    seed: Seed | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] | None = None,
    size: str | None = None,
    grey: bool | None = None,
    binarize: Literal["dynamic", "static"] | None = None,
    limit: int | None = None,
    key: str | None = None,
    labels: str | None = None,
    kind: str | None = None,
    set_: Set = None,
    allow: Allow = None,
    lang: Literal["en", "ko"] = "en",
) -> int:
    """Train a recipe with each value of one setting: rate against distortion, reconstructions, samples.

    Writes RUN/VALUE for each, RUN/sweep.html, sweep.png and sweep.csv. What was interrupted goes on with
    vaekit train --resume RUN.

    Parameters
    ----------
    data
        As for `train`.
    over
        The setting and its values: --over objective.beta=0.1,1,10.
    output
        The folder to make; it must not exist. Without it: runs/NAME, then NAME-2.
    recipe
        A recipe by name or a TOML file. Without it one is chosen from the data.
    latent
        Latent dimensions D.
    seed
        The seed of every run.
    device
        Where to compute; auto takes CUDA, then MPS, then the CPU.
    size
        Images to this short side with a centre crop, or to HxW.
    grey
        Colour images to grey.
    binarize
        Bits instead of grey values: drawn afresh at each access, or once.
    limit
        At most so many rows a split.
    key
        Which array of an npz.
    labels
        Which array or column holds the labels.
    kind
        What the values are, if the guess is wrong.
    set_
        Override a value of the recipe, in every run: --set train.epochs=3.
    allow
        A module whose classes a recipe may name by import path.
    lang
        The language of the page; ko writes sweep.ko.html.
    """
    from vaekit import members

    trust(allow)
    return _tell(
        members.sweep(
            data, over=over, recipe=recipe, latent=latent, output=output, seed=seed, device=device, size=size,
            grey=grey, binarize=binarize, limit=limit, key=key, labels=labels, kind=kind, set=set_ or (),
            allow=allow or (), lang=lang, progress=True,
        )
    )  # fmt: skip


def _tell(runs: dict[str, Any]) -> int:
    """Print where the runs are; 2 if a member is missing, which a note has told."""
    from vaekit.members import planned

    folder = next(iter(runs.values())).path.parent
    print(folder)
    return 0 if len(runs) == len(planned(folder).members) else 2
