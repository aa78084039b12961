"""Groups of a run's rows: its class folders or labels, or those that a CSV names."""

from __future__ import annotations

import csv
import difflib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vaekit.data import Data, Split, file_names
from vaekit.errors import VaekitError, nearest
from vaekit.run import inputs

if TYPE_CHECKING:
    from vaekit.run.opened import Run

GUESSED_AMONG = 10_000  # file names that a nearest one is looked for among


@dataclass(frozen=True)
class Groups:
    """Rows of a run's own data by the name of a group. `given` holds places in the source, as a CSV gave them."""

    splits: dict[str, Split]
    labels: tuple[str, ...]
    given: dict[str, np.ndarray]
    files: list[str]  # where the rows are image files, their names by place

    @property
    def names(self) -> list[str]:
        """The groups of the CSV, then the labels."""
        return [*self.given, *(name for name in self.labels if name not in self.given)]

    def is_label(self, name: str) -> bool:
        """Whether the group is a label of the data, and not one that the CSV names."""
        return name in self.labels and name not in self.given

    def rows(self, name: str, split: str) -> Split:
        """The group's rows of a split, as `Run.rows` gives them; a split that there is not has none."""
        if split not in self.splits:
            return inputs.subset(self.splits["train"], np.zeros(0, np.int64))
        rows = self.splits[split]
        if name in self.given:
            assert rows.places is not None
            chosen = np.isin(rows.places, self.given[name])
        elif name in self.labels and rows.label is not None:
            chosen = rows.label == self.labels.index(name)
        else:
            raise VaekitError(f"there is no group {name!r}{nearest(name, self.names)}")
        return inputs.subset(rows, np.flatnonzero(chosen))

    def called(self, rows: Split) -> list[str]:
        """What the rows are called: the names of their files, else their numbers in the source."""
        assert rows.places is not None
        return [self.files[place] if self.files else f"row {place}" for place in rows.places]


def read(run: Run, file: str | os.PathLike[str] | None) -> Groups:
    """The groups of a run's own data: its labels, and those of a CSV with a column `group` and one of `file` (a path
    inside the folder or archive of images) or `row` (its number in the source, from 0).

    A row may stand in several groups; an empty group is none. Rows that the run's `data.limit` left out are passed
    over. Raises VaekitError, one line, for a file that is no such table or names what is not in the data.
    """
    data = run.data()
    files = file_names(data.files) if data.files is not None else []

    given = {} if file is None else _read(Path(file).expanduser(), run, data, files)
    splits, start = {}, 0
    for name in data.splits:
        part = inputs.part(data, name)
        if part.places is None:  # `Data` made by hand: counted through
            part = replace(part, places=np.arange(start, start + len(part)))
        splits[name], start = part, start + len(part)
    return Groups(splits, tuple(map(str, run.contract.labels)), given, files)


def _read(path: Path, run: Run, data: Data, files: list[str]) -> dict[str, np.ndarray]:
    source = data.contract.source
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            table = csv.DictReader(lines, skipinitialspace=True)
            header = [str(name).strip().lower() for name in table.fieldnames or ()]
            table.fieldnames = header
            column = next((name for name in ("file", "row") if name in header), None)
            if column is None or "group" not in header:
                shown = ", ".join(header) or "nothing"
                raise VaekitError(f"{path.name} has the columns {shown}; expected group, and file or row")
            if column == "file" and not files:
                raise VaekitError(
                    f"{path.name} names files, but {source} is not made of image files; give the column row, "
                    "a row's number from 0"
                )
            cells = [(table.line_num, line[column], line["group"]) for line in table]
    except FileNotFoundError:
        raise VaekitError(f"no file of groups at {path}; expected a CSV of group, and file or row") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise VaekitError(f"{path.name} is no readable CSV of groups: {error}") from error
    count = len(files) or (None if run.recipe.data.limit else 1 + max(_last(s) for s in data.splits.values()))
    at = {name: place for place, name in enumerate(files)}
    found: dict[str, list[int]] = {}
    for line, cell, group in cells:
        if (group or "").strip():
            cell = (cell or "").strip()
            path_like = cell.replace("\\", "/").removeprefix("./")
            place = at.get(path_like) if column == "file" else _number(cell, count)
            if place is None:
                known = f"rows 0 to {count - 1:,}" if count else "rows from 0"
                there = known if column == "row" else "no such file" + _near(cell, files)
                raise VaekitError(f"{path.name} line {line}: {column} {cell!r}, but {source} has {there}")
            found.setdefault(group.strip(), []).append(place)
    if not found:
        raise VaekitError(
            f"{path.name} names no group: expected a line a row, with its {column} and its group"
        )
    return {name: np.unique(places) for name, places in found.items()}


def _last(rows: Split) -> int:
    return int(rows.places.max()) if rows.places is not None and len(rows) else 0


def _number(cell: str, count: int | None) -> int | None:
    number = int(cell) if cell.isascii() and cell.isdigit() else -1
    return number if number >= 0 and (count is None or number < count) else None


def _near(name: str, files: list[str]) -> str:
    close = difflib.get_close_matches(name, files[:GUESSED_AMONG], n=1)
    return f" (did you mean {close[0]!r}?)" if close else f"; files are named like {files[0]!r}"
