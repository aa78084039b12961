"""The one training loop. Importing this room costs nothing; torch and Fabric come with the first use."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_home = {
    "resolve": "automatic",
    "train": "loop",
    "Outcome": "outcome",
    "start": "machine",
}
__all__ = ["Outcome", "resolve", "start", "train"]


def __getattr__(name: str) -> Any:
    if name in _home:
        return getattr(import_module(f"vaekit.train.{_home[name]}"), name)
    raise AttributeError(f"module 'vaekit.train' has no attribute {name!r}")
