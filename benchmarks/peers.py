"""The peers' environments: each is made once, by venv and pip, apart from vaekit's own and from each other.

    python benchmarks/peers.py [pythae] [keras] [--peers DIR]

`environment("pythae")` is the path of a Python that has Pythae 0.1.2 and the torch that vaekit is tested with;
`environment("keras")` of one that has Keras 3 and TensorFlow. They lie under --peers, $VAEKIT_PEERS or the user's cache
(some 1.5 GB together). vaekit needs none of them, and none of them is in any list of its dependencies.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
PACKAGES = {
    "pythae": ["pythae==0.1.2", "torch", "numpy", "--constraint", str(CONSTRAINTS)],
    "keras": ["keras>=3,<4", "tensorflow-cpu>=2.16", "numpy"],
}
IMPORTS = {"pythae": "import pythae.models", "keras": "import tensorflow, keras"}


class PeerError(Exception):
    """A peer's environment could not be made; one line."""


def environment(name: str, peers: str | os.PathLike[str] | None = None) -> Path:
    """The Python of a peer, made at the first call (minutes). Raises PeerError."""
    if name not in PACKAGES:
        raise PeerError(f"there is no peer {name!r}; there are {', '.join(PACKAGES)}")
    folder = _home(peers) / name
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if python.exists():
        return python
    _say(f"making the environment of {name} in {folder}, once; this takes minutes")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _do([sys.executable, "-m", "venv", str(folder)])
        _do([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES[name]])
        _do([str(python), "-c", IMPORTS[name]])
    except (OSError, subprocess.CalledProcessError) as error:
        shutil.rmtree(folder, ignore_errors=True)  # half an environment would be taken for a whole one
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        why = next(
            (line for line in reversed(said) if "ERROR" in line or "Error" in line), said[-1] if said else ""
        )
        raise PeerError(f"the environment of {name} could not be made: {why.strip()}") from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    _say(f"{name} is there")
    return python


def add_option(parser: argparse.ArgumentParser) -> None:
    """The option --peers, alike in all scripts."""
    parser.add_argument(
        "--peers", metavar="DIR", help="where the peers' environments are (default: the user's cache)"
    )


def _home(peers: str | os.PathLike[str] | None) -> Path:
    chosen = peers or os.environ.get("VAEKIT_PEERS")
    if chosen:
        return Path(chosen).expanduser().absolute()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "vaekit" / "peers"


def _do(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names", nargs="*", default=list(PACKAGES), metavar="NAME", help="pythae, keras; all by default"
    )
    add_option(parser)
    given = parser.parse_args()
    try:
        for name in given.names:
            print(environment(name, given.peers))
    except PeerError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
