"""One pass over a split: each chunk of images is encoded once, and its draws stream through the decoder."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vaekit.data import Batches, Preparation
from vaekit.devices import cores
from vaekit.distributions import Distribution, kl
from vaekit.errors import VaekitError
from vaekit.measures import ImportanceWeights, Moments, double, mutual_information
from vaekit.metrics.weighing import Precision, Weigher, ahead
from vaekit.model import VAE

if TYPE_CHECKING:
    from vaekit.data import Contract, Split

CODES, MOST_CODES = 1 << 14, 1 << 17  # drawn together on a CPU, elsewhere
IMAGES, ELEMENTS = 256, 1 << 22  # encoded together: so many, and no more than so many numbers
INFORMATION_ROWS = 1000  # mutual information costs N^2; log 1000 is 6.9 nats
Rows = Callable[
    [np.ndarray], tuple[Tensor, Tensor | None]
]  # index -> x [B, ...] in model units, c [B, n] or None


@dataclass
class Readings:
    """What the pass leaves, image by image (float64, nats); None where the model has no such number."""

    k: list[int]
    draws: int
    distortion: np.ndarray  # [N]
    rate: np.ndarray | None  # [N]
    bounds: np.ndarray | None  # [len(k), N], L_k
    effective_sample_size: np.ndarray | None  # [len(k), N]
    kl_per_dimension: np.ndarray | None  # [D]
    variance_of_means: np.ndarray  # [D]
    information: float | None
    information_rows: int
    precision: Precision  # of the decoder

    @property
    def elbo(self) -> np.ndarray | None:
        """-(rate + distortion) [N]."""
        return None if self.rate is None else -(self.rate + self.distortion)


@dataclass
class Columns:
    """Numbers per image, gathered chunk by chunk along the last axis."""

    parts: dict[str, list[Tensor]] = field(default_factory=dict)

    def add(self, **values: Tensor | None) -> None:
        for name, value in values.items():
            if value is not None:
                self.parts.setdefault(name, []).append(value.cpu())

    def get(self, name: str) -> np.ndarray | None:
        return torch.cat(self.parts[name], -1).numpy() if name in self.parts else None


@dataclass
class Chunk:
    """Some images, encoded once, and what their draws have told so far."""

    x: Tensor  # [B, ...]
    c: Tensor | None  # [B, n]
    q: Distribution
    p_z: Distribution  # made once: a VampPrior would otherwise encode its pseudo-inputs again for every block
    weights: ImportanceWeights | None
    # sums over draws [B]
    log_px: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    gap: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    draws: int = 0

    def add(self, log_px: Tensor, gap: Tensor | None) -> None:
        """Take in draws: log p(x given z) and log q(z given x) - log p(z) [S, B]; the difference is log w."""
        self.draws += len(log_px)
        self.log_px = self.log_px + double(log_px).sum(0)
        if gap is not None:
            self.gap = self.gap + double(gap).sum(0)
            if self.weights is not None:
                self.weights.add(log_px - gap)


@dataclass
class Block:
    """Draws of a chunk, z [S, B, D] with log q(z given x) [S, B], and how often each counts."""

    chunk: Chunk
    z: Tensor
    log_qz: Tensor | None
    times: int = 1


def read(
    model: VAE,
    split: Split,
    contract: Contract,
    *,
    k: Sequence[int],
    draws: int | None,
    condition: bool,
    device: torch.device,
    memory: int | None,
    precision: Precision,
    progress: bool,
) -> Readings:
    """The pass, over rows whose evaluation bits are drawn. The caller has set eval mode, device and seed."""
    stochastic = bool(getattr(model.posterior, "has_density", True))
    weighted = stochastic and gives_density(model, contract)
    wanted = ImportanceWeights(k).k
    K = max(wanted[-1], draws or 1) if weighted else (draws or 10) if stochastic else 1
    rows = rows_of(split, contract, device, condition)
    first, c = rows(np.arange(1))
    weigher = Weigher.of(model, first, c, memory, precision)
    images, pieces = sizes(len(split), K, first, model.latent)

    def blocks() -> Iterator[Block]:
        for start in range(0, len(split), images):
            x, c = rows(np.arange(start, min(start + images, len(split))))
            weights = ImportanceWeights(wanted) if weighted else None
            chunk = Chunk(x, c, model.posterior(x, c), model.prior(c), weights)
            if not model.latent:  # no dimensions, no other draw
                yield Block(chunk, *chunk.q.rsample_and_log_prob((1,)), times=K)
                continue
            for done in range(0, K, pieces):
                yield Block(chunk, *chunk.q.rsample_and_log_prob((min(pieces, K - done),)))

    @torch.no_grad()
    def weighed(block: Block) -> tuple[Tensor, Tensor | None]:
        chunk = block.chunk
        log_px = weigher.weigh(block.z, chunk.x, chunk.c)
        gap = None if block.log_qz is None else block.log_qz - chunk.p_z.log_prob(block.z)
        if block.times == 1:
            return log_px, gap
        return log_px.expand(block.times, -1), None if gap is None else gap.expand(block.times, -1)

    columns, means, rates = Columns(), Moments(), Moments()
    unit = "images" if contract.is_image else "rows"
    workers = min(torch.get_num_threads(), cores()) if device.type == "cpu" else 1
    with (
        progress_bar(len(split), progress, unit) as advance,
        ahead(weighed, blocks(), workers) as results,
    ):
        for block, (log_px, gap) in results:
            chunk = block.chunk
            chunk.add(log_px, gap)
            if chunk.draws < K:
                continue
            elements = kl(chunk.q, chunk.p_z)  # [B, D] or None
            rate = double(elements).sum(-1) if elements is not None else chunk.gap / K if stochastic else None
            columns.add(distortion=-chunk.log_px / K, rate=rate)
            if chunk.weights is not None:
                columns.add(bounds=chunk.weights.bounds, sizes=chunk.weights.effective_sample_sizes)
            means.add(chunk.q.mean)
            if elements is not None:
                rates.add(elements)
            advance(len(chunk.x))
    count = min(len(split), INFORMATION_ROWS, max(2, (1 << 22) // int(np.prod(contract.shape))))
    distortion = columns.get("distortion")
    assert distortion is not None
    return Readings(
        k=wanted,
        draws=K,
        distortion=distortion,
        rate=columns.get("rate"),
        bounds=columns.get("bounds"),
        effective_sample_size=columns.get("sizes"),
        kl_per_dimension=rates.mean.cpu().numpy() if rates.count else None,
        variance_of_means=means.variance.cpu().numpy(),
        information=information(model, rows, count, len(split)) if stochastic else None,
        information_rows=count,
        precision=precision,
    )


def rows_of(split: Split, contract: Contract, device: torch.device, condition: bool) -> Rows:
    """Rows by index, as a model sees them."""
    batches = Batches(split, contract, device, condition=condition)
    preparation = Preparation(contract).to(device)

    def rows(index: np.ndarray) -> tuple[Tensor, Tensor | None]:
        raw, c = batches.get(index)
        return preparation(raw), c

    return rows


def gives_density(model: VAE, contract: Contract) -> bool:
    """Whether log p(x given z) is a log-density of this data, so that there is an NLL."""
    asked = getattr(model.likelihood, "gives_density", None)
    return bool(asked(contract.kind)) if asked else True


def sizes(n: int, draws: int, row: Tensor, latent: int) -> tuple[int, int]:
    """Images a chunk and draws a block.

    They decide which numbers of the generator's stream are whose, so they follow from the job alone: neither memory
    nor the number of cores changes a draw.
    """
    together = CODES if row.device.type == "cpu" else MOST_CODES  # a GPU wants few and large blocks
    together = max(1, min(together, ELEMENTS // max(1, latent)))
    pieces = min(draws, max(1, int(together**0.5)))
    return max(1, min(n, together // pieces, IMAGES, ELEMENTS // row.numel())), pieces


def information(model: VAE, rows: Rows, n: int, among: int) -> float | None:
    """Mutual information of row and code over n rows drawn among so many (they may stand by class), nats; None
    where q cannot weigh another row's code."""
    x, c = rows(np.sort(np.random.default_rng(0).permutation(among)[:n]))
    q = model.posterior(x, c)
    z, log_qz = q.rsample_and_log_prob(())
    assert log_qz is not None
    try:
        return float(mutual_information(q, z, log_qz))
    except NotImplementedError:
        return None


