"""One pass over a split: each chunk of images is encoded once, and its draws stream through the decoder."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from vaekit.data import Batches, Preparation
from vaekit.distributions import Distribution, kl
from vaekit.errors import VaekitError
from vaekit.measures import ImportanceWeights, Moments, double, mutual_information
from vaekit.model import VAE

if TYPE_CHECKING:
    from vaekit.data import Contract, Split

CACHE, MEMORY = 8 << 20, 512 << 20  # bytes of the widest layer: a quarter of an L3 cache; a little of a GPU
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
    compile: bool,
    progress: bool,
) -> Readings:
    """The pass, over rows whose evaluation bits are drawn. The caller has set eval mode, device and seed."""
    stochastic = bool(getattr(model.posterior, "has_density", True))
    weighted = stochastic and gives_density(model, contract)
    wanted = ImportanceWeights(k).k
    K = max(wanted[-1], draws or 1) if weighted else (draws or 10) if stochastic else 1
    batches = Batches(split, contract, device, condition=condition)
    preparation = Preparation(contract).to(device)

    def rows(index: np.ndarray) -> tuple[Tensor, Tensor | None]:
        raw, c = batches.get(index)
        return preparation(raw), c

    images, pieces = plan(model, rows, len(split), K, memory)
    fused = torch.compile(weigh, dynamic=False) if compile else weigh
    columns, means, rates = Columns(), Moments(), Moments()
    unit = "images" if contract.is_image else "rows"
    with progress_bar(len(split), progress, unit) as advance:
        for start in range(0, len(split), images):
            x, c = rows(np.arange(start, min(start + images, len(split))))
            q, p_z = model.posterior(x, c), model.prior(c)
            elements = kl(q, p_z)  # [B, D] or None
            weights = ImportanceWeights(wanted)
            log_px_sum = gap_sum = torch.zeros((), dtype=torch.float64)
            alike = (
                weigh(model, x, c, q, p_z, 1) if not model.latent else None
            )  # no dimensions, no other draw
            for done in range(0, K, pieces):
                count = min(pieces, K - done)
                # whole pieces share one graph; the odd last ones are not worth compiling for
                step = fused if count == pieces and len(x) == images else weigh
                log_px, gap = (
                    _repeated(alike, count) if alike else step(model, x, c, q, p_z, count)
                )  # [S, B] each
                log_px_sum = log_px_sum + double(log_px).sum(0)
                if gap is not None:
                    gap_sum = gap_sum + double(gap).sum(0)
                    if weighted:
                        weights.add(log_px - gap)
            rate = double(elements).sum(-1) if elements is not None else gap_sum / K if stochastic else None
            columns.add(distortion=-log_px_sum / K, rate=rate)
            if weighted:
                columns.add(bounds=weights.bounds, sizes=weights.effective_sample_sizes)
            means.add(q.mean)
            if elements is not None:
                rates.add(elements)
            advance(len(x))
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
    )


def gives_density(model: VAE, contract: Contract) -> bool:
    """Whether log p(x given z) is a log-density of this data, so that there is an NLL."""
    asked = getattr(model.likelihood, "gives_density", None)
    return bool(asked(contract.kind)) if asked else True


def weigh(
    model: VAE, x: Tensor, c: Tensor | None, q: Distribution, p_z: Distribution, draws: int
) -> tuple[Tensor, Tensor | None]:
    """log p(x given z) and log q(z given x) - log p(z) of fresh draws [S, B]; the difference is log w.

    The prior comes in made: a VampPrior would otherwise encode its pseudo-inputs again for every piece.
    """
    z, log_qz = q.rsample_and_log_prob((draws,))  # [S, B, D], [S, B]
    log_px = model.likelihood(z, c).log_prob(x)
    return log_px, None if log_qz is None else log_qz - p_z.log_prob(z)


def _repeated(one: tuple[Tensor, Tensor | None], count: int) -> tuple[Tensor, Tensor | None]:
    """A draw [1, B] as `count` of them."""
    log_px, gap = one
    return log_px.expand(count, -1), None if gap is None else gap.expand(count, -1)


def plan(model: VAE, rows: Rows, n: int, draws: int, memory: int | None) -> tuple[int, int]:
    """Images a chunk and draws a piece, so that the widest layer's output takes about `memory` bytes.

    Found by sending one image through with a hook on every layer: counting parameters misjudges convolutions.
    """
    x, c = rows(np.arange(1))
    widest = x.numel()

    def look(module: nn.Module, inputs: object, output: object) -> None:
        nonlocal widest
        if isinstance(output, Tensor):
            widest = max(widest, output.numel())

    hooks = [m.register_forward_hook(look) for m in model.modules() if not list(m.children())]
    try:
        z = model.posterior(x, c).mean
        widest = x.numel()  # the encoder runs once an image; the decoder is what the draws go through
        model.likelihood(z, c)
    finally:
        for hook in hooks:
            hook.remove()
    together = max(1, (memory or (CACHE if x.device.type == "cpu" else MEMORY)) // (4 * widest))
    pieces = min(draws, max(1, together // 64))
    return min(n, max(1, together // pieces)), pieces


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
