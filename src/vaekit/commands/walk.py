"""Looking at a trained run: `sample`, `reconstruct`, `interpolate`, `traverse`, `manifold`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from vaekit.commands.app import Allow, Engine, Out, Point, Seed, Split, app
from vaekit.commands.results import (
    folder_of,
    is_picture,
    opened_run,
    save_arrays,
    save_items,
    save_picture,
    target_of,
    tell_shards,
    walk_ends,
)


@app.command
def sample(
    run: Path, /, *, n: Annotated[int, Parameter(name=["-n", "--count"])] = 64, output: Out = None, seed: Seed = 0,
    label: str | None = None, noise: bool = False, columns: int | None = None, engine: Engine = None,
    allow: Allow = None,
) -> None:  # fmt: skip
    """Draw from the prior and decode: a picture, or arrays (-o F.npz, F.npy, F.csv, F.parquet).

    Parameters
    ----------
    run
        A run folder, or its model.safetensors.
    n
        How many.
    output
        The file to write; its ending says what. Without it: samples.png in the current folder.
    seed
        The seed of the draws.
    label
        For a label-conditional run: which label; without it all labels in turn.
    noise
        Draw from p(x given z) instead of showing its centre.
    columns
        Columns of the picture.
    engine
        Write a folder of parquet files, 10,000 samples each, instead of one file: here (local), or by Ray on every core
        or GPU. The same command goes on where one was stopped.
    """
    if engine is not None:
        from vaekit import shards

        target = folder_of(output, "samples")
        done = shards.sample(
            run,
            n,
            target,
            engine=engine,
            label=label,
            noise=noise,
            seed=seed,
            allow=allow or (),
            progress=True,
        )
        tell_shards(done, target)
        return
    target = target_of(output, "samples.png")
    opened = opened_run(run, allow)
    x, z = opened.sample(n, seed=seed, label=label, noise=noise, with_codes=True)
    names = opened.contract.labels if opened.condition and label is None else ()
    each = n // len(names) if names else 0
    if each and columns is None and is_picture(target) and opened.contract.is_image:
        # labels come in turn: a named row for each of them
        by_label = x[: each * len(names)].reshape(each, len(names), *x.shape[1:]).swapaxes(0, 1)
        save_items(
            opened,
            target,
            by_label.reshape(-1, *x.shape[1:]),
            columns=each,
            rows=[str(name) for name in names],
        )
    else:
        save_items(opened, target, x, columns=columns, z=z)


@app.command
def reconstruct(
    run: Path, data: str | None = None, /, *, n: Annotated[int, Parameter(name=["-n", "--count"])] = 10,
    split: Split = "test", label: str | None = None, output: Out = None, seed: Seed = 0, allow: Allow = None,
) -> None:  # fmt: skip
    """Originals beside their reconstructions.

    Parameters
    ----------
    run
        A run folder, or its model.safetensors.
    data
        A path or name; without it the run's own data.
    n
        How many rows, chosen by the seed.
    split
        Which split of the data.
    label
        For a label-conditional run: the label of rows that have none.
    output
        PNG, npz, npy. Without it: reconstructions.png.
    seed
        Chooses the rows.
    """
    target = target_of(output, "reconstructions.png")
    opened = opened_run(run, allow)
    originals, reconstructions = opened.reconstruct(data, n=n, split=split, seed=seed, label=label)
    if is_picture(target):
        save_picture(opened.picture_of_pairs(originals, reconstructions), target)
    else:
        save_arrays(target, "reconstruction", {"original": originals, "reconstruction": reconstructions})


@app.command
def interpolate(
    run: Path, /, *, from_: Annotated[Point, Parameter(name="--from")], to: Point, steps: int = 10,
    path: Literal["spherical", "linear"] = "spherical", label: str | None = None, output: Out = None, seed: Seed = 0,
    allow: Allow = None,
) -> None:  # fmt: skip
    """Walk between two codes.

    Parameters
    ----------
    run
        A run folder, or its model.safetensors.
    from_
        Where from: a row of the test split (17), an image file, or a latent point (0.5,0.5; for D = 1: 0.5,).
    to
        Where to, likewise.
    steps
        Pictures on the way, both ends counted.
    path
        Along the great circle, or straight.
    label
        For a label-conditional run: which label.
    output
        PNG, npz, npy. Without it: interpolation.png.
    seed
        Draws nothing; every command that writes takes it.
    """
    target = target_of(output, "interpolation.png")
    opened = opened_run(run, allow)
    x, z = opened.interpolate(from_, to, steps=steps, path=path, label=label)
    save_items(opened, target, x, columns=steps, steps=walk_ends("from", "to", len(x)), z=z)


@app.command
def traverse(
    run: Path, /, *, at: Point | None = None, dimensions: Point | None = None, steps: int = 9, extent: float = 2.5,
    label: str | None = None, output: Out = None, seed: Seed = 0, allow: Allow = None,
) -> None:  # fmt: skip
    """Move one latent dimension at a time, a row each, the most active dimensions first.

    Parameters
    ----------
    run
        A run folder, or its model.safetensors.
    at
        Around which code: a row of the test split, an image file or a latent point; without it the mean code.
    dimensions
        Which dimensions (0,3,5); without it the ten that carry most.
    steps
        Pictures a row.
    extent
        How far to each side, in standard deviations of the codes.
    label
        For a label-conditional run: which label.
    output
        PNG, npz, npy. Without it: traversal.png.
    seed
        Draws nothing; every command that writes takes it.
    """
    target = target_of(output, "traversal.png")
    opened = opened_run(run, allow)
    x, z, names = opened.traverse(at, dimensions=dimensions, steps=steps, extent=extent, label=label)
    ends = [end for name in names for end in walk_ends(f"{name} {-extent:+g}", f"{extent:+g}", steps)]
    save_items(opened, target, x, columns=steps, rows=names, steps=ends if steps > 1 else names, z=z)


@app.command
def manifold(
    run: Path, /, *, n: Annotated[int, Parameter(name=["-n", "--count"])] = 20, label: str | None = None,
    output: Out = None, seed: Seed = 0, allow: Allow = None,
) -> None:  # fmt: skip
    """The decoded latent grid, n x n: by the prior's quantiles for D = 2, in the codes' PCA plane for D > 2.

    Parameters
    ----------
    run
        A run folder, or its model.safetensors.
    n
        Pictures a side.
    label
        For a label-conditional run: which label.
    output
        PNG, npz, npy. Without it: manifold.png.
    seed
        The seed of the draws by which a prior without closed-form quantiles is measured.
    """
    target = target_of(output, "manifold.png")
    opened = opened_run(run, allow)
    x, z = opened.manifold(n, label=label, seed=seed)
    if is_picture(target) and not opened.contract.is_image:
        save_picture(opened.picture_of_grid(x, n), target)
    else:
        save_items(opened, target, x, columns=n, z=z)
