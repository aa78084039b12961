"""What the commands share: opening a run, and writing what came out."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from vaekit.errors import VaekitError


def trust(allow: list[str] | None) -> None:
    """Let modules of the current folder be found, as `python -m` does, where the user has named one."""
    if allow and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())


def opened_run(path: Path, allow: list[str] | None) -> Any:
    from vaekit.run import load

    trust(allow)
    return load(path, allow=allow or ())


def target_of(output: Path | None, otherwise: str, *, arrays: bool = True) -> Path:
    """The file to write. Raises VaekitError for an ending that cannot be written, before the work is done."""
    target = Path(otherwise) if output is None else output
    if not target.name:
        raise VaekitError(f"-o {str(target)!r} names no file; give one, such as {otherwise}")
    if not target.suffix:
        return target.with_suffix(".png")
    if not is_picture(target):
        if not arrays:
            raise VaekitError(f"cannot write {target.name}: a picture is written here, so end it in .png")
        from vaekit.output import writable

        writable(target)
    return target


def is_picture(path: Path) -> bool:
    return path.suffix.lower() == ".png"


def save_items(
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
    if is_picture(target):
        save_picture(run.picture_of(x, columns=columns, rows=rows, steps=steps), target)
    else:
        save_arrays(target, "x", {"x": x} if z is None else {"x": x, "z": z}, {"x": run.contract.columns})


def walk_ends(first: str, last: str, steps: int) -> list[str]:
    """Names of the steps of a walk: its ends alone have one."""
    return [first, *[""] * (steps - 2), last] if steps > 1 else [first]


def save_picture(image: Any, target: Path) -> None:
    from vaekit import pictures

    pictures.save(image, target)
    print(target)


def save_arrays(target: Path, main: str, arrays: dict[str, Any], names: dict[str, Any] | None = None) -> None:
    from vaekit.output import save

    save(target, main, arrays, names)
    print(target)


def folder_of(output: Path | None, otherwise: str) -> Path:
    """The folder to write. Raises VaekitError for the name of a file."""
    target = Path(otherwise) if output is None else output
    if target.suffix.lower() in (".png", ".npz", ".npy", ".csv", ".parquet"):
        raise VaekitError(
            f"--engine writes a folder of parquet files, and {target.name} is a file: leave its ending out"
        )
    return target


def tell_shards(done: Any, target: Path) -> None:
    """What a job over shards has done, and where."""
    what = f"{done.shards:,} shard{'s' * (done.shards != 1)} of {done.rows:,} rows written"
    speed = f" in {done.seconds:,.1f} s, {done.rows / done.seconds:,.0f} rows/s" if done.rows else ""
    before = f"; finished before: {done.before:,}" if done.before else ""
    print(f"vaekit: {what}{speed}{before}", file=sys.stderr)
    print(target)


def numbers(text: str, option: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise VaekitError(
            f"{option} takes whole numbers with commas between, such as 1,100,5000; not {text!r}"
        ) from None
