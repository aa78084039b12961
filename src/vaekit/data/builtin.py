"""Data by name: the digits that scikit-learn ships, MNIST, Fashion-MNIST, sets of bits, and sprites, which are drawn."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np

from vaekit.data import bits, cache, idx, progress, sprites
from vaekit.data.raw import Options, Part, Raw
from vaekit.errors import VaekitError
from vaekit.files import atomic

NAMES = ("digits", "mnist", "fashion-mnist", "sprites", *bits.NAMES)
FASHION = tuple(
    ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
)
_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
_MIRRORS = {
    "mnist": (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    "fashion-mnist": (
        "https://fashion-mnist.s3.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
}
# (bytes, SHA-256) of the four files in the order of _FILES, as both mirrors serve them.
_SUMS = {
    "mnist": (
        (9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        (28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        (1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        (4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
    ),
    "fashion-mnist": (
        (26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
        (29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
        (4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
        (5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
    ),
}


def open_builtin(name: str, options: Options) -> Raw:
    """Data by one of `NAMES`."""
    if name == "digits":
        return _digits()
    if name == "sprites":
        return sprites.open_sprites(options)
    if name in bits.NAMES:
        return bits.open_bits(name, options)
    raw = idx.open_idx(find(name))
    raw.names = FASHION if name == "fashion-mnist" else None
    return raw


def find(name: str) -> Path:
    """The folder with the idx files: ./NAME, $VAEKIT_DATA/NAME, the user's cache; else fetched there."""
    kept = cache.root() / "datasets" / name
    places = [Path(name), kept]
    if os.environ.get("VAEKIT_DATA"):
        places.insert(1, Path(os.environ["VAEKIT_DATA"]).expanduser() / name)
    for place in places:
        if place.is_dir() and {"train", "test"} <= set(idx.folder_files(place)):
            return place
    _fetch(name, kept)
    return kept


def _fetch(name: str, target: Path) -> None:
    """Download what is missing; every file is checked before it gets its name."""
    for file, (size, digest) in zip(_FILES, _SUMS[name], strict=True):
        if not (target / file).exists():
            reasons = []
            for mirror in _MIRRORS[name]:
                try:
                    _download(mirror + file, target / file, size, digest)
                    break
                except (urllib.error.URLError, OSError, ValueError) as error:
                    if isinstance(error, VaekitError):
                        raise
                    reasons.append(str(getattr(error, "reason", error)))
            else:
                raise VaekitError(
                    f"{name} is not on this machine and could not be fetched ({reasons[0]}): put "
                    f"{', '.join(_FILES)} "
                    f"into {target} or $VAEKIT_DATA/{name}, or give their folder as a path"
                )


def _download(url: str, target: Path, size: int, digest: str) -> None:
    with urllib.request.urlopen(url, timeout=20) as response:
        body = bytearray()
        with progress.bar(f"fetching {target.name}", size, "bytes") as advance:
            while piece := response.read(1 << 16):
                body += piece
                advance(len(piece))
                if len(body) > size:
                    break
    if len(body) != size or hashlib.sha256(body).hexdigest() != digest:
        raise ValueError(f"what {url} sent has another checksum")
    with atomic(target) as temporary:
        temporary.write_bytes(body)


def _digits() -> Raw:
    """The 1,797 digits: each value counts the ink pixels in a 4x4 block, so levels are 0..16 exactly."""
    home = importlib.util.find_spec("sklearn")
    file = (
        Path(str(home.submodule_search_locations[0])) if home and home.submodule_search_locations else Path()
    )
    file = file / "datasets" / "data" / "digits.csv.gz"
    if file.exists():  # the import of scikit-learn alone takes half a second
        values = np.loadtxt(file, delimiter=",")
        x, label = values[:, :-1].reshape(-1, 8, 8), values[:, -1]
    else:
        from sklearn.datasets import load_digits

        digits = load_digits()
        x, label = digits.images, digits.target
    return Raw({"all": Part(x.astype(np.uint8), label.astype(np.int64))}, kind="levels")
