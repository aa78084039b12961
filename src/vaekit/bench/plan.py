"""What a bench asks for: rows of recipe, data and seeds, from TOML in the package or of one's own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from vaekit import recipe as shelf
from vaekit.errors import VaekitError, nearest
from vaekit.recipe.checking import read_section, shown
from vaekit.recipe.sections import parsed
from vaekit.recipe.several import NAME

Natural = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Anchor(_Section):
    """A published figure: an NLL in nats a row, whose it is, where it stands, and how it was made.

    `data` is the published name of the rows it is of (`vaekit.data.known_hashes`): ours is compared with it only where
    the hash of our rows has that name. `decoder` is its class: bits that are told one after another have another truth
    to reach than bits that are independent given z, so a model of the other class is not compared with it either.
    """

    value: float
    what: str
    source: str
    setting: str = ""
    data: str = ""
    decoder: Literal["factorised", "autoregressive"] = "factorised"


class Asked(_Section):
    """What a row is judged by, and what a bench may say once for all its rows."""

    data: str | None = None
    set: tuple[str, ...] = ()
    seeds: tuple[Seed, ...] = (0,)
    k: tuple[Natural, ...] = (1, 10, 100, 1000, 5000)
    split: Literal["valid", "test"] = "test"
    limit: Natural | None = None  # rows that are judged
    refit_encoder: bool = False  # judged by an encoder trained further while the decoder stands still


class Table(Asked):
    """The keys of a row."""

    recipe: str
    name: str = ""


class Row(Table):
    """A recipe on data, over seeds. Paths stay as they were written; those that are not absolute begin at the folder
    `beside`, that of the bench's file."""

    anchor: Anchor | None = None
    beside: Path | None = None

    @property
    def recipe_place(self) -> str:
        """The recipe by its name, or where its file is."""
        is_path = self.recipe.endswith(".toml") or "/" in self.recipe or os.sep in self.recipe
        return str(self._placed(self.recipe)) if is_path else self.recipe

    @property
    def data_place(self) -> str | None:
        """The data by their name, or where they are; as written where there is nothing, which opening them tells."""
        from vaekit.data import NAMES

        if self.data is None or self.data in NAMES:
            return self.data
        place = self._placed(self.data)
        return str(place) if place.exists() or Path(self.data).exists() else self.data

    def _placed(self, text: str) -> Path:
        return (self.beside or Path()) / Path(text).expanduser()


class Bench(Asked):
    """A named set of rows; what it says itself is laid under each of them."""

    name: str
    title: str = ""
    description: str = ""
    rows: tuple[Row, ...] = ()


class Heading(Asked):
    """The keys above the rows."""

    title: str = ""
    description: str = ""


def load(name: str | os.PathLike[str]) -> Bench:
    """A bench by its name or by the path of a TOML file, from whose folder the paths of recipes and data are taken.

    Raises VaekitError, all problems in one line.
    """
    file, label = _find(os.fspath(name))
    try:
        tree = parsed(file.read_text(encoding="utf-8"), f"bench {label}")
    except (OSError, UnicodeDecodeError) as error:
        raise VaekitError(f"bench {label} cannot be read: {error}") from error
    problems: list[str] = []
    tables = tree.pop("row", [])
    heading = read_section(Heading, tree, "bench", problems)
    if not isinstance(tables, list) or not tables:
        problems.append("it has no rows: write [[row]] and a recipe, once for each")
        tables = []
    given = {
        key: value
        for key, value in heading.model_dump(exclude_unset=True).items()
        if key in Asked.model_fields
    }
    beside = file.parent if isinstance(file, Path) else None
    rows = [_row(table, given, number, problems, beside) for number, table in enumerate(tables, 1)]
    names = [row.name.lower() for row in rows]
    problems += [
        f"two rows are called {name!r}: give one a name" for name in {n for n in names if names.count(n) > 1}
    ]
    bench = Path(str(file)).stem
    if not NAME.fullmatch(bench):
        problems.append(
            f"{bench!r} cannot be its name, which names a folder and files; call the file by letters, digits and -"
        )
    if problems:
        raise VaekitError(f"bench {label}: {'; '.join(problems)}")
    return Bench(
        name=bench,
        title=heading.title,
        description=heading.description,
        rows=tuple(rows),
        **given,
    )


