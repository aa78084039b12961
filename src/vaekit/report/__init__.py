"""Pages for a person: what a trained run is worth, in one HTML file that needs nothing but itself."""

from __future__ import annotations

from typing import Any

_HOMES = {"compare": "comparison"}


def __getattr__(name: str) -> Any:
    """What the room gives, imported when it is used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"vaekit.report.{_HOMES[name]}"), name)
