"""Rows by index, in one gather, on the device; the way from stored bytes to model units happens there too."""

from __future__ import annotations

import os
import warnings

import numpy as np
import torch
from torch import Tensor, nn

from vaekit.data.contract import Contract
from vaekit.data.splits import Split
from vaekit.data.stored import Reader, Rows
from vaekit.data.windows import Ahead, Windows
from vaekit.errors import VaekitError


def permutation(n: int, seed: int, epoch: int) -> np.ndarray:
    """The order of n rows in an epoch, int64 [n], from seed and epoch alone: a resume needs no state."""
    return np.random.default_rng([seed, epoch]).permutation(n)


class Preparation(nn.Module):
    """Stored rows [B, *shape] -> model units, float32; with `binarize="dynamic"` fresh bits at each call.

    Bits come from torch's generator of the device. Frozen rows hold 0 and divisor, hence 0 and 1 in model
    units, and no uniform draw in [0, 1) changes them.
    """

    offset: Tensor
    divisor: Tensor

    def __init__(self, contract: Contract) -> None:
        super().__init__()
        self.dynamic = contract.binarize == "dynamic"
        tail = (1,) * (len(contract.shape) - 1)
        for name, values in (("offset", contract.offset), ("divisor", contract.divisor)):
            tensor = torch.tensor(values, dtype=torch.float32).reshape(-1, *tail)
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, raw: Tensor) -> Tensor:
        x = (raw.to(torch.float32) - self.offset) / self.divisor
        return (torch.rand_like(x) < x).to(torch.float32) if self.dynamic else x


def free_bytes(device: torch.device) -> int:
    """Bytes free on the device, as far as it tells."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            fields = dict(line.split(":", 1) for line in lines)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, OSError, ValueError):
        return 2 << 30


class Batches:
    """`get(index)` -> (rows as stored on the device [B, *shape], one-hot labels [B, n_labels] or None).

    Rows live on the device where they take at most `resident_bytes` (a quarter of what is free by default);
    otherwise they are gathered from memory or the memory map, and sent from pinned memory without a wait.
    Of a memory map that is larger than what is held, `follow` reads ahead, and `close` ends that.
    With `mirror` half of the images, drawn by torch's generator of the device, come from right to left.
    """

    def __init__(
        self,
        split: Split,
        contract: Contract,
        device: str | torch.device,
        *,
        condition: bool,
        mirror: bool = False,
        resident_bytes: int | None = None,
    ) -> None:
        self.device, self.mirror = torch.device(device), mirror
        rows, cpu = split.x, self.device.type == "cpu"
        self._n, self._pin = len(rows), self.device.type == "cuda"
        self._windows = Windows.of(rows)
        self._reader: Reader | None = None
        self._ahead: Ahead | None = None
        self._index = torch.from_numpy(rows.index) if isinstance(rows, Rows) else None
        base: np.ndarray = rows.base if isinstance(rows, Rows) else np.asanyarray(rows)
        budget = free_bytes(self.device) // 4 if resident_bytes is None else resident_bytes
        fits = rows.nbytes <= budget
        if fits and not cpu:
            stored = torch.from_numpy(np.ascontiguousarray(split.rows(slice(None)))).to(self.device)
            self._index = None
        elif self._windows is not None:
            self._reader, stored = Reader(rows), torch.empty(0)
        elif fits and not base.flags.c_contiguous and self._index is None:
            stored = torch.from_numpy(np.ascontiguousarray(base))
        else:
            stored = _tensor(base)
        self._rows = stored
        self._label: Tensor | None = None
        if condition:
            if split.label is None or not contract.labels:
                raise VaekitError(
                    f"{contract.source} has no labels to condition on; leave model.condition at none"
                )
            if (split.label < 0).any():
                raise VaekitError(
                    f"some {split.name} rows carry a label that {contract.source} was not trained with"
                )
            self._label = torch.from_numpy(np.ascontiguousarray(split.label)).to(self.device)
            self._one_hot = torch.eye(len(contract.labels), device=self.device)

    def __len__(self) -> int:
        return self._n

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """The order of the rows in an epoch, int64 [N], a function of seed and epoch: all shuffled among each other, or
        in windows where a memory map is larger than what is held."""
        if self._windows is None:
            return permutation(self._n, seed, epoch)
        return self._windows.order(self._n, seed, epoch)

    def follow(self, rows: np.ndarray) -> None:
        """Announce the rows int64 that `get` will be asked for, in order: they are read ahead of time where that helps.
        Rows out of turn are read when asked for, so nothing but time depends on it."""
        self.close()
        if self._reader is not None and self._windows is not None and len(rows):
            self._ahead = Ahead(self._reader, rows, self._windows.window, pin=self._pin)

    def close(self) -> None:
        """End reading ahead, if there is any; `get` still works."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def get(self, index: np.ndarray | Tensor) -> tuple[Tensor, Tensor | None]:
        """Rows at `index` int64 [B]. No wait for the device, and no Python for each row."""
        at = torch.from_numpy(index) if isinstance(index, np.ndarray) else index
        raw = self._stored(at)
        if self.mirror:
            turned = torch.rand(len(raw), 1, 1, 1, device=raw.device) < 0.5
            raw = torch.where(turned, raw.flip(-1), raw)
        return raw, self._condition(at)

    def _stored(self, at: Tensor) -> Tensor:
        if self._reader is not None:
            rows = at.cpu().numpy()
            ahead = None if self._ahead is None else self._ahead.next(rows)
            return self._send(self._reader.rows(rows) if ahead is None else ahead)
        if self._index is None and self._rows.device.type == self.device.type:
            return self._rows.index_select(0, self._send(at))
        at = at.cpu()
        return self._send(self._rows.index_select(0, at if self._index is None else self._index[at]))

    def _condition(self, at: Tensor) -> Tensor | None:
        if self._label is None:
            return None
        return self._one_hot.index_select(0, self._label.index_select(0, self._send(at)))

    def _send(self, tensor: Tensor) -> Tensor:
        if tensor.device.type == self.device.type:
            return tensor
        if self._pin and not tensor.is_pinned():
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)


def _tensor(array: np.ndarray) -> Tensor:
    """The array's own memory as a tensor, a memory map included; nothing here writes to it."""
    if min(array.strides, default=0) < 0:
        array = array.copy()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writ")
        return torch.from_numpy(array)