def listing() -> list[Bench]:
    """Every bench of the package, by name."""
    return [load(name) for name in sorted(_all())]


def _row(table: Any, given: Mapping[str, Any], number: int, problems: list[str], beside: Path | None) -> Row:
    """A row's table over what the bench says; with problems, one that nobody will use."""
    where = f"row {number}"
    if not isinstance(table, Mapping):
        problems.append(f"{where} is {shown(table)}; expected a table, [[row]]")
        return Row.model_construct(name=where)
    table = dict(table)
    name = table.get("name") or Path(str(table.get("recipe", where))).stem
    anchor, before = table.pop("anchor", None), len(problems)
    own = read_section(Table, table, f"row {name}" if isinstance(name, str) else where, problems)
    if anchor is not None:
        anchor = read_section(Anchor, anchor, f"row {name}.anchor", problems)
    if len(problems) > before:
        return Row.model_construct(name=str(name))
    asked = {**given, **{key: getattr(own, key) for key in own.model_fields_set}}
    changes = (*given.get("set", ()), *own.set)
    row = Row(**asked | {"name": name, "anchor": anchor, "set": changes, "beside": beside})
    if not NAME.fullmatch(row.name):
        problems.append(
            f"a row cannot be called {row.name!r}, for it names a folder; take letters, digits and -"
        )
    for key in ("seeds", "k"):
        values = getattr(row, key)
        if not values or len(set(values)) < len(values):
            problems.append(f"row {row.name}.{key} is {list(values)}; give one or more, each once")
    try:
        shelf.load(row.recipe_place, row.set)
    except VaekitError as error:
        problems.append(f"row {row.name}: {error}")
    return row


def _all() -> dict[str, Traversable]:
    found = files("vaekit").joinpath("benches").iterdir()
    return {entry.name.removesuffix(".toml"): entry for entry in found if entry.name.endswith(".toml")}


def _find(name: str) -> tuple[Traversable | Path, str]:
    """The file of a bench, and how messages call it."""
    if not (name.endswith(".toml") or "/" in name or os.sep in name):
        known = _all()
        if name not in known:
            raise VaekitError(
                f"there is no bench {name!r}{nearest(name, known)}; your own is a path to a .toml file"
            )
        return known[name], name
    path = Path(name).expanduser()
    if not path.is_file():
        reason = "is a folder" if path.is_dir() else "does not exist"
        raise VaekitError(f"bench {path} {reason}; give a .toml file or one of {', '.join(sorted(_all()))}")
    return path, str(path)


def chosen(bench: Bench, only: Iterable[str], seeds: Iterable[int] | None) -> list[tuple[Row, int]]:
    """The cells that are asked for: `only` names rows or cells (ROW-seed0), `seeds` stands in for those of every row.

    Raises VaekitError for a name that is neither.
    """
    given = None if seeds is None else tuple(dict.fromkeys(seeds))
    cells = {cell_name(row, seed): (row, seed) for row in bench.rows for seed in given or row.seeds}
    wanted = [part.strip() for text in only for part in text.split(",") if part.strip()]
    if not wanted:
        return list(cells.values())
    rows = {row.name for row in bench.rows}
    for name in wanted:
        if name not in rows and name not in cells:
            raise VaekitError(
                f"bench {bench.name} has no row or cell {name!r}{nearest(name, [*rows, *cells])}"
            )
    return [cell for name, cell in cells.items() if name in wanted or cell[0].name in wanted]


def cell_name(row: Row, seed: int) -> str:
    return f"{row.name}-seed{seed}"
