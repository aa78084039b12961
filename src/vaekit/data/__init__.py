"""Data is a path or a name: opened once as one array a split, with the contract that says what it holds."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vaekit.data.batches import Batches, Preparation, permutation
    from vaekit.data.builtin import NAMES
    from vaekit.data.contract import KINDS, Contract
    from vaekit.data.hashes import known_hashes, known_name
    from vaekit.data.images import file_names
    from vaekit.data.open import open_data
    from vaekit.data.splits import Data, Split, in_turn

_HOMES = {
    "open_data": "open",
    "Data": "splits",
    "Split": "splits",
    "in_turn": "splits",
    "Contract": "contract",
    "KINDS": "contract",
    "NAMES": "builtin",
    "Preparation": "batches",
    "Batches": "batches",
    "permutation": "batches",
    "known_hashes": "hashes",
    "known_name": "hashes",
    "file_names": "images",
}
__all__ = [
    "KINDS",
    "NAMES",
    "Batches",
    "Contract",
    "Data",
    "Preparation",
    "Split",
    "file_names",
    "in_turn",
    "known_hashes",
    "known_name",
    "open_data",
    "permutation",
]


def __getattr__(name: str) -> Any:
    # Late, so that `vaekit --help` may name the room without importing torch.
    if name in _HOMES:
        return getattr(importlib.import_module(f"vaekit.data.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
