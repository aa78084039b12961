"""The commands: one typed function each. A room is imported inside the function that needs it, so help is instant.

Results go to stdout, progress and messages to stderr. Every command that writes takes `-o` and `--seed`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter, validators

from vaekit._version import __version__
from vaekit.errors import VaekitError

app = App(
    name="vaekit",
    help="Variational autoencoders: train on a path, look at the latent space, publish the likelihood.",
    version=__version__,
    version_flags=["--version"],
    help_flags=["--help", "-h"],
    suppress_keyboard_interrupt=False,  # the door says what was saved and how to go on
)

Out = Annotated[Path | None, Parameter(name=["--output", "-o"])]
Seed = Annotated[int, Parameter(validator=validators.Number(gte=0, lte=2**63 - 1))]
# a latent point may start with a minus
Point = Annotated[str, Parameter(allow_leading_hyphen=True)]
Points = Annotated[
    list[str] | None, Parameter(consume_multiple=False, negative=(), allow_leading_hyphen=True)
]
Set = Annotated[list[str] | None, Parameter(name="--set", negative=())]
Allow = Annotated[
    list[str] | None,
    Parameter(
        name="--allow",
        negative=(),
        help="A module whose classes a recipe may name by import path; repeatable.",
    ),
]
Split = Literal["train", "valid", "test"]
PICTURED = 400  # items that a picture of decoded points shows


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

    _trust(allow)
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


@app.command
def sample(
    run: Path, /, *, n: Annotated[int, Parameter(name=["-n", "--count"])] = 64, output: Out = None, seed: Seed = 0,
    label: str | None = None, noise: bool = False, columns: int | None = None, allow: Allow = None,
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
    """
    target = _target(output, "samples.png")
    opened = _open(run, allow)
    x, z = opened.sample(n, seed=seed, label=label, noise=noise, with_codes=True)
    names = opened.contract.labels if opened.condition and label is None else ()
    each = n // len(names) if names else 0
    if each and columns is None and _is_picture(target) and opened.contract.is_image:
        # labels come in turn: a named row for each of them
        by_label = x[: each * len(names)].reshape(each, len(names), *x.shape[1:]).swapaxes(0, 1)
        _items(
            opened,
            target,
            by_label.reshape(-1, *x.shape[1:]),
            columns=each,
            rows=[str(name) for name in names],
        )
    else:
        _items(opened, target, x, columns=columns, z=z)


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
    target = _target(output, "reconstructions.png")
    opened = _open(run, allow)
    originals, reconstructions = opened.reconstruct(data, n=n, split=split, seed=seed, label=label)
    if _is_picture(target):
        _save_picture(opened.picture_of_pairs(originals, reconstructions), target)
    else:
        _save_arrays(target, "reconstruction", {"original": originals, "reconstruction": reconstructions})


