"""log p(x) by annealed importance sampling: how far below it the importance-weighted bound lies."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from vaekit.devices import cores
from vaekit.distributions import Distribution
from vaekit.errors import VaekitError, nearest
from vaekit.measures import ImportanceWeights, double
from vaekit.metrics.hamiltonian import SETTLING, Position, step_sizes, transition
from vaekit.metrics.reading import progress_bar
from vaekit.metrics.weighing import Weigher, ahead
from vaekit.model import VAE

PILOTS = 4  # chains that find the step sizes, and count for nothing else
SPREAD = 64  # draws that a scale is measured from: known to a tenth
SHARPNESS = 4.0  # of the sigmoidal schedule (Wu et al. 2017, sec. 4)
Rows = Callable[[np.ndarray], tuple[Tensor, Tensor | None]]


@dataclass(frozen=True)
class Annealing:
    """How log p(x) is annealed: `images` rows, drawn; `chains` a row, of `steps` temperatures from `start` to
    p(x, z), with one transition of `leapfrog` gradients at each. Bounds of simulated rows, a fifth as many (ten at
    least), tell how far the result may be off. Raises VaekitError for numbers below 1, and fewer than 2 steps.
    """

    images: int = 100
    steps: int = 250
    chains: int = 16
    start: Literal["posterior", "prior"] = "posterior"
    leapfrog: int = 2

    @classmethod
    def of(cls, given: int | Mapping[str, Any]) -> Annealing:
        """From a number of images, or from these fields by name. Raises VaekitError for another name."""
        if not isinstance(given, Mapping):
            return cls(images=given)
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                raise VaekitError(f"ais has no {name!r}{nearest(name, known)}")
        return cls(**given)

    def __post_init__(self) -> None:
        for name, least in (("images", 1), ("steps", 2), ("chains", 1), ("leapfrog", 1)):
            if getattr(self, name) < least:
                raise VaekitError(f"ais: {name} is {getattr(self, name)}; give at least {least}")
        if self.start not in ("posterior", "prior"):
            raise VaekitError(f"ais: start is {self.start!r}; give 'posterior' or 'prior'")

    @property
    def simulated(self) -> int:
        """Rows drawn from the model itself."""
        return min(self.images, max(10, self.images // 5))

    @property
    def betas(self) -> list[float]:
        """The path's temperatures from 0 to 1 [T + 1], close together at both ends (Wu et al. 2017, sec. 4)."""
        at = np.linspace(-SHARPNESS, SHARPNESS, self.steps + 1)
        rise = 1 / (1 + np.exp(-at))
        return ((rise - rise[0]) / (rise[-1] - rise[0])).tolist()


@dataclass(frozen=True)
class Annealed:
    """What was found, in nats, float64: stochastic lower bounds on log p(x) of the rows `index` [n], the effective
    sample size of each row's chains, the mean acceptance; and of m simulated rows bounds from both sides [m]."""

    index: np.ndarray
    bounds: np.ndarray
    effective_sample_size: np.ndarray
    acceptance: float
    lower: np.ndarray
    upper: np.ndarray

    def summary(self, setting: Annealing, k: int, nll: np.ndarray | None) -> dict[str, Any]:
        """The JSON object, NLL in nats; beside it the bound at `k` of the same rows, `nll` [n], in the same precision."""
        result: dict[str, Any] = {
            "images": len(self.index), "precision": "fp32", "nll": _mean(-self.bounds), "start": setting.start,
            "steps": setting.steps, "chains": setting.chains, "leapfrog": setting.leapfrog,
            "acceptance": self.acceptance,
            "effective_sample_size": {
                "median": float(np.median(self.effective_sample_size)),
                "lowest": float(self.effective_sample_size.min()),
            },
            "simulated": {
                "images": len(self.lower), "nll_at_most": -float(self.lower.mean()),
                "nll_at_least": -float(self.upper.mean()), "gap": _mean(self.upper - self.lower),
            },
        }  # fmt: skip
        if nll is not None:
            result |= {"bound": {"k": k, **_mean(nll)}, "gap": _mean(nll + self.bounds)}
        return result


