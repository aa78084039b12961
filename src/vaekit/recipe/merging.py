"""Layers of a recipe: what a base says, what a recipe changes, what `--set` changes."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

from vaekit.errors import VaekitError
from vaekit.recipe.parts import DEFAULT_KIND, SLOTS, WITH_NET
from vaekit.recipe.sections import homes


def merged(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """Sections of `base` with those of `top` laid over them, key by key.

    A part whose `kind` changes loses the base's arguments, which belonged to another class; its net stays.
    """
    result: dict[str, Any] = dict(base)
    for name, section in top.items():
        below = base.get(name, {})
        if not (isinstance(section, Mapping) and isinstance(below, Mapping)):
            result[name] = section
        elif name in SLOTS:
            result[name] = _merged_part(name, below, section)
        elif name == "train" and len({"epochs", "steps"} & section.keys()) == 1:
            # they say the same thing, so the one that is set replaces the one that was
            kept = {k: v for k, v in below.items() if k not in ("epochs", "steps")}
            result[name] = _laid(kept, section)
        else:
            result[name] = _laid(below, section)
    return result


def _merged_part(slot: str, below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    old_kind = below.get("kind", DEFAULT_KIND.get(slot))
    changed = "kind" in above and above["kind"] != old_kind
    kept = {k: v for k, v in below.items() if k == "net"} if changed else dict(below)
    nets = kept.get("net"), above.get("net")
    result = _laid(kept, above)
    if slot in WITH_NET and all(isinstance(net, Mapping) for net in nets):
        result["net"] = _merged_part(f"{slot}.net", nets[0], nets[1])  # type: ignore[arg-type]
    return result


def _laid(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """None (which TOML does not have) takes a key back to its default."""
    return {k: v for k, v in {**below, **above}.items() if v is not None}


def overrides_tree(overrides: Iterable[str]) -> dict[str, Any]:
    """["section.key=value", ...] -> sections. Values are TOML, or else bare text.

    Raises VaekitError for all that are no settings at once.
    """
    tree: dict[str, Any] = {}
    problems: list[str] = []
    for item in overrides:
        key, equals, text = item.partition("=")
        names = [name.strip() for name in key.split(".")]
        if not equals or not all(names):
            problems.append(f"{item!r} is no setting: write section.key=value, such as train.epochs=3")
            continue
        if len(names) < 2:
            home = homes().get(names[0])
            meant = (
                f"did you mean {home}={text}?" if home else "write section.key=value, such as train.epochs=3"
            )
            problems.append(f"{item!r} names no section: {meant}")
            continue
        here = tree
        for name in names[:-1]:
            here = here.setdefault(name, {})
            if not isinstance(here, dict):
                break
        if isinstance(here, dict):
            here[names[-1]] = value_of(text)
        else:
            problems.append(f"{item!r} goes inside a value that another setting gives whole")
    if problems:
        raise VaekitError("; ".join(problems))
    return tree


def value_of(text: str) -> Any:
    """3, 0.5, true, [1, 2] or "text" as TOML has them; anything else is text as it stands."""
    try:
        table = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text.strip()
    return table["value"] if len(table) == 1 else text.strip()
