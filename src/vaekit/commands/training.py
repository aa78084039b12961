"""`train`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from vaekit.commands.app import Allow, Out, Seed, Set, app
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
    size: str | None = None,
    grey: bool | None = None,
    binarize: Literal["dynamic", "static"] | None = None,
    limit: int | None = None,
    key: str | None = None,
    labels: str | None = None,
    kind: str | None = None,
    set_: Set = None,
    allow: Allow = None,
) -> None:
    """Train a VAE on a name or a path; without one, on scikit-learn's handwritten digits.

    Parameters
    ----------
    data
        digits, mnist, fashion-mnist, or a path: images in a folder, zip or tar; idx, npy, npz, CSV, parquet.
    output
        The run folder to make; it must not exist. Without it: runs/NAME, then NAME-2.
    recipe
        A recipe by name (see `vaekit recipes`) or a TOML file. Without it one is chosen, and the reason said.
    resume
        Go on with this run, exactly where it stopped; with --set train.epochs=M it is extended. DATA is needed only
        where the data have moved.
    latent
        Latent dimensions D (short for --set model.latent=D).
    seed
        The run's seed (the split of the data has its own, data.seed).
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
        What the values are, if the guess is wrong: binary, levels, 8-bit, colour, real, counts, categories.
    set_
        Override a value of the recipe: --set train.epochs=3 --set prior.kind=FlowPrior.
    allow
        A module whose classes a recipe may name by import path.
    """
    from vaekit.train import fit as room

    trust(allow)
    if resume is not None:
        fixed = {
            "-o": output, "--recipe": recipe, "--latent": latent, "--seed": seed, "--device": device, "--size": size,
            "--grey": grey, "--binarize": binarize, "--limit": limit, "--key": key, "--labels": labels, "--kind": kind,
        }  # fmt: skip
        extra = [name for name, value in fixed.items() if value is not None]
        if extra:
            raise VaekitError(
                f"--resume goes on with a run as it is; leave out {', '.join(extra)}, or use --set train."
            )
        run = room.resume(resume, data=data, set=set_ or (), allow=allow or (), progress=True)
    else:
        run = room.fit(
            data, recipe=recipe, latent=latent, output=output, seed=seed, device=device, size=size, grey=grey,
            binarize=binarize, limit=limit, key=key, labels=labels, kind=kind, set=set_ or (), allow=allow or (),
            progress=True,
        )  # fmt: skip
    if os.environ.get("LOCAL_RANK", "0") == "0":  # once, though several processes trained
        print(run.path)
