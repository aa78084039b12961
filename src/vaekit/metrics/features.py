"""What an item shows, in 64 numbers: of a small classifier fitted to the training rows, or of their principal axes."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from vaekit.data import cache
from vaekit.errors import VaekitError
from vaekit.files import atomic
from vaekit.metrics.codes import Advance, Reader, chosen, subset
from vaekit.metrics.reading import progress_bar

if TYPE_CHECKING:
    from pathlib import Path

    from vaekit.data import Contract, Split

VERSION = 1  # of what is computed here: kept features of another are made again
WIDTH = 64  # features
SIDE = 32  # pixels: larger images are averaged down to it
STEPS, BATCH = 600, 128  # of the classifier's training
ROWS = 10_000  # training rows that are looked at, at most
ENOUGH = 10  # training rows a label, below which no classifier is fitted


class Features(nn.Module):
    """x [B, ...] in model units -> features [B, d] and class probabilities [B, labels] or None, on the CPU.

    Scaled so that over the training rows the mean variance of a feature is 1.
    """

    scale: Tensor
    kind = ""

    def __init__(self, contract: Contract) -> None:
        super().__init__()
        self.contract, self.name = contract, ""  # the name says of which data, and what version
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        features, logits = self.look(inputs(x, self.contract))
        return features / self.scale, None if logits is None else logits.softmax(-1)

    def look(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Inputs -> features as they are, and logits."""
        raise NotImplementedError

    def fit_scale(self, features: Tensor) -> None:
        self.scale.copy_(features.var(0).mean().clamp_min(1e-12).sqrt())


class Classifier(Features):
    """Two convolutions and a dense layer for images, two dense layers for vectors. Features are its last hidden layer."""

    kind = "classifier"

    def __init__(self, contract: Contract, shape: tuple[int, ...]) -> None:
        super().__init__(contract)
        if len(shape) == 3:
            stride = 2 if max(shape[1:]) > 16 else 1
            height, width = (math.ceil(math.ceil(side / stride) / 2) for side in shape[1:])
            first = [nn.Conv2d(shape[0], 16, 3, stride, 1), nn.SiLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.SiLU()]
            wide = 32 * height * width
        else:
            first, wide = [nn.Linear(shape[0], 2 * WIDTH), nn.SiLU()], 2 * WIDTH
        self.body = nn.Sequential(*first, nn.Flatten(), nn.Linear(wide, WIDTH), nn.SiLU())
        self.head = nn.Linear(WIDTH, len(contract.labels))

    def look(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        features = self.body(x)
        return features, self.head(features)

    def fit(self, reader: Reader, label: Tensor, advance: Advance) -> None:
        """600 steps of 128 rows, AdamW from 2e-3 down to 0, rows and bits drawn from torch's generator."""
        optimiser = torch.optim.AdamW(self.parameters(), 2e-3)
        schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.01, STEPS)
        for _ in range(STEPS):
            index = torch.randint(len(label), (BATCH,))
            x, _ = reader.get(index.numpy())
            loss = F.cross_entropy(self.look(inputs(x, self.contract))[1], label[index])  # type: ignore[arg-type]
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            advance(BATCH)


class PrincipalAxes(Features):
    """Coordinates along the principal axes of the training rows, at most 64."""

    centre: Tensor
    axes: Tensor
    kind = "principal axes"

    def __init__(self, contract: Contract, shape: tuple[int, ...], rows: int) -> None:
        super().__init__(contract)
        F = int(np.prod(shape))
        self.register_buffer("centre", torch.zeros(F))
        self.register_buffer("axes", torch.zeros(min(WIDTH, F, rows), F))

    def look(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        return (x.flatten(1) - self.centre) @ self.axes.T, None

    def fit(self, x: Tensor) -> None:
        from sklearn.decomposition import PCA

        found = PCA(len(self.axes), random_state=0).fit(x.flatten(1).numpy())
        self.centre.copy_(torch.from_numpy(found.mean_))
        self.axes.copy_(torch.from_numpy(found.components_))


def inputs(x: Tensor, contract: Contract) -> Tensor:
    """Model units -> what features are made of: images on the range of the data, averaged down to 32 pixels a side;
    categories one-hot; other columns as they are."""
    x = x.float().cpu()
    if contract.kind == "categories":
        number = (x * contract.levels).round().long().clamp(0, contract.levels)
        return F.one_hot(number, contract.levels + 1).float().flatten(1)
    if not contract.is_image:
        return x
    x = (x * contract.divisor[0] + contract.offset[0] - contract.low) / max(
        contract.high - contract.low, 1e-12
    )
    longest = max(x.shape[-2:])
    if longest <= SIDE:
        return x
    height, width = (max(1, round(side * SIDE / longest)) for side in x.shape[-2:])
    return F.adaptive_avg_pool2d(x, (height, width))


def features_of(train: Split, contract: Contract, progress: bool = False) -> Features:
    """The features of a data set: a classifier where there are labels, else principal axes. Their seed is their own, so
    that the same data give the same features to every run; kept for this process, and in the cache folder."""
    told = contract.hash or train.hash(contract)
    units = contract.kind, contract.binarize, contract.offset, contract.divisor
    name = cache.fingerprint(VERSION, told, len(train), units, contract.labels)
    if name not in _MADE:
        file = cache.root() / "features" / f"{name}.safetensors"
        with torch.random.fork_rng([]), torch.enable_grad():
            torch.manual_seed(0)
            found = _blank(train, contract)
            if not _read(found, file):
                _fit(found, train, contract, progress)
                _write(found, file)
        found.name = name
        _MADE[name] = found.eval().requires_grad_(False)
    return _MADE[name]


_MADE: dict[str, Features] = {}  # by name, once a process


def _blank(train: Split, contract: Contract) -> Features:
    """Features to be fitted, or read."""
    shape = tuple(inputs(torch.zeros(1, *contract.shape), contract).shape[1:])
    labelled = 0 if train.label is None else int((train.label >= 0).sum())
    if len(contract.labels) > 1 and labelled >= ENOUGH * len(contract.labels):
        return Classifier(contract, shape)
    return PrincipalAxes(contract, shape, min(len(train), ROWS))


def _fit(found: Features, train: Split, contract: Contract, progress: bool) -> None:
    known = np.arange(len(train))
    if isinstance(found, Classifier) and train.label is not None:
        known = np.flatnonzero(train.label >= 0)
    rows = subset(train, known[chosen(len(known), ROWS, 0)]).frozen(contract)
    reader = Reader(rows, contract, torch.device("cpu"), False)
    if isinstance(found, Classifier) and rows.label is not None:
        with progress_bar(STEPS * BATCH, progress, "rows", "features") as advance:
            found.fit(reader, torch.from_numpy(rows.label), advance)
    elif isinstance(found, PrincipalAxes):
        found.fit(torch.cat([inputs(x, contract) for x, _ in reader.chunks()]))
    with torch.no_grad():
        found.fit_scale(torch.cat([found(x)[0] for x, _ in reader.chunks()]))


def _read(found: Features, file: Path) -> bool:
    """Fill features from the cache. False where they are not there, or not whole."""
    try:
        found.load_state_dict(load_file(file))
    except (OSError, RuntimeError, SafetensorError):
        return False
    return True


def _write(found: Features, file: Path) -> None:
    """Keep features in the cache, where it can be written to."""
    with contextlib.suppress(VaekitError), atomic(file) as temporary:
        save_file(found.state_dict(), temporary)
