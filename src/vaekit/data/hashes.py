"""SHA-256 of rows, and the evaluation bits whose hashes are published: a number is called by a set's name
only where the hash agrees."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from vaekit.data.stored import Reader

# numpy.packbits of the bits in raster order. The MNIST and Fashion test bits are
# numpy.random.RandomState(0).random_sample((10000, 784)) < grey / 255 over the rows in file order.
known_hashes: dict[str, str] = {
    "MNIST test, dynamically binarised": "e57c29358f8feb9d94da931970e5d4412a2ac9422f0a8515278b558a6d213cf7",
    "Fashion-MNIST test, dynamically binarised (rows as supplied)": (
        "77e71b48f2ea352be99513de0813e18fcda71797cd866bff050d95354c995049"
    ),
    "static MNIST train": "727146c35424b019f3e350e1e69faa05644a0abaf787e3f4e1a9632220a13906",
    "static MNIST valid": "a256ac44ae26be720fad8616a05ed6ecfd1619930d9a208379bb2a4405df5b6d",
    "static MNIST test": "9fcd8da6f0fdf09b2ba30fe63a0bb784042a0de82563172530229b983e294ff2",
    "UCI dna test, 1,186 rows": "54494c89824f6bfe37b37cf5f3056f88f0320e76d4434f780c63060f55910750",
    "UCI mushrooms test, 5,624 rows": "de4f74441a3f07d6acc13aaa572e67e6e101551d99bee7d668c340e5ce720256",
}


def known_name(digest: str) -> str | None:
    """The published name of the rows with this hash, or None."""
    return next((name for name, known in known_hashes.items() if known == digest), None)


def chunks(n: int, row_bytes: int, target: int = 4 << 20) -> list[slice]:
    """Slices over n rows, about `target` bytes each, in multiples of 8 rows, so that packed bits join."""
    step = max(8, target // max(1, row_bytes) // 8 * 8)
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def digest(x: Any, *, bits: bool) -> str:
    """SHA-256 of rows x [N, ...]: of `numpy.packbits(x != 0)` where `bits`, else of the array's bytes."""
    total = hashlib.sha256()
    row_bytes = x.dtype.itemsize * int(np.prod(x.shape[1:], dtype=np.int64))
    reader = Reader(x)
    for part in chunks(len(x), row_bytes):
        rows = reader[part]
        if bits:
            total.update(np.packbits(rows != 0, axis=None).tobytes())
        else:
            total.update(np.ascontiguousarray(rows).data)
    return total.hexdigest()
