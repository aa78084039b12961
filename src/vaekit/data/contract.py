"""The data contract: what the rows are, how they came to be so, and how model units map to data units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vaekit.errors import VaekitError

if TYPE_CHECKING:
    from vaekit.data.kinds import Survey

SCHEMA = 1
# kind -> (how the line calls it, the likelihood that fits it)
KINDS = {
    "binary": ("binary", "bernoulli"),
    "levels": ("grey levels", "binomial"),
    "8-bit": ("8-bit", "discretised logistic"),
    "colour": ("8-bit colour", "discretised logistic"),
    "real": ("real", "gaussian"),
    "counts": ("counts", "poisson"),
    "categories": ("categories", "categorical"),
}


@dataclass(frozen=True)
class Contract:
    """What the data are. Model units are x = (data - offset) / divisor in float32; nats are of data units.

    `shape` (C, H, W) or (F,); `low`, `high` the range in data units; `levels` n for values 0..n (1 for
    binary, 255 for 8-bit, categories - 1), 0 where there is none; `offset`, `divisor` of length 1 or F;
    `rows` by split; `hash` SHA-256 over the splits' rows as stored; `dtype` of the stored rows;
    `categories` the words of each column, `labels` the names of the classes; `factors` what the rows were made from,
    where that is known, and how many values each has.
    """

    source: str
    shape: tuple[int, ...]
    kind: str
    low: float
    high: float
    levels: int
    offset: tuple[float, ...]
    divisor: tuple[float, ...]
    dtype: str
    labels: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    categories: tuple[tuple[str, ...], ...] = ()
    binarize: str | None = None
    preparation: tuple[str, ...] = ()
    factors: Mapping[str, int] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)
    split: str = ""
    hash: str = ""

    @property
    def is_image(self) -> bool:
        return len(self.shape) == 3

    @property
    def discrete(self) -> bool:
        return self.kind != "real"

    @property
    def rescaled(self) -> bool:
        """Whether grey values are seen in another interval than [0, 1] (data.scale_to)."""
        plain = (0.0,), (float(max(self.high, 1)),)
        return self.kind in ("levels", "8-bit", "colour") and (self.offset, self.divisor) != plain

    def _affine(self, rank: int) -> tuple[np.ndarray, np.ndarray]:
        """offset and divisor as float32, broadcasting against [..., *shape]."""
        tail = (1,) * (len(self.shape) - 1) if len(self.offset) > 1 else (1,) * rank
        shape = (-1, *tail) if len(self.offset) > 1 else tail
        return (
            np.asarray(self.offset, np.float32).reshape(shape),
            np.asarray(self.divisor, np.float32).reshape(shape),
        )

    def scale(self, data: Tensor) -> Tensor:
        """Data units [..., *shape] -> float32 model units. Binarisation is `Preparation`'s."""
        offset, divisor = (torch.from_numpy(a).to(data.device) for a in self._affine(data.ndim))
        return (data.to(torch.float32) - offset) / divisor

    def unscale(self, x: Tensor | np.ndarray) -> np.ndarray:
        """Model units -> data units in the stored dtype; rounded and clipped to the range where discrete."""
        values = np.asarray(x.detach().float().cpu() if isinstance(x, Tensor) else x, np.float32)
        offset, divisor = self._affine(values.ndim)
        if not self.discrete:
            return (values * divisor + offset).astype(self.dtype)
        if self.kind == "binary":
            return (np.where(values >= 0.5, self.high, 0)).astype(np.uint8)
        top = np.iinfo(np.dtype(self.dtype)).max if self.kind == "counts" else self.high
        return np.clip(np.rint(values.astype(np.float64) * divisor + offset), self.low, top).astype(
            self.dtype
        )

    def picture(self, x: Tensor | np.ndarray) -> np.ndarray:
        """Images in model units [N, C, H, W] -> float in [0, 1], C in (1, 3), for drawing."""
        if not self.is_image:
            raise VaekitError(
                f"{self.source} holds vectors of {self.shape[0]} values: there is no picture of them"
            )
        values = np.asarray(x.detach().float().cpu() if isinstance(x, Tensor) else x, np.float32)
        values = values.reshape(-1, *self.shape)
        if self.kind in ("real", "counts") or self.rescaled:
            span = max(self.high - self.low, 1e-12)
            values = (values * np.float32(self.divisor[0]) + np.float32(self.offset[0]) - self.low) / span
        if self.shape[0] not in (1, 3):
            values = values.mean(1, keepdims=True)
        return np.clip(values, 0.0, 1.0)

    def check(self, array: Any, what: str) -> None:
        """Raise a `VaekitError` unless the rows `array` [N, *shape], in data units, keep the contract."""
        from vaekit.data.kinds import survey

        self.hold(array.shape, survey(array, what, self.columns) if len(array) else None, what)

    def hold(self, shape: tuple[int, ...], seen: Survey | None, what: str) -> None:
        """`check`, for rows of `shape` [N, ...] that have been surveyed already."""
        if tuple(shape[1:]) != self.shape:
            raise VaekitError(
                f"{what}: rows are {words(shape[1:])}, but {self.source} has {words(self.shape)}"
            )
        if seen is None:
            raise VaekitError(f"{what}: no rows")
        name = "binarised greys" if self.binarize else KINDS[self.kind][0]
        found = f"{what}: values {number(seen.low)} to {number(seen.high)}"
        if self.kind == "real":
            # Not a fence around the training range, which new data may leave, but against other units.
            slack = 10 * (self.high - self.low)
            if seen.low < self.low - slack or seen.high > self.high + slack:
                known = f"{number(self.low)} to {number(self.high)}"
                raise VaekitError(f"{found}, but {self.source} has {known}: are they in other units?")
            return
        if not seen.integer:
            raise VaekitError(f"{found} are not whole numbers, but {self.source} holds {name}")
        top = np.iinfo(np.dtype(self.dtype)).max if self.kind == "counts" else self.high
        if seen.low < self.low or seen.high > top:
            raise VaekitError(f"{found} outside {number(self.low)}..{number(top)} ({name} of {self.source})")
        if self.kind == "binary" and self.binarize is None and not seen.only(self.high):
            raise VaekitError(f"{found} are not only 0 and {number(self.high)} ({name} of {self.source})")

    def words(self, ids: np.ndarray) -> np.ndarray:
        """Category numbers [N, F] -> their words, as strings."""
        if not self.categories:
            return np.asarray(ids).astype(str)
        return np.stack([np.asarray(w)[np.asarray(ids)[:, i]] for i, w in enumerate(self.categories)], axis=1)

    @property
    def named(self) -> bool:
        """Whether the labels have names that say more than their numbers."""
        return self.labels != tuple(map(str, range(len(self.labels))))

    def names_of(self, label: np.ndarray) -> np.ndarray:
        """Label numbers [N] -> their names; "" for a number below zero."""
        return np.asarray([*map(str, self.labels), ""])[np.where(label < 0, len(self.labels), label)]

    def line(self) -> str:
        """The contract in one line."""
        what = "images" if self.is_image else "vectors"
        size = "x".join(map(str, self.shape)) if self.is_image else f"of {self.shape[0]}"
        name, likelihood = KINDS[self.kind]
        if self.binarize:
            when = "on access" if self.binarize == "dynamic" else "once"
            name = f"greys 0..{number(self.high)} binarised {when}"
        elif self.kind in ("levels", "categories"):
            name += f" 0..{self.levels}"
        elif self.kind in ("real", "counts"):
            name += f" {number(self.low)}..{number(self.high)}"
        elif self.kind == "8-bit" and self.shape[0] == 1 and self.is_image:
            name += " grey"
        parts = [f"{self.source}: {sum(self.rows.values()):,} {what} {size}", f"{name} ({likelihood})"]
        if self.labels:
            parts.append(f"{len(self.labels)} labels")
        if self.factors:
            parts.append(f"factors {', '.join(f'{name} {n}' for name, n in self.factors.items())}")
        if len(self.rows) > 1:
            parts.append(f"split {'/'.join(map(str, self.rows.values()))} {self.split}".rstrip())
        parts.append(f"sha256 {self.hash[:8]}…")
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` gives the contract back."""
        return {"schema": SCHEMA, **asdict(self), "factors": dict(self.factors), "rows": dict(self.rows)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Contract:
        values = dict(plain)
        schema = values.pop("schema", None)
        names = {f.name for f in fields(cls)}
        if schema != SCHEMA or not set(values) <= names or not {"shape", "kind", "divisor"} <= set(values):
            raise VaekitError(f"the data contract has schema {schema}; this vaekit reads schema {SCHEMA}")
        for name in ("shape", "offset", "divisor", "labels", "columns", "preparation"):
            values[name] = tuple(values.get(name, ()))
        values["categories"] = tuple(tuple(c) for c in values.get("categories", ()))
        return cls(**values)


def words(shape: tuple[int, ...]) -> str:
    """A row's shape as a message says it."""
    return f"{shape[0]} values" if len(shape) == 1 else "x".join(map(str, shape))


def number(value: float) -> str:
    """A value as a message says it: 255 rather than 255.0, four digits otherwise."""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else f"{value:.4g}"
