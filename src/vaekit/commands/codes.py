"""Data to codes, and codes to data: `encode`, `decode`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

from vaekit.commands.app import PICTURED, Allow, Engine, Out, Points, Seed, app
from vaekit.commands.results import (
    folder_of,
    is_picture,
    opened_run,
    save_arrays,
    save_items,
    save_picture,
    target_of,
    tell_shards,
)
from vaekit.errors import VaekitError


@app.command
def encode(
    run: Path, data: str | None = None, /, *, split: Literal["train", "valid", "test", "all"] = "all",
    label: str | None = None, output: Out = None, colours: str | None = None, scores: int | None = None,
    engine: Engine = None, seed: Seed = 0, allow: Allow = None,
) -> None:  # fmt: skip
    """Codes of data: `mean`, `log_variance`, `label` for every row (npz, csv, parquet), or their map (png).

    Parameters
    ----------
    run
        A run folder, or its model.safetensors.
    data
        A path or name; without it the run's own data. It must keep the run's data contract.
    split
        Which rows.
    label
        For a label-conditional run: the label of rows that have none.
    output
        F.npz, F.csv, F.parquet or F.png. Without it: codes.npz.
    colours
        Of the map: a colormap of matplotlib by name, such as viridis, with its bar. Without it a colour a label.
    scores
        Also give each row's elbo, rate, distortion and nll in nats, from so many draws.
    engine
        Take DATA shard by shard (parquet, npy, csv, zips, tars or folders of images; any number of rows), and write a
        folder of parquet files, one for each: here (local), or by Ray on every core or GPU of this machine or of the
        cluster at RAY_ADDRESS. The same command goes on where one was stopped.
    seed
        The seed of the draws of --scores.
    """
    if engine is not None:
        _encode_shards(run, data, engine, split, label, output, colours, scores, seed, allow)
        return
    target = target_of(output, "codes.npz")
    if colours is not None:
        from vaekit import pictures

        if not is_picture(target):
            raise VaekitError(f"--colours is for a map, and {target.name} is none: end -o in .png")
        pictures.check_colours(colours)
    if scores is not None and is_picture(target):
        raise VaekitError(
            f"--scores are numbers, and {target.name} is a picture: end -o in .npz, .csv or .parquet"
        )
    opened = opened_run(run, allow)
    rows = opened.rows(data, split, label)
    codes = opened.encode(rows, label=label)
    if is_picture(target):
        save_picture(opened.picture_of_codes(codes, colours=colours), target)
    else:
        arrays = codes.arrays()
        if scores is not None:
            arrays |= opened.scores(rows, k=scores, seed=seed, label=label)
        if target.suffix.lower() in (".csv", ".parquet"):  # a table has one column of labels: names, if any
            names = arrays.pop("labels")
            arrays["label"] = names if opened.contract.named else codes.label
        save_arrays(target, "mean", arrays)


@app.command
def decode(
    run: Path, codes: Path | None = None, /, *, point: Points = None, label: str | None = None, output: Out = None,
    seed: Seed = 0, noise: bool = False, allow: Allow = None,
) -> None:  # fmt: skip
    """Decode latent points: typed (--point 0.5,0.5, repeatable) or from a file of codes (npz, npy, csv, parquet).

    Parameters
    ----------
    run
        A run folder, or its model.safetensors.
    codes
        A file with `mean` (as `encode` writes it) or one array [N, D].
    point
        A point as D numbers.
    label
        For a label-conditional run: which label.
    output
        PNG, npz, npy, csv, parquet. Without it: decoded.png.
    seed
        The seed of the noise.
    noise
        Draw from p(x given z) instead of showing its centre.
    """
    target = target_of(output, "decoded.png")
    opened = opened_run(run, allow)
    points = _points(codes, point)
    if is_picture(target) and len(points) > PICTURED:
        print(f"vaekit: note: the first {PICTURED} of {len(points):,} points pictured", file=sys.stderr)
        points = points[:PICTURED]
    x = opened.decode(points, label=label, noise=noise, seed=seed)
    save_items(opened, target, x)


def _encode_shards(
    run: Path, data: str | None, engine: Literal["local", "ray"], split: str, label: str | None, output: Path | None,
    colours: str | None, scores: int | None, seed: int, allow: list[str] | None,
) -> None:  # fmt: skip
    from vaekit import shards

    if data is None:
        raise VaekitError("--engine takes shards: give DATA, a folder of parquet files or of images")
    if split != "all" or colours is not None:
        option = "--split" if split != "all" else "--colours"
        raise VaekitError(
            f"--engine takes shards whole and writes a folder of parquet files: leave {option} out"
        )
    target = folder_of(output, "codes")
    done = shards.encode(
        run,
        data,
        target,
        engine=engine,
        draws=scores,
        label=label,
        seed=seed,
        allow=allow or (),
        progress=True,
    )
    tell_shards(done, target)


def _points(codes: Path | None, points: list[str] | None) -> Any:
    from vaekit.output import load_codes, point_of

    if (codes is None) == (not points):
        raise VaekitError("decode takes either a file of codes or --point, such as --point 0.5,0.5")
    return load_codes(codes) if codes is not None else [point_of(text) for text in points or ()]
