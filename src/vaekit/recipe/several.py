"""`[members]`: a recipe of several runs, each a table of sections laid over the recipe's own."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from vaekit.errors import VaekitError
from vaekit.recipe.checking import shown
from vaekit.recipe.merging import merged, overrides_tree
from vaekit.recipe.sections import Recipe, from_tree

NAME = re.compile(r"[^\W_][\w.+-]*")
TAKEN = (".toml", ".html", ".png", ".csv")  # what stands beside the members' folders


def split(tree: Mapping[str, Any], what: str, overrides: Iterable[str] = ()) -> dict[str, Recipe]:
    """The members of a recipe's sections, by name and in the order of the file; `overrides` go to each.

    Raises VaekitError for a table that is empty, a name that no folder can have, or a member that is no recipe.
    """
    below = {name: section for name, section in tree.items() if name != "members"}
    tables, changes = tree["members"], overrides_tree(overrides)
    if not isinstance(tables, Mapping) or not tables:
        raise VaekitError(
            f"{what}: [members] is {shown(tables)}; expected a table a member, [members.NAME.section]"
        )
    own = below.get("recipe", {}).get("name", "") if isinstance(below.get("recipe", {}), Mapping) else ""
    found: dict[str, Recipe] = {}
    for name, table in tables.items():
        check_name(name, what)
        if name.lower() in (other.lower() for other in found):
            raise VaekitError(
                f"{what}: two members are called {name!r}, and some disks would make one folder of them"
            )
        if not isinstance(table, Mapping):
            raise VaekitError(
                f"{what}: members.{name} is {shown(table)}; expected sections, [members.{name}.model]"
            )
        if "base" in (table.get("recipe") or {}):
            raise VaekitError(
                f"{what}: members.{name}.recipe.base: a member has the base of its recipe; leave it out"
            )
        here = merged(merged(below, {"recipe": {"name": f"{own}/{name}".strip("/")}}), table)
        found[name] = from_tree(merged(here, changes), f"{what}, member {name}")
    return found


def check_name(name: str, what: str) -> None:
    """Raise VaekitError for a name that a member's folder cannot have."""
    if not NAME.fullmatch(name) or name.endswith(TAKEN):
        raise VaekitError(
            f"{what}: a member cannot be called {name!r}, for it names a folder; take letters, digits and -"
        )


def values_over(over: str) -> tuple[str, list[str]]:
    """A sweep, "objective.beta=0.1,1,10", as its setting and values; commas in brackets or quotes separate nothing."""
    key, equals, listed = (part.strip() for part in over.partition("="))
    values = [value.strip() for value in re.findall(r"""(?:\[[^]]*\]|"[^"]*"|[^,])+""", listed)]
    if not equals or not key or len(values) < 2 or not all(values):
        raise VaekitError(
            f"--over {over!r} is no sweep: write a setting and two values or more, such as objective.beta=0.1,1,10"
        )
    return key, values


def named(value: str, others: Collection[str]) -> str:
    """The name of the member that has a sweep's value. Raises VaekitError where another has it."""
    name = re.sub(r"[^\w.+-]+", "-", value).strip("-._")
    name = f"minus-{name}" if value.startswith("-") else name
    if not name or name.lower() in (other.lower() for other in others):
        raise VaekitError(
            f"--over has the value {value!r} twice, or no folder can be called so; give each value once"
        )
    check_name(name, "--over")
    return name
