"""`bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from vaekit.commands.app import Allow, Count, Out, app
from vaekit.commands.results import numbers, trust
from vaekit.errors import VaekitError


@app.command
def bench(
    name: str | None = None, /, *, output: Out = None,
    only: Annotated[list[str] | None, Parameter(negative=(), consume_multiple=True)] = None, seeds: str | None = None,
    threads: Count | None = None, redo: bool = False,
    list_: Annotated[bool, Parameter(name="--list", negative=())] = False, table: Path | None = None, allow: Allow = None,
) -> None:  # fmt: skip
    """Train a named set of recipes over seeds, judge each, and write a table beside published figures.

    Stop it with Ctrl-C; the same command goes on, cell by cell (a cell is a recipe with a seed). Two processes may work
    on one folder.

    Parameters
    ----------
    name
        A bench by name (--list shows them), or a TOML file.
    output
        The folder of the table, the cells and their runs. Without it: bench/NAME.
    only
        Some rows, or cells: --only vae iwae-seed1.
    seeds
        Seeds with commas, instead of those of each row.
    threads
        Threads for training and evaluation, where several processes share the cores.
    redo
        Make cells again whose recipe, data or evaluation have changed; the old ones are kept under stale/.
    list_
        Show the benches, or the cells of one.
    table
        Train nothing: write the table that is there into this file, between <!-- bench: NAME --> and
        <!-- /bench: NAME -->.
    """
    from vaekit import bench as room

    for option, given in (
        ("--only", only),
        ("--seeds", seeds),
        ("--threads", threads),
        ("--redo", redo or None),
    ):
        if given is not None and (list_ or table is not None):
            raise VaekitError(
                f"{option} is for making cells, and {'--list' if list_ else '--table'} makes none: leave it out"
            )
    if list_:
        print(_cells(room.load(name)) if name else _benches(room.listing()))
        return
    if name is None:
        raise VaekitError("name a bench, or give --list to see them: vaekit bench --list")
    if table is not None:
        bench = room.load(name).name
        room.put(room.read((output or Path("bench") / bench) / f"{bench}.json"), table)
        print(table)
        return
    trust(allow)
    wanted = None if seeds is None else numbers(seeds, "--seeds")
    found = room.benchmark(
        name,
        output=output,
        only=only or (),
        seeds=wanted,
        threads=threads,
        redo=redo,
        allow=allow or (),
        progress=True,
    )
    print(room.summary(found))


def _benches(benches: list[Any]) -> str:
    width = max(len(bench.name) for bench in benches)
    return "\n".join(f"{bench.name:<{width}}  {bench.description} ({_size(bench.rows)})" for bench in benches)


def _cells(bench: Any) -> str:
    lines = [f"{bench.name}: {bench.title} ({_size(bench.rows)})"]
    width = max(len(row.name) for row in bench.rows)
    for row in bench.rows:
        seeds = ", ".join(map(str, row.seeds))
        lines.append(f"{row.name:<{width}}  {row.recipe} on {row.data or 'its own data'}, seeds {seeds}")
    return "\n".join(lines)


def _size(rows: Any) -> str:
    cells = sum(len(row.seeds) for row in rows)
    return f"{cells} cell{'s' * (cells > 1)}"