@contextlib.contextmanager
def prepared(model: VAE, device: torch.device, seed: int) -> Iterator[None]:
    """Eval mode, device, no gradient and a seed for the time of a pass; everything as before afterwards."""
    home, training = next(model.parameters()).device, [(m, m.training) for m in model.modules()]
    devices = [device.index or 0] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices), torch.no_grad():
            torch.manual_seed(seed)
            model.to(device).eval()
            yield
    finally:
        model.to(home)
        for module, mode in training:
            module.training = mode


@contextlib.contextmanager
def progress_bar(
    total: int, shown: bool, unit: str = "images", what: str = "evaluate"
) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal's stderr with images a second and the time that remains; `shown=False` is silent."""
    if not (shown and sys.stderr.isatty()):
        yield lambda n: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(), console=Console(stderr=True), transient=True,
    ) as bar:  # fmt: skip
        task = bar.add_task(what, total=total, rate="")

        def advance(n: int) -> None:
            bar.advance(task, n)
            speed = bar.tasks[task].speed
            bar.update(task, rate=f"{speed:,.0f} {unit}/s" if speed else "")

        yield advance


def checked(seen: Readings) -> None:
    """VaekitError where a number that exists is NaN: broken weights must not become a table entry."""
    for name, values in (("distortion", seen.distortion), ("rate", seen.rate)):
        broken = np.isnan(values) if values is not None else np.zeros(1, bool)
        if broken.any():
            raise VaekitError(
                f"the {name} is NaN for {int(broken.sum())} of {broken.size} rows, the first of them row "
                f"{int(broken.argmax())}; the weights are broken, so load an earlier checkpoint"
            )
