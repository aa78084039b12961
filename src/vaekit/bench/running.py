"""Go through the cells of a bench: what is made is kept, what was begun goes on, what another makes is left to it."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaekit.bench import page
from vaekit.bench.cells import Cell, changes, claimed, holder, judged_by, made_of, read
from vaekit.bench.making import make
from vaekit.bench.plan import Bench, Row, chosen, load
from vaekit.bench.table import table
from vaekit.errors import VaekitError
from vaekit.files import write_text

if TYPE_CHECKING:
    from vaekit.data import Data

Place = str | os.PathLike[str]


def benchmark(
    name: Place,
    *,
    output: Place | None = None,
    only: Iterable[str] = (),
    seeds: Iterable[int] | None = None,
    threads: int | None = None,
    redo: bool = False,
    allow: Collection[str] = (),
    progress: bool | None = None,
) -> dict[str, Any]:
    """Train and judge the cells of a bench, recipe by recipe and seed by seed, and write its table; the table.

    name: a bench of the package (`vaekit bench --list`) or a TOML file. output: the folder, by default bench/NAME; it
    gets NAME.md, NAME.json, cells/ (a record each) and runs/, and what is there already is kept. only: rows or cells
    (ROW-seed0). seeds: instead of each row's. threads: for training and evaluation. redo: set stale cells aside, whose
    recipe, data or evaluation are no longer what they were, and make them again.

    Several processes may work on one folder: each cell is made by one of them.
    Raises VaekitError for bad input, and KeyboardInterrupt, saying how to go on, once Ctrl-C has saved what there is.

    >>> found = benchmark("digits", only=["vae"])    # doctest: +SKIP
    >>> found["rows"][0]["nll"]["mean"]              # doctest: +SKIP
    """
    from vaekit.train.given import voice

    bench, say = load(name), voice(progress)
    folder = Path(output).expanduser() if output is not None else Path("bench") / bench.name
    cells = [Cell(bench.name, row, seed, folder) for row, seed in chosen(bench, only, seeds)]
    _refuse_what_cannot_be(bench, cells, folder)
    opened = _opened(cells)
    if not redo:
        _refuse_stale(cells, opened)
    where, left, failed = "before the first cell", cells, list[str]()

    def attend(cell: Cell) -> bool:
        """Make a cell, unless it is made or another process is at it: then False."""
        nonlocal where
        number = cells.index(cell) + 1
        where = f"in cell {cell.name}, {number} of {len(cells)}"
        with claimed(cell.lock) as ours:
            if not ours:
                return False
            data = opened[cell.name]
            if redo:
                _set_aside(cell, data, say)
            if _finished(cell):
                return True
            say(f"-- cell {cell.name}, {number} of {len(cells)}")
            try:
                make(cell, data, say, threads=threads, allow=allow, progress=progress)
            except VaekitError as error:
                failed.append(cell.name)
                warnings.warn(f"cell {cell.name} failed, the others go on: {error}", stacklevel=3)
        _write(bench, folder)
        return True

    try:
        while len(waiting := [cell for cell in left if not attend(cell)]) < len(left):
            left = waiting  # one of them may have been given up meanwhile
        for cell in waiting:
            say(f"cell {cell.name} is being made by process {holder(cell.lock)}, and left to it")
        found = _write(bench, folder)
    except KeyboardInterrupt:
        _write(bench, folder)
        raise KeyboardInterrupt(f"interrupted {where}, all saved; go on with the same command") from None
    if failed:
        raise VaekitError(
            f"{len(failed)} of {len(cells)} cells could not be made ({', '.join(failed)}); the others are in {folder}"
        )
    return found


def _refuse_what_cannot_be(bench: Bench, cells: Iterable[Cell], folder: Path) -> None:
    """VaekitError for a folder that is something else or another bench's, and for rows that want several processes."""
    if folder.exists() and (not folder.is_dir() or (folder / "recipe.toml").exists()):
        raise VaekitError(f"{folder} is no folder of a bench; choose another -o")
    for file in sorted((folder / "cells").glob("*.json")):
        other = (read(file) or {}).get("bench", bench.name)  # a record that names none is of its folder's
        if other != bench.name:
            raise VaekitError(
                f"{folder} is the folder of bench {other} ({file.stem}), and {bench.name} would mix with it; choose "
                "another -o"
            )
    for cell in cells:
        train = cell.recipe().train
        if train.devices * train.nodes > 1 or "TORCHELASTIC_RUN_ID" in os.environ:
            raise VaekitError(
                f"row {cell.row.name}: cells are trained by one process each; leave train.devices and torchrun out"
            )