def _mean(values: np.ndarray) -> dict[str, float | None]:
    """The mean over rows with its standard error, None for one row."""
    error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
    return {"value": float(values.mean()), "standard_error": error}


@dataclass
class _Way:
    """From the law that z starts with to p(x, z), for rows x [B, ...]."""

    model: VAE
    x: Tensor
    c: Tensor | None
    law: Distribution
    p_z: Distribution

    def start(self, z: Tensor) -> Tensor:
        return self.law.log_prob(z)

    def end(self, z: Tensor) -> Tensor:
        return self.model.likelihood(z, self.c).log_prob(self.x) + self.p_z.log_prob(z)

    def draw(self, chains: int) -> Tensor:
        """z [C, B, D]."""
        rows = () if self.law.batch_shape else (len(self.x),)
        return self.law.sample((chains, *rows))


@dataclass
class _Job:
    """Some rows on their way. `truth` [B, D] are the codes of simulated ones."""

    way: _Way
    chains: Tensor
    pilots: Tensor
    scale: Tensor
    generator: torch.Generator
    truth: Tensor | None


def annealed(
    model: VAE, rows: Rows, n: int, setting: Annealing, *, seed: int = 0, memory: int | None = None,
    progress: bool = False,
) -> Annealed:  # fmt: skip
    """Anneal some of n rows (Neal 2001, https://arxiv.org/abs/physics/9803008, with HMC as in Wu et al. 2017,
    https://arxiv.org/abs/1611.04273), and as many from both sides as `setting` simulates (Grosse et al. 2015,
    https://arxiv.org/abs/1511.02543).

    For z_0 from the start and z_t by transitions that leave f_beta(t) invariant, the mean over chains of
    prod_t f_beta(t)(z_t-1) / f_beta(t-1)(z_t-1) has the expectation p(x), so its logarithm is a lower bound in
    expectation. Run backwards from an exact draw of p(z given x), which only simulated rows have, the reciprocal has
    the expectation 1 / p(x), and gives an upper bound. `rows`: index -> x [B, ...] in model units, c. The caller has set
    eval mode, device and the generator's seed; `seed` draws the rows, `memory` is as for `evaluate`. Parts run on as many
    cores as torch has threads. Raises VaekitError where there is no path to walk (`refuse`).
    """
    refuse(model, setting)
    order = np.random.default_rng(seed).permutation(n)[: setting.images]
    index, simulated = np.sort(order), np.sort(order[: setting.simulated])
    x, c = rows(index[:1])
    together = max(1, Weigher.of(model, x, c, memory, "fp32").rows // setting.chains)
    workers = min(torch.get_num_threads(), cores()) if x.device.type == "cpu" else 1
    stop = threading.Event()  # else Ctrl-C would wait for blocks of minutes

    def tick() -> None:
        if stop.is_set():
            raise _StoppedError
        advance(1)  # of any thread

    def jobs() -> Iterator[_Job]:
        for chosen, is_simulated in ((index, False), (simulated, True)):
            for start in range(0, len(chosen), together):
                yield _job(model, rows(chosen[start : start + together]), setting, is_simulated)

    found: dict[str, list[Tensor]] = {name: [] for name in ("bounds", "sizes", "rates", "lower", "upper")}
    with (
        progress_bar(_ticks(setting, len(index), together), progress, "steps", "anneal") as advance,
        frozen(model),
        ahead(lambda job: _walked(job, setting, tick), jobs(), workers) as results,
    ):
        try:
            for job, (forward, acceptance, backward) in results:
                weights = ImportanceWeights([setting.chains])
                weights.add(forward)
                if backward is None:
                    found["bounds"].append(weights.bounds[0])
                    found["sizes"].append(weights.effective_sample_sizes[0])
                    found["rates"].append(acceptance.expand(len(job.way.x)))
                else:
                    found["lower"].append(weights.bounds[0])
                    found["upper"].append(math.log(setting.chains) - torch.logsumexp(-backward, 0))
        except BaseException:
            stop.set()
            raise
    read = {name: torch.cat(parts).cpu().double().numpy() for name, parts in found.items()}
    return Annealed(
        index, read["bounds"], read["sizes"], float(read["rates"].mean()), read["lower"], read["upper"]
    )


def refuse(model: VAE, setting: Annealing) -> None:
    """Raise VaekitError where log p(x) cannot be annealed like this."""
    if not model.latent:
        raise VaekitError(
            "this model has a latent of no dimensions: its bound is log p(x) already; leave --ais out"
        )
    if setting.start == "posterior" and not getattr(model.posterior, "has_density", True):
        raise VaekitError(
            f"{type(model.posterior).__name__} has no density that annealing could start from; start from the prior "
            "(--ais-from prior), or refit the encoder (--refit-encoder)"
        )


def _ticks(setting: Annealing, images: int, together: int) -> int:
    """How many temperatures are walked through, over all parts: by pilots, forward, and back."""
    parts, simulated = math.ceil(images / together), math.ceil(min(images, setting.simulated) / together)
    return (parts + simulated) * (SETTLING + 2 * setting.steps - 1) + simulated * setting.steps


class _StoppedError(Exception):
    """Another part has failed, or Ctrl-C came."""


@contextlib.contextmanager
def frozen(model: VAE) -> Iterator[None]:
    """No gradient for the weights while it is entered: a backward pass then keeps half as much."""
    learned = [p for p in model.parameters() if p.requires_grad]
    try:
        for p in learned:
            p.requires_grad_(False)
        yield
    finally:
        for p in learned:
            p.requires_grad_(True)


def _job(model: VAE, rows: tuple[Tensor, Tensor | None], setting: Annealing, simulated: bool) -> _Job:
    """The rows with all that is drawn by the global generator, in their order."""
    x, c = rows
    x = x.to(next(model.parameters()).dtype)
    p_z, truth = model.prior(c), None
    if simulated:
        truth = p_z.sample(() if p_z.batch_shape else (len(x),))
        x = model.likelihood(truth, c).sample()
    way = _Way(model, x, c, model.posterior(x, c) if setting.start == "posterior" else p_z, p_z)
    scale = way.draw(SPREAD).std(0).clamp_min(1e-6)
    seed = int(torch.randint(2**62, ()))
    generator = torch.Generator(x.device).manual_seed(seed)
    return _Job(way, way.draw(setting.chains), way.draw(PILOTS), scale, generator, truth)


@torch.no_grad()  # of each thread its own
def _walked(job: _Job, setting: Annealing, tick: Callable[[], None]) -> tuple[Tensor, Tensor, Tensor | None]:
    """log-weights [C, B] from the start, the mean acceptance, and log-weights of the way back from the truth."""
    betas, way = setting.betas, job.way
    sizes = step_sizes(way, job.pilots, betas[1:-1], job.scale, setting.leapfrog, job.generator, tick)

    def walk(z: Tensor, order: range, first: bool) -> tuple[Tensor, Tensor]:
        here = Position.at(way, z)
        log_w = torch.zeros_like(double(here.start))
        accepted = log_w.new_zeros(())
        for t in order:  # temperature t has the weight of the step from t - 1, and between them a transition
            if first:
                log_w = log_w + (betas[t] - betas[t - 1]) * double(here.end - here.start)
            if t < setting.steps:
                here, accept = transition(
                    way, here, betas[t], sizes[t - 1], job.scale, setting.leapfrog, job.generator
                )
                accepted = accepted + double(accept).mean()
            if not first:
                log_w = log_w + (betas[t] - betas[t - 1]) * double(here.end - here.start)
            tick()
        return log_w, accepted / (setting.steps - 1)

    forward, acceptance = walk(job.chains, range(1, setting.steps + 1), True)
    if job.truth is None:
        return forward, acceptance, None
    back, _ = walk(job.truth.expand_as(job.chains), range(setting.steps, 0, -1), False)
    return forward, acceptance, back
