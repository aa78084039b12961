"""Binary data by name that vaekit does not fetch: static MNIST, and two of UCI's sets as NADE splits them."""

from __future__ import annotations

import os
from pathlib import Path

from vaekit.data import cache
from vaekit.data.raw import Options, Raw
from vaekit.errors import VaekitError

# name -> where it may lie below a folder of data, and what is to be put there
_PLACES = {
    "static-mnist": (
        ("static-mnist", "binarized-mnist"),
        "train.npz, valid.npz and test.npz in a folder static-mnist",
    ),
    "dna": (("dna.npz", "uci-binary/dna.npz"), "dna.npz with the arrays train, valid, test"),
    "mushrooms": (
        ("mushrooms.npz", "uci-binary/mushrooms.npz"),
        "mushrooms.npz with the arrays train, valid, test",
    ),
}
NAMES = tuple(_PLACES)


def open_bits(name: str, options: Options) -> Raw:
    """Data by one of `NAMES`, with the splits that the files name."""
    from vaekit.data.sources import load_path

    return load_path(find(name), options)


def find(name: str) -> Path:
    """The file or folder: below the current folder, $VAEKIT_DATA, the user's cache. Raises VaekitError."""
    kept = cache.root() / "datasets"
    given = os.environ.get("VAEKIT_DATA")
    places, what = _PLACES[name]
    for root in (Path(), *([Path(given).expanduser()] if given else []), kept):
        for place in places:
            if (root / place).exists():
                return root / place
    raise VaekitError(
        f"{name} is not on this machine, and vaekit fetches none: put {what} into {kept} or $VAEKIT_DATA, "
        "or give its path"
    )