@app.command
def encode(
    run: Path, data: str | None = None, /, *, split: Literal["train", "valid", "test", "all"] = "all",
    label: str | None = None, output: Out = None, seed: Seed = 0, allow: Allow = None,
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
    seed
        Draws nothing; every command that writes takes it.
    """
    target = _target(output, "codes.npz")
    opened = _open(run, allow)
    codes = opened.encode(data, split=split, label=label)
    if _is_picture(target):
        _save_picture(opened.picture_of_codes(codes), target)
    else:
        arrays = codes.arrays()
        if target.suffix.lower() in (".csv", ".parquet"):  # a table has one column of labels: names, if any
            names = arrays.pop("labels")
            arrays["label"] = names if opened.contract.named else codes.label
        _save_arrays(target, "mean", arrays)


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
    target = _target(output, "decoded.png")
    opened = _open(run, allow)
    points = _points(codes, point)
    if _is_picture(target) and len(points) > PICTURED:
        print(f"vaekit: note: the first {PICTURED} of {len(points):,} points pictured", file=sys.stderr)
        points = points[:PICTURED]
    x = opened.decode(points, label=label, noise=noise, seed=seed)
    _items(opened, target, x)


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
    target = _target(output, "interpolation.png")
    opened = _open(run, allow)
    x, z = opened.interpolate(from_, to, steps=steps, path=path, label=label)
    _items(opened, target, x, columns=steps, steps=_ends("from", "to", len(x)), z=z)


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
    target = _target(output, "traversal.png")
    opened = _open(run, allow)
    x, z, names = opened.traverse(at, dimensions=dimensions, steps=steps, extent=extent, label=label)
    ends = [end for name in names for end in _ends(f"{name} {-extent:+g}", f"{extent:+g}", steps)]
    _items(opened, target, x, columns=steps, rows=names, steps=ends if steps > 1 else names, z=z)


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
    target = _target(output, "manifold.png")
    opened = _open(run, allow)
    x, z = opened.manifold(n, label=label, seed=seed)
    if _is_picture(target) and not opened.contract.is_image:
        _save_picture(opened.picture_of_grid(x, n), target)
    else:
        _items(opened, target, x, columns=n, z=z)


@app.command
def evaluate(
    run: Path, data: str | None = None, /, *, split: Split = "test", k: str = "1,10,100,1000",
    binarize: Literal["dynamic", "static"] | None = None, limit: int | None = None, label: str | None = None,
    json: bool = False, seed: Seed = 0, device: Literal["auto", "cpu", "cuda", "mps"] = "cpu", allow: Allow = None,
) -> None:  # fmt: skip
    """ELBO, rate, distortion, importance-weighted NLL at several k with standard error, active units.

    Parameters
    ----------
    run
        A run folder, or its model.safetensors.
    data
        A path or name; without it the run's own data.
    split
        Which split of the data.
    k
        Numbers of draws, with commas; 5000 is what papers report.
    binarize
        Judge on bits, for a run trained on grey values under a Bernoulli.
    limit
        At most so many rows.
    label
        For a label-conditional run: the label of rows that have none.
    json
        Print one JSON object instead of a table.
    seed
        The seed of the draws.
    device
        Where to compute; auto takes CUDA, then MPS, then the CPU.
    """
    import json as j

    opened = _open(run, allow)
    result = opened.evaluate(
        data,
        split=split,
        k=_numbers(k, "--k"),
        binarize=binarize,
        limit=limit,
        seed=seed,
        device=device,
        label=label,
        progress=True,
    )
    print(j.dumps(result, indent=2) if json else opened.table_of(result))


@app.command
def info(run: Path, /, *, json: bool = False, allow: Allow = None) -> None:
    """What a run is: data, parts, parameters, how far it trained, its best validation.

    Parameters
    ----------
    run
        A run folder, or its model.safetensors.
    json
        Print one JSON object.
    """
    import json as j

    opened = _open(run, allow)
    facts = opened.info()
    print(j.dumps(facts, indent=2) if json else opened.facts_of(facts))


@app.command
def data(
    source: str = "digits", /, *, output: Out = None, size: str | None = None, grey: bool = False,
    binarize: Literal["dynamic", "static"] | None = None, limit: int | None = None, key: str | None = None,
    labels: str | None = None, kind: str | None = None, seed: Seed = 0, json: bool = False,
) -> None:  # fmt: skip
    """Show the data contract of a name or a path in one line, with a picture of some rows.

    Parameters
    ----------
    source
        A name or a path, as for `train`.
    output
        The picture (PNG). Without it: data.png in the current folder.
    size
        Images to this short side with a centre crop, or to HxW.
    grey
        Colour images to grey.
    binarize
        Bits instead of grey values.
    limit
        At most so many rows a split.
    key
        Which array of an npz.
    labels
        Which array or column holds the labels.
    kind
        What the values are, if the guess is wrong.
    seed
        Chooses the rows shown; the split is made with data.seed.
    json
        Print the whole contract as JSON, and draw no picture.
    """
    import json as j

    from vaekit.data import open_data
    from vaekit.train.look import preview

    target = _target(output, "data.png", arrays=False)
    opened = open_data(
        source, size=size, grey=grey, binarize=binarize, limit=limit, key=key, labels=labels, kind=kind
    )
    print(j.dumps(opened.contract.to_dict(), indent=2) if json else opened.contract.line())
    for sentence in opened.contract.preparation:
        print(f"data: {sentence}", file=sys.stderr)
    if not json:
        _save_picture(preview(opened, seed=seed), target)


@app.command
def recipes(name: str | None = None, /) -> None:
    """List the recipes, or print one.

    Parameters
    ----------
    name
        A recipe's name, or a TOML file.
    """
    from vaekit import recipe as room

    if name is not None:
        print(room.shown(name), end="")
        return
    lines = room.listing()
    width = max(len(line.name) for line in lines)
    for line in lines:
        print(f"{line.name:<{width}}  {line.description}")


# -- what the commands share


def _trust(allow: list[str] | None) -> None:
    """Let modules of the current folder be found, as `python -m` does, where the user has named one."""
    if allow and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())


def _open(path: Path, allow: list[str] | None) -> Any:
    from vaekit.run import load

    _trust(allow)
    return load(path, allow=allow or ())


def _target(output: Path | None, otherwise: str, *, arrays: bool = True) -> Path:
    """The file to write. Raises VaekitError for an ending that cannot be written, before the work is done."""
    target = Path(otherwise) if output is None else output
    if not target.name:
        raise VaekitError(f"-o {str(target)!r} names no file; give one, such as {otherwise}")
    if not target.suffix:
        return target.with_suffix(".png")
    if not _is_picture(target):
        if not arrays:
            raise VaekitError(f"cannot write {target.name}: a picture is written here, so end it in .png")
        from vaekit.output import writable

        writable(target)
    return target


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() == ".png"


def _items(
    run: Any,
    target: Path,
    x: Any,
    *,
    columns: int | None = None,
    rows: list[str] | None = None,
    steps: list[str] | None = None,
    z: Any = None,
) -> None:
    """Write items x [N, ...] (data units) and their codes: a picture, or arrays."""
    if _is_picture(target):
        _save_picture(run.picture_of(x, columns=columns, rows=rows, steps=steps), target)
    else:
        _save_arrays(target, "x", {"x": x} if z is None else {"x": x, "z": z}, {"x": run.contract.columns})


def _ends(first: str, last: str, steps: int) -> list[str]:
    """Names of the steps of a walk: its ends alone have one."""
    return [first, *[""] * (steps - 2), last] if steps > 1 else [first]


def _save_picture(image: Any, target: Path) -> None:
    from vaekit import pictures

    pictures.save(image, target)
    print(target)


def _save_arrays(
    target: Path, main: str, arrays: dict[str, Any], names: dict[str, Any] | None = None
) -> None:
    from vaekit.output import save

    save(target, main, arrays, names)
    print(target)


def _numbers(text: str, option: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise VaekitError(
            f"{option} takes whole numbers with commas between, such as 1,100,5000; not {text!r}"
        ) from None


def _points(codes: Path | None, points: list[str] | None) -> Any:
    from vaekit.output import load_codes, point_of

    if (codes is None) == (not points):
        raise VaekitError("decode takes either a file of codes or --point, such as --point 0.5,0.5")
    return load_codes(codes) if codes is not None else [point_of(text) for text in points or ()]


if __name__ == "__main__":
    sys.exit("run `vaekit`, or `python -m vaekit`")
