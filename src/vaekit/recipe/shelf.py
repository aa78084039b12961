"""Where recipes are: in the package, found by bare name whatever their folder, or a TOML file of yours."""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NamedTuple

import tomli_w

from vaekit.errors import VaekitError, nearest
from vaekit.recipe.merging import merged, overrides_tree
from vaekit.recipe.sections import Recipe, from_tree, on_one_line, parsed, to_toml
from vaekit.recipe.several import split

DEFAULT = "digits"


class Listing(NamedTuple):
    """One line of `vaekit recipes`."""

    name: str
    description: str


def load(name: str | os.PathLike[str] = DEFAULT, overrides: Iterable[str] = ()) -> Recipe:
    """A recipe by name or by the path of a .toml file, its bases laid under it and `overrides` over it.

    overrides: "section.key=value", as `--set` takes them. Raises VaekitError, all problems in one line.
    """
    tree, label = _whole(name)
    if "members" in tree:
        raise VaekitError(
            f"recipe {label} is one of several runs: train them with vaekit.fit_members(recipe={label!r}) or "
            f"vaekit train --recipe {label}"
        )
    return from_tree(merged(tree, overrides_tree(overrides)), f"recipe {label}")


def members(name: str | os.PathLike[str], overrides: Iterable[str] = ()) -> dict[str, Recipe]:
    """The recipes of a recipe's members by name, `overrides` laid over each; none for a recipe of one run.

    Raises VaekitError, as `load` does.
    """
    tree, label = _whole(name)
    return split(tree, f"recipe {label}", overrides) if "members" in tree else {}


def _whole(name: str | os.PathLike[str]) -> tuple[dict[str, Any], str]:
    """All sections of a recipe, its name among them, and how messages call it."""
    file, label = _find(str(name), Path())
    tree = _with_bases(file, label, ())
    heading = dict(tree.get("recipe", {})) if isinstance(tree.get("recipe", {}), dict) else {}
    tree["recipe"] = {"name": Path(str(file)).stem} | heading
    return tree, label


def names() -> list[str]:
    """The names of the recipes in the package, without those that are only a base (they start with "_")."""
    return sorted(name for name in _all() if not name.startswith("_"))


def listing() -> list[Listing]:
    """Every recipe with its description, in the order of `names`. Imports no torch."""
    return [
        Listing(name, parsed(source(name), name).get("recipe", {}).get("description", "")) for name in names()
    ]


def source(name: str | os.PathLike[str]) -> str:
    """The text of a recipe as written."""
    file, label = _find(str(name), Path())
    return _text(file, label)


def shown(name: str | os.PathLike[str]) -> str:
    """A recipe that stands by itself, as TOML: its comment, then every key, those of its base included.

    Of a recipe with members what they share, and then what is each one's own.
    """
    comment = "".join(f"# {line}\n" for line in comment_of(source(name)).splitlines())
    tree, label = _whole(name)
    if not members(name):
        return f"{comment}\n{to_toml(load(name))}"
    shared = from_tree({key: section for key, section in tree.items() if key != "members"}, f"recipe {label}")
    return f"{comment}\n{to_toml(shared)}\n{on_one_line(tomli_w.dumps({'members': tree['members']}))}"


def comment_of(text: str) -> str:
    """The comment at the head of a recipe, as one string."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("#").strip())
    return "\n".join(lines)


def _all() -> dict[str, Traversable]:
    found: dict[str, Traversable] = {}
    folders = [files("vaekit").joinpath("recipes")]
    while folders:
        for entry in folders.pop().iterdir():
            if entry.is_dir():
                folders.append(entry)
            elif entry.name.endswith(".toml"):
                found[entry.name.removesuffix(".toml")] = entry
    return found


def _find(name: str, beside: Path) -> tuple[Traversable | Path, str]:
    """The file of a recipe and how messages call it; a relative path is taken from the folder `beside`."""
    if not (name.endswith(".toml") or "/" in name or os.sep in name):
        shelf = _all()
        if name not in shelf:
            raise VaekitError(
                f"there is no recipe {name!r}{nearest(name, names())}; your own is a path to a .toml file"
            )
        return shelf[name], name
    path = beside / Path(name).expanduser()
    if not path.is_file():
        reason = "is a folder" if path.is_dir() else "does not exist"
        raise VaekitError(f"recipe {path} {reason}; give a .toml file or one of {', '.join(names())}")
    return path, str(path)


def _text(file: Traversable | Path, label: str) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise VaekitError(f"recipe {label} cannot be read: {error}") from error


def _with_bases(file: Traversable | Path, label: str, heirs: tuple[str, ...]) -> dict[str, Any]:
    """The sections of a file laid over those of its base, and so on. `heirs`: the files on the way here."""
    where = str(file.resolve()) if isinstance(file, Path) else str(file)
    if where in heirs:
        chain = " -> ".join(Path(p).stem for p in (*heirs[heirs.index(where) :], where))
        raise VaekitError(f"recipe {label} inherits from itself ({chain}): take one base out")
    tree = parsed(_text(file, label), f"recipe {label}")
    heading = tree.get("recipe", {})
    base = heading.pop("base", None) if isinstance(heading, dict) else None
    if base is None:
        return tree
    if not isinstance(base, str):
        raise VaekitError(
            f"recipe {label}: recipe.base is {base!r}; expected the name or the path of a recipe"
        )
    beside = file.parent if isinstance(file, Path) else Path()
    below = _with_bases(*_find(base, beside), (*heirs, where))
    below.pop("recipe", None)
    return merged(below, tree)
