"""What a report needs of a model, read once: codes, draws and scores of held-out rows, and their evaluation."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from vaekit.data import Contract, Split
from vaekit.errors import VaekitError
from vaekit.model import VAE
from vaekit.report.words import Words
from vaekit.run import Run, inputs

# Work that a page may cost: some ten seconds of one core at 20 GFLOP/s. Rows are left out beyond it.
LOOK, JUDGE = 1e11, 3e11
FEWEST, MOST = 300, 10_000
WIDE = 1000  # held-out rows: a cloud of fewer shows little
DRAWS = (1, 10)  # k of an evaluation made for the page


@dataclass(frozen=True)
class Reading:
    """What one pass over rows of a split left. `number` [N] are their numbers in the split; `mean`, `drawn`, `prior`
    [N, D] mean codes, draws of the posterior and as many of the prior; `score` [N] is -log p(x given the mean code),
    nats."""

    rows: Split
    number: np.ndarray
    mean: np.ndarray
    drawn: np.ndarray
    prior: np.ndarray
    score: np.ndarray

    def some(self, index: Any) -> Split:
        """A few of the rows."""
        return inputs.subset(self.rows, np.asarray(index))


@dataclass
class Gathered:
    """A run as the sections of a report see it.

    `held` are held-out rows; `wide` the rows that stand for the latent space as a whole, the same unless they are too
    few to show it: then rows of training. Both are None where the data have gone, which `trouble` says; `unjudged` says
    why there is no evaluation of data that are there.
    """

    run: Run
    words: Words
    seed: int
    history: list[dict[str, Any]]
    evaluation: dict[str, Any] | None = None
    trouble: str = ""
    unjudged: str = ""
    held: Reading | None = None
    wide: Reading | None = None

    @property
    def model(self) -> VAE:
        return self.run.model

    @property
    def contract(self) -> Contract:
        return self.run.contract

    @property
    def has_density(self) -> bool:
        """Whether the posterior is a law that a prior can be held against; a plain autoencoder's is not."""
        return bool(getattr(self.model.posterior, "has_density", True))

    @property
    def answers(self) -> bool:
        """Whether codes can be held against the prior: it shaped them, or was fitted to them."""
        return self.has_density or self.run.fitted

    @property
    def kind(self) -> str:
        """The ending of texts that differ between kinds of model: "" for a VAE, _point for a plain autoencoder, _none
        without a latent."""
        return "_none" if not self.model.latent else "" if self.has_density else "_point"

    @property
    def unit(self) -> str:
        """What one example is called."""
        return self.words("unit.image" if self.contract.is_image else "unit.row")

    def split(self, reading: Reading) -> str:
        """The name of a reading's split in the page's language."""
        return self.words(f"split.{reading.rows.name}")

    def label_of(self, reading: Reading, index: int) -> str:
        """The name of a row's label; "" where it has none."""
        label = reading.rows.label
        return "" if label is None or label[index] < 0 else str(self.contract.labels[label[index]])

    def tip(self, reading: Reading, index: int) -> str:
        """What is said of a row that one points at."""
        told = self.words("tip.row", split=self.split(reading), number=int(reading.number[index]))
        label = self.label_of(reading, index)
        return f"{label} · {told}" if label else told


def gather(run: Run, words: Words, seed: int, say: Callable[[str], None], progress: bool) -> Gathered:
    """Read everything. Data that have gone leave a page with what the model and the folder tell."""
    found = Gathered(run, words, seed, run.metrics() if run.folder is not None else [])
    say("codes")
    try:
        splits = run.data().splits
    except VaekitError as error:
        found.trouble = str(error)
        found.evaluation = kept_evaluation(run)
        return found
    name = next(name for name in ("test", "valid", "train", "all") if name in splits)
    look, judge = costs(run, run.rows(inputs.subset(splits[name], np.arange(1))))
    most = int(np.clip(LOOK / max(look, 1), FEWEST, MOST))
    found.held = found.wide = read(run, splits[name], most, seed)
    if len(splits[name]) < WIDE and len(splits.get("train", ())) > len(splits[name]):
        found.wide = read(run, splits["train"], most, seed)
    say("evaluation")
    found.evaluation = kept_evaluation(run)
    if found.evaluation is None:
        try:
            found.evaluation = evaluated(run, name, len(splits[name]), judge, progress)
        except VaekitError as error:
            found.unjudged = str(error)
    return found


def read(run: Run, split: Split, most: int, seed: int) -> Reading:
    """One pass over at most so many rows, those that the seed draws."""
    number = np.sort(np.random.default_rng(seed).permutation(len(split))[:most])
    rows = inputs.subset(run.rows(split), number)
    parts: list[tuple[torch.Tensor, ...]] = []
    with run.looking(seed):
        for x, c in run.batches(rows):
            q = run.model.encode(x, c)
            log_px = run.model.decode(q.mean, c).log_prob(x)
            parts.append((q.mean, q.sample(), run.model.draw(len(x), c), -log_px))
    return Reading(
        rows, number, *(torch.cat(part).float().cpu().numpy() for part in zip(*parts, strict=True))
    )


def costs(run: Run, rows: Split) -> tuple[float, float]:
    """Floating-point operations of one row: to look at it once, and to judge it with `DRAWS`."""
    model = run.model
    with run.looking(0):
        x, c = next(run.batches(rows))
        with FlopCounterMode(display=False) as there:
            z = model.encode(x, c).mean
        with FlopCounterMode(display=False) as back:
            model.decode(z, c).log_prob(x)
    once, again = there.get_total_flops(), back.get_total_flops()
    return once + again, once + max(DRAWS) * again


def kept_evaluation(run: Run) -> dict[str, Any] | None:
    """evaluation.json of the run, unless the weights are newer."""
    return kept_reading(run, "evaluation.json", {"distortion", "latent", "images"})


def kept_reading(run: Run, file: str, keys: Collection[str] = ()) -> dict[str, Any] | None:
    """A reading that is kept in the run and has these keys, unless the weights are newer."""
    if run.folder is None:
        return None
    path = run.folder.path / file
    try:
        if path.stat().st_mtime < run.folder.weights.stat().st_mtime:
            return None
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and set(keys) <= set(found) else None


def evaluated(run: Run, name: str, n: int, cost: float, progress: bool) -> dict[str, Any]:
    """An evaluation with few draws; the whole test split's stays in the run, where it has none. Raises VaekitError for
    a model that is broken."""
    most = int(max(JUDGE / max(cost, 1), FEWEST))
    stale = run.folder is not None and (run.folder.path / "evaluation.json").exists()
    limit = min(n, most) if most < n or stale else None  # with a limit nothing is written
    return run.evaluate(split=name, k=DRAWS, limit=limit, progress=progress)
