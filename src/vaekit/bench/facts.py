"""What a figure stands beside: the command that makes it, the code and the machine that made it."""

from __future__ import annotations

import shlex
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import vaekit
from vaekit._version import __version__
from vaekit.bench.plan import Row, cell_name

PACKAGE = Path(vaekit.__file__).parent


def command(row: Row, seed: int) -> str:
    """The two commands that make a cell again, alone."""
    run = f"runs/{cell_name(row, seed)}"
    train = [
        "vaekit",
        "train",
        *([row.data] if row.data else []),
        "--recipe",
        row.recipe,
        "--seed",
        str(seed),
    ]
    for change in row.set:
        train += ["--set", change]
    judge = ["vaekit", "evaluate", run, "--k", ",".join(map(str, sorted(row.k)))]
    if row.split != "test":
        judge += ["--split", row.split]
    if row.limit is not None:
        judge += ["--limit", str(row.limit)]
    if row.refit_encoder:
        judge.append("--refit-encoder")
    return f"{shlex.join([*train, '-o', run])} && {shlex.join(judge)}"


def code() -> str:
    """The commit of vaekit's checkout, "+dirty" where the package differs from it; the version where there is none."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(PACKAGE), *words], capture_output=True, text=True, timeout=10, check=True,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return done.stdout.strip()

    try:
        git(
            "ls-files", "--error-unmatch", "__init__.py"
        )  # installed below somebody else's checkout it is not theirs
        dirty = "+dirty" if git("status", "--porcelain", "--", ".") else ""
        return git("rev-parse", "--short=12", "HEAD") + dirty
    except (OSError, subprocess.SubprocessError):
        return __version__


def machine() -> dict[str, Any]:
    """Processor, cores, GPU and torch, and nothing that names anyone."""
    from vaekit.run.environment import environment

    found = environment()
    return {key: found[key] for key in ("cpu", "cores", "gpu", "torch", "vaekit")}


def today() -> str:
    return datetime.now(UTC).date().isoformat()
