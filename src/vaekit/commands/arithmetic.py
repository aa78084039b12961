"""`arithmetic`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vaekit.commands.app import Allow, Out, Point, Seed, app
from vaekit.commands.results import is_picture, opened_run, save_arrays, save_picture, target_of


@app.command
def arithmetic(
    run: Path, /, *, plus: str, minus: str, to: Point, groups: Path | None = None, steps: int = 7,
    n: Annotated[int, Parameter(name=["-n", "--count"])] = 4, label: str | None = None, output: Out = None,
    seed: Seed = 0, allow: Allow = None,
) -> None:  # fmt: skip
    """Add the mean code of one group minus another's: glasses minus none, to a face.

    Parameters
    ----------
    run
        A run folder, or its model.safetensors.
    plus
        The group whose mean code is added: a label (a class folder), or a group of --groups.
    minus
        The group whose mean code is taken away.
    to
        What is moved: a group, a row of the test split (its number; row:3 where a group is called 3), an image file or
        a latent point.
    groups
        A CSV with a column group and one of file (a path inside the folder of images) or row (its number in the source,
        from 0). A row may stand in several groups.
    steps
        Strengths, from 0 to 1.5.
    n
        How many rows of the group --to are moved besides its mean; those not trained on come first.
    label
        For a label-conditional run: the label to decode with; without it each row's own.
    output
        PNG, npz, npy, csv, parquet. Without it: arithmetic.png.
    seed
        Chooses the rows.
    """
    target = target_of(output, "arithmetic.png")
    opened = opened_run(run, allow)
    found = opened.arithmetic(plus, minus, to, groups=groups, steps=steps, n=n, label=label, seed=seed)
    counted = ", ".join(f"{count:,} of {name}" for name, count in found.counts.items())
    print(f"training rows: {counted}", file=sys.stderr)
    if is_picture(target):
        save_picture(opened.picture_of_arithmetic(found), target)
    else:
        save_arrays(target, "x", found.arrays(), {"x": opened.contract.columns})