def _opened(cells: Iterable[Cell]) -> dict[str, Data]:
    """The data of each cell, opened once for all that prepare them alike."""
    from vaekit.train.given import data_options, opened

    shared: dict[str, Data] = {}
    found: dict[str, Data] = {}
    for cell in cells:
        options = data_options(cell.recipe())
        key = json.dumps([cell.source, options], default=repr)
        if key not in shared:
            try:
                shared[key] = opened(cell.source, options)
            except VaekitError as error:
                raise VaekitError(f"row {cell.row.name}: {error}") from error
        found[cell.name] = shared[key]
    return found


def _differences(cell: Cell, record: Mapping[str, Any], data_hash: str | None) -> tuple[list[str], list[str]]:
    """How what is asked of a cell differs from what was made, in words: of its weights, and of its figures.

    Without a hash the data are taken to be what they were.
    """
    before = record["made_of"]
    now = made_of(cell.recipe(), before["data"] if data_hash is None else data_hash)
    weights = changes(before["recipe"], now["recipe"])
    if before["data"] != now["data"]:
        weights.append(f"other data, sha256 {before['data'][:8]} -> {now['data'][:8]}")
    return weights, changes(record.get("judged_by", judged_by(cell.row)), judged_by(cell.row))


def _refuse_stale(cells: Iterable[Cell], opened: Mapping[str, Data]) -> None:
    """VaekitError that names every cell that is no longer what is asked for, before any work is done."""
    stale = []
    for cell in cells:
        record = cell.read()
        if record is None:
            if cell.run.exists():
                stale.append(f"{cell.name} (a run without its record)")
            continue
        weights, figures = _differences(cell, record, opened[cell.name].contract.hash)
        if found := [*weights, *figures]:
            stale.append(f"{cell.name} ({', '.join(found[:3])}{', ...' * (len(found) > 3)})")
    if stale:
        raise VaekitError(
            f"{len(stale)} cell{'s are' if len(stale) > 1 else ' is'} not what the bench asks for now: {'; '.join(stale)}"
            "; --redo makes them again and keeps the old ones under stale/, another -o leaves them alone"
        )


def _set_aside(cell: Cell, data: Data, say: Callable[[str], None]) -> None:
    """Make room for a stale cell to be made again: all of it, or its figures alone."""
    record = cell.read()
    if record is None:
        if cell.run.exists():
            say(f"{cell.name} has a run without its record; set aside as {cell.set_aside()}")
        return
    weights, figures = _differences(cell, record, data.contract.hash)
    if weights:
        say(f"{cell.name} is stale ({', '.join(weights)}); set aside as {cell.set_aside()}")
    elif figures:
        say(
            f"{cell.name} is judged again ({', '.join(figures)}); its old record is {cell.set_aside(record_alone=True)}"
        )
        kept = {
            key: value
            for key, value in record.items()
            if key not in ("judged_by", "evaluation", "train_evaluation")
        }
        cell.write(kept | {"state": "trained"})


def _finished(cell: Cell) -> bool:
    record = cell.read()
    return record is not None and record["state"] == "done"


def _write(bench: Bench, folder: Path) -> dict[str, Any]:
    """NAME.json and NAME.md from the cells that are there, stale ones left out; one process at a time."""
    with claimed(folder / "cells" / "table.lock", wait=True):
        found = table(bench, {row.name: _records(bench, row, folder) for row in bench.rows})
        write_text(folder / f"{bench.name}.json", json.dumps(found, indent=2) + "\n")
        write_text(folder / f"{bench.name}.md", page.page(found))
    return found


def _records(bench: Bench, row: Row, folder: Path) -> dict[int, dict[str, Any]]:
    """The finished cells of a row, by seed, those of other seeds than the row's included."""
    found: dict[int, dict[str, Any]] = {}
    for file in (folder / "cells").glob(f"{row.name}-seed*.json"):
        seed = file.stem.removeprefix(f"{row.name}-seed")
        if not seed.isdigit():
            continue
        cell = Cell(bench.name, row, int(seed), folder)
        record = cell.read()
        if record is not None and record["state"] == "done" and not any(_differences(cell, record, None)):
            found[cell.seed] = record
    return found
