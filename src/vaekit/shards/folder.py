"""The output folder: which job it belongs to, and which of its files are finished."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vaekit.errors import VaekitError
from vaekit.files import write_text
from vaekit.shards.work import KEY, Task

MANIFEST = "manifest.json"
_SCHEMA = 1
_TEMPORARY = re.compile(r"\.\d+\.[0-9a-f]{8}\.parquet")
DEAD_SECONDS = 3600  # a file that is being written changes more often than that


def fingerprint(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def claim(out: Path, what: dict[str, Any]) -> None:
    """Make the folder, or go on with it. Raises VaekitError where it belongs to another job, or holds other files."""
    ours = {"schema": _SCHEMA, **what}
    file = out / MANIFEST
    if file.is_file():
        try:
            theirs = json.loads(file.read_text(encoding="utf-8"))
            different = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
        except (ValueError, AttributeError, OSError) as error:
            raise VaekitError(f"{file} cannot be read; remove {out} or give another folder") from error
        if different:
            key = different[0]
            said = "another model" if key == "model" else f"{key} {theirs.get(key)!r}, not {ours.get(key)!r}"
            raise VaekitError(f"{out} holds results of {said}; give another folder with -o, or remove it")
        sweep(out, DEAD_SECONDS)
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise VaekitError(f"{out} exists and is no folder of results; give a new or an empty one with -o")
    write_text(file, json.dumps(ours, indent=2) + "\n")


def unfinished(out: Path, tasks: Iterable[Task]) -> list[Task]:
    """Those whose file is not there, or was made from something else."""
    return [task for task in tasks if _made_of(out / task.target) != task.made_of]


def strangers(out: Path, tasks: Iterable[Task]) -> list[str]:
    """Results in the folder that no task makes: their input has gone."""
    wanted = {task.target for task in tasks}
    there = (path for path in out.rglob("*.parquet") if not path.name.startswith("."))
    return sorted(name for path in there if (name := path.relative_to(out).as_posix()) not in wanted)


def _made_of(path: Path) -> str | None:
    import pyarrow
    import pyarrow.parquet as parquet

    if not path.is_file():
        return None
    try:
        return (parquet.read_metadata(path).metadata or {}).get(KEY, b"").decode()
    except (pyarrow.ArrowException, OSError, ValueError):
        return None


def sweep(out: Path, seconds: float) -> None:
    """Remove what workers left half-written and have not touched for so many seconds."""
    for path in out.rglob(".*.parquet"):
        with contextlib.suppress(OSError):
            if _TEMPORARY.fullmatch(path.name) and time.time() - path.stat().st_mtime >= seconds:
                path.unlink()
