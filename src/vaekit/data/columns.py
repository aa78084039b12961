"""What the columns of a parquet file are for: features, an image, a label, or nothing that a model sees.

Names and types decide, never values: all pieces of a file are read alike, and the next file of a collection too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from vaekit.data.contract import Contract
from vaekit.data.raw import Options, Part, Raw
from vaekit.data.tables import LABELS, from_arrow, index_column
from vaekit.errors import VaekitError


@dataclass(frozen=True)
class Columns:
    """Names of columns. `image` holds encoded image files, and `features` is empty then; `carried` are plain values."""

    features: list[str]
    image: str | None
    label: str | None
    carried: list[str]

    @property
    def all(self) -> list[str]:
        named = [*self.features, self.image, self.label, *self.carried]
        return list(dict.fromkeys(name for name in named if name is not None))

    def vectors(self, table: Any, contract: Contract, what: str) -> Raw:
        """The features of a pyarrow table as read, one part without labels."""
        table = table.select(self.features)
        if len(self.features) == 1:
            x = _lists(table.column(0))
            if x is not None:
                return Raw(
                    {"all": Part(x)}, columns=tuple(f"{self.features[0]} {i}" for i in range(x.shape[1]))
                )
        # "" is no column: the label has been taken out, and no other is one
        return from_arrow(table, what, Options(like=contract.shape, labels=""))


def columns(schema: Any, contract: Contract, labels: str | None, what: str) -> Columns:
    """Columns of an arrow schema as the contract wants them. `labels` names the label where its name does not tell.
    Raises VaekitError where columns that the contract has are missing."""
    import pyarrow as arrow

    is_ = arrow.types
    names = list(schema.names)
    encoded = [f.name for f in schema if _is_binary(f.type) or (is_.is_struct(f.type) and _has_bytes(f.type))]
    nested = [f.name for f in schema if is_.is_nested(f.type)]
    plain = [name for name in names if name not in nested and name not in encoded]
    label = labels if labels in names else next((name for name in plain if name.lower() in LABELS), None)
    if contract.is_image and not contract.columns and len(encoded) == 1:
        return Columns([], encoded[0], label, plain)
    if contract.columns:
        # a column of lists was opened as "NAME 0", "NAME 1", ...
        homes = {c: c if c in names else re.sub(r" \d+$", "", c) for c in contract.columns}
        missing = [column for column, home in homes.items() if home not in names]
        if missing:
            listed = ", ".join(map(repr, missing[:5]))
            raise VaekitError(f"{what} lacks the columns {listed} that {contract.source} has")
        features = list(dict.fromkeys(homes.values()))
    else:
        # numbers beside vectors describe them
        vectors = [name for name in nested if name not in encoded]
        apart = {label, index_column(names), *(f.name for f in schema if is_.is_string(f.type))}
        features = vectors or [name for name in plain if name not in apart]
    if not features:
        raise VaekitError(f"{what} has no columns of numbers, as {contract.source} has")
    return Columns(features, None, label, [name for name in plain if name not in features])


def _lists(column: Any) -> np.ndarray | None:
    """Lists of numbers, all of one length, as [n, F] without a copy; None of any other column."""
    import pyarrow as arrow
    import pyarrow.compute as compute

    if not arrow.types.is_list(column.type) and not arrow.types.is_fixed_size_list(column.type):
        return None
    number = arrow.types.is_integer(column.type.value_type) or arrow.types.is_floating(column.type.value_type)
    lengths = compute.min_max(compute.list_value_length(column)).as_py()
    if not number or column.null_count or not lengths["min"] or lengths["min"] != lengths["max"]:
        return None
    values = column.combine_chunks().flatten()
    return None if values.null_count else values.to_numpy(zero_copy_only=False).reshape(-1, lengths["min"])


def _is_binary(kind: Any) -> bool:
    import pyarrow as arrow

    return arrow.types.is_binary(kind) or arrow.types.is_large_binary(kind)


def _has_bytes(kind: Any) -> bool:
    at = kind.get_field_index("bytes")
    return at >= 0 and _is_binary(kind.field(at).type)
