"""Files appear whole or not at all: written under a temporary name beside the target, then renamed."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from vaekit.errors import VaekitError


@contextlib.contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the target's folder; on success it is synced and renamed to `path`.

    On any error the temporary file is removed and an existing target is untouched. A full disk or a
    folder that cannot be written to becomes a `VaekitError` that names the target.
    """
    target = Path(path)
    # without the target's own name, which may be as long as a name can be
    temporary = target.parent / f".{os.getpid()}.{secrets.token_hex(4)}{target.suffix}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        if error.errno is None:
            raise
        reason = error.strerror or str(error)
        raise VaekitError(
            f"cannot write {target}: {reason}; free some space or choose another place"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # nor may a folder that is none hide the error that told so
            temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
