"""Where decoded images are kept between runs: the user's cache folder, never beside the data.

An entry is a folder `images/KEY-STAMP`: KEY names the source's absolute path and the options, STAMP what was
there (names, sizes, times of change). It is written under a temporary name and renamed whole, so a reader
never sees half of one, and of two processes that decode at once the later takes the earlier's.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vaekit.errors import VaekitError

_STALE_SECONDS = 24 * 3600


def root() -> Path:
    """$VAEKIT_CACHE, else the platform's cache folder for vaekit."""
    chosen = os.environ.get("VAEKIT_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
        return (Path(base) if base else Path.home() / "AppData" / "Local") / "vaekit" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "vaekit"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "vaekit"


def fingerprint(*parts: Any) -> str:
    """16 hex digits that stand for the parts."""
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:16]


def folder(key: str, stamp: str) -> Path:
    """Where the entry of this source and these options is, or would be."""
    return root() / "images" / f"{key}-{stamp}"


@contextlib.contextmanager
def writing(target: Path) -> Iterator[Path]:
    """Yield a temporary folder; on success it becomes `target`, unless another process was there first.

    Entries of the same key with another stamp, and what crashed writers left, are removed. Nothing stays
    after an error; a full disk is one `VaekitError`.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        try:
            temporary.rename(target)
        except OSError:
            if not target.is_dir():
                raise
        _sweep(target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise VaekitError(
            f"cannot write the image cache in {root()}: {reason}; free some space or set VAEKIT_CACHE"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def discard(target: Path) -> None:
    """Move a damaged entry out of the way, at once for all processes, then remove it."""
    aside = target.with_name(f".{target.name}.broken.{secrets.token_hex(4)}")
    with contextlib.suppress(OSError):
        target.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def _sweep(target: Path) -> None:
    key = target.name.split("-")[0]
    with contextlib.suppress(OSError):
        for other in target.parent.iterdir():
            outdated = other.name.startswith(f"{key}-") and other != target
            crashed = other.name.startswith(".") and time.time() - other.stat().st_mtime > _STALE_SECONDS
            if outdated or crashed:
                shutil.rmtree(other, ignore_errors=True)
