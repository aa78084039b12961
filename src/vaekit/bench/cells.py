"""A cell, one row with one seed: where its run and its record are, who works on it, whether it is still what is asked."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaekit import recipe as shelf
from vaekit.bench.plan import Row, cell_name
from vaekit.errors import VaekitError
from vaekit.files import write_text
from vaekit.recipe.sections import Recipe, to_tree
from vaekit.recipe.settings import ANYHOW

try:
    import fcntl
except ImportError:  # Windows: no claims, so one process a folder
    fcntl = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Cell:
    """A row of a bench with one seed, in the bench's folder; its record is what has been found out about it so far."""

    bench: str
    row: Row
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        return cell_name(self.row, self.seed)

    @property
    def file(self) -> Path:
        return self.folder / "cells" / f"{self.name}.json"

    @property
    def run(self) -> Path:
        return self.folder / "runs" / self.name

    @property
    def lock(self) -> Path:
        return self.folder / "cells" / f"{self.name}.lock"

    @property
    def source(self) -> str:
        """The data by name or path."""
        row = self.row
        return row.data_place or shelf.load(row.recipe_place, row.set).data.source or shelf.DEFAULT

    def recipe(self) -> Recipe:
        """The recipe with the row's settings, data and seed, before it meets the data."""
        from vaekit.train.given import kept_source

        found = shelf.load(self.row.recipe_place, self.row.set)
        return found.updated({"data": {"source": kept_source(self.source)}, "train": {"seed": self.seed}})

    def read(self) -> dict[str, Any] | None:
        """The record, None where there is none. Raises VaekitError where it is damaged."""
        return read(self.file)

    def write(self, record: Mapping[str, Any]) -> None:
        write_text(self.file, json.dumps(record, indent=2) + "\n")

    def set_aside(self, record_alone: bool = False) -> Path:
        """Move run and record to stale/, where nothing looks for them and nothing is lost; the folder there."""
        number = 1
        while (target := self.folder / "stale" / f"{self.name}-{number}").exists():
            number += 1
        target.mkdir(parents=True)
        for place, name in ((self.run, "run"), (self.file, "cell.json")):
            if place.exists() and not (record_alone and place == self.run):
                place.rename(target / name)
        return target


def read(file: Path) -> dict[str, Any] | None:
    """The record in a file, None where there is none. Raises VaekitError where it is damaged."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise VaekitError(f"{file} cannot be read ({error}); take it away or bring it back") from error
    if not isinstance(found, dict) or "state" not in found:
        raise VaekitError(f"{file} is no record of a cell; take it away or bring it back")
    return found


def made_of(recipe: Recipe, data_hash: str) -> dict[str, Any]:
    """What decides the weights: the recipe's settings without names and places, and the data."""
    tree = {name: dict(section) for name, section in to_tree(recipe).items() if name != "recipe"}
    tree["data"].pop("source", None)
    for key in ANYHOW:
        tree["train"].pop(key, None)
    return {"recipe": tree, "data": data_hash}


def judged_by(row: Row) -> dict[str, Any]:
    """What decides the figures of trained weights."""
    return {"split": row.split, "k": sorted(row.k), "limit": row.limit, "refit_encoder": row.refit_encoder}


def changes(before: Any, now: Any, where: str = "") -> list[str]:
    """What differs between two trees, in words: "objective.beta 1.0 -> 2.0"."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        keys = list(dict.fromkeys([*before, *now]))
        return [
            line
            for key in keys
            for line in changes(before.get(key), now.get(key), f"{where}.{key}" if where else str(key))
        ]
    if before == now:
        return []
    return [f"{where} {_short(before)} -> {_short(now)}"]


def _short(value: Any) -> str:
    text = "default" if value is None else str(value)
    return text if len(text) <= 24 else f"{text[:12]}..."


@contextlib.contextmanager
def claimed(path: Path, wait: bool = False) -> Iterator[bool]:
    """Whether a lock file is ours meanwhile; with `wait`, once others have left it. It holds the number of our process.

    The kernel gives the claim of a process that died to whoever asks next.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise VaekitError(f"cannot write {path}: {error.strerror}; choose another -o") from error
    with file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield True
        file.truncate(0)


def holder(path: Path) -> str:
    """The number of the process that holds a lock file, as far as it has said."""
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8").strip() or "?"
    return "?"
