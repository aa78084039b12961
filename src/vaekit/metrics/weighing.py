"""The costly part of a pass: thousands of draws an image go through the decoder, a block at a time, a block a core."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from vaekit.distributions import Bernoulli, Distribution
from vaekit.model import VAE

Precision = Literal["fp32", "bf16"]
# Bytes of the widest layer. On a core 1.5 MiB: smaller ones pay for the calls, and memory in pieces of 4 MiB goes back to
# the system after each use, so that page faults cost as much as the arithmetic.
CACHE, MEMORY = 3 << 19, 513 << 19
FOLDS = 6  # of a product: 64 factors in [0.5, 1] stay above 2^-64
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Weigher:
    """log p(x given z, c) of many draws; `rows`: how many codes it decodes at a time."""

    model: VAE
    rows: int
    precision: Precision

    @classmethod
    def of(cls, model: VAE, x: Tensor, c: Tensor | None, memory: int | None, precision: Precision) -> Weigher:
        """`memory` bytes for the widest layer's output, learned from one row x [1, ...]."""
        memory = memory or (CACHE if x.device.type == "cpu" else MEMORY)
        return cls(model, max(1, memory // (4 * widest(model, x, c))), precision)

    @torch.no_grad()  # of each thread its own
    def weigh(self, z: Tensor, x: Tensor, c: Tensor | None) -> Tensor:
        """z [S, B, D], x [B, ...], c [B, n] or None -> log p(x given z) [S, B], nats."""
        with torch.autocast(z.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            images = min(z.shape[1], self.rows)
            draws = max(1, self.rows // images)
            columns = [
                torch.cat(
                    [self._slice(part, x[at], None if c is None else c[at]) for part in z[:, at].split(draws)]
                )
                for at in (slice(start, start + images) for start in range(0, z.shape[1], images))
            ]
        return columns[0] if len(columns) == 1 else torch.cat(columns, 1)

    def _slice(self, z: Tensor, x: Tensor, c: Tensor | None) -> Tensor:
        return log_density(self.model.likelihood(z, c), x)


def widest(model: VAE, x: Tensor, c: Tensor | None) -> int:
    """Numbers an image in the widest layer behind the code; seen from outside, which counts convolutions rightly."""
    most = x[0].numel()

    def look(module: nn.Module, inputs: object, output: object) -> None:
        nonlocal most
        if isinstance(output, Tensor):
            most = max(most, output.numel())

    z = model.posterior(x, c).mean
    layers = [module for module in model.likelihood.modules() if not list(module.children())]
    hooks = [layer.register_forward_hook(look) for layer in layers]
    try:
        model.likelihood(z, c)
    finally:
        for hook in hooks:
            hook.remove()
    return most


def log_density(law: Distribution, x: Tensor) -> Tensor:
    """`law.log_prob(x)` without gradient, where bits take one logarithm for up to 64 of them: half the time.

    log(1 + e^l) = max(l, 0) - log sigmoid(|l|), and a sum of logarithms is the logarithm of a product.
    """
    if type(law) is not Bernoulli:
        return law.log_prob(x)
    logits = law.logits.flatten(-law.event_dims)  # [S, B, F]
    above = logits.clamp_min(0).addcmul_(x.flatten(-law.event_dims), logits, value=-1).sum(-1)
    return _sum_of_logs(logits.abs().sigmoid_()) - above


def _sum_of_logs(factors: Tensor) -> Tensor:
    """sum log factors [..., F] -> [...], for factors in [0.5, 1]; overwrites them."""
    width = factors.shape[-1]
    for _ in range(FOLDS):
        if width < 32:
            break
        half = width // 2
        factors[..., :half].mul_(factors[..., width - half : width])
        width -= half
    return factors[..., :width].log_().sum(-1)


@contextlib.contextmanager
def ahead(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Iterator[tuple[Item, Result]]]:
    """(item, function(item)) in the order of the items, which this thread makes while `workers` others work.

    Each works with one thread of torch: a block a core has no barriers. At most 2 `workers` blocks wait.
    """
    if workers < 2:
        yield ((item, function(item)) for item in items)
        return
    threads, pool = torch.get_num_threads(), ThreadPoolExecutor(workers)
    torch.set_num_threads(1)  # which new threads take over
    try:
        yield _in_order(pool, function, items, 2 * workers)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def _in_order(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], waiting: int
) -> Iterator[tuple[Item, Result]]:
    pending: deque[tuple[Item, Future[Result]]] = deque()
    for item in items:
        pending.append((item, pool.submit(function, item)))
        if len(pending) > waiting:
            first, future = pending.popleft()
            yield first, future.result()
    while pending:
        first, future = pending.popleft()
        yield first, future.result()
