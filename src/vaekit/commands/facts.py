"""What a run is, what data are, what recipes there are: `info`, `data`, `recipes`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from vaekit.commands.app import Allow, Out, Seed, app
from vaekit.commands.results import opened_run, save_picture, target_of


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

    opened = opened_run(run, allow)
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

    target = target_of(output, "data.png", arrays=False)
    opened = open_data(
        source, size=size, grey=grey, binarize=binarize, limit=limit, key=key, labels=labels, kind=kind
    )
    print(j.dumps(opened.contract.to_dict(), indent=2) if json else opened.contract.line())
    for sentence in opened.contract.preparation:
        print(f"data: {sentence}", file=sys.stderr)
    if not json:
        save_picture(preview(opened, seed=seed), target)


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
