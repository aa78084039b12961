"""What runs are compared by: evaluation and latent readings of the same rows, kept in a run or made and kept there."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vaekit.report.gather import DRAWS, costs, kept_reading

if TYPE_CHECKING:
    from vaekit.data import Split
    from vaekit.run import Run

K = (1, 10, 100)  # draws of the bounds, as many of them as `WORK` allows
WORK = 4e12  # floating-point operations that judging a run may cost: some minutes of one core


@dataclass(frozen=True, eq=False)
class Judged:
    """A run under a name of its own, with all that is known of it. `elbo`, `nll` [N] are nats of each row, the latter at
    `k` draws, `squared_error` [M] of each of the rows `index`; None where the run has no such number."""

    name: str
    run: Run
    rows: Split
    evaluation: dict[str, Any]
    latents: dict[str, Any]
    k: int
    elbo: np.ndarray | None
    nll: np.ndarray | None
    squared_error: np.ndarray | None
    index: np.ndarray

    @property
    def latent(self) -> int:
        return self.run.model.latent

    @property
    def has_density(self) -> bool:
        """Whether its posterior is a law, and so the run has a rate and a bound."""
        return bool(getattr(self.run.model.posterior, "has_density", True))

    @property
    def law(self) -> str:
        """What its nats are: of a probability or a density of the data, or of some cross-entropy that is neither. Nats
        of one law compare."""
        from vaekit.metrics.reading import gives_density

        likelihood, contract = self.run.model.likelihood, self.run.contract
        if not gives_density(self.run.model, contract):
            return type(likelihood).__name__
        return (
            "density" if not contract.discrete or getattr(likelihood, "continuous", False) else "probability"
        )

    def nll_at(self, k: int) -> float | None:
        """NLL at k draws, nats a row."""
        return next((bound["value"] for bound in self.evaluation["nll"] or () if bound["k"] == k), None)


def judged(named: Sequence[tuple[str, Run]], seed: int, progress: bool) -> list[Judged]:
    """Every run with its readings, what is missing made now. Raises VaekitError where a run's data have gone."""
    splits = [held_out(run) for _, run in named]
    wanted = min(affordable(run, rows) for (_, run), rows in zip(named, splits, strict=True))
    found = []
    for (name, run), rows in zip(named, splits, strict=True):
        with _folder(run, rows) as (folder, kept):
            whole = kept_reading(run, "evaluation.json") if kept else None
            if (
                whole is None
                or not _serves(whole, run, rows, wanted)
                or not (folder / "per_image.npz").is_file()
            ):
                _say(name, "evaluate", progress)
                whole = _evaluated(run, rows, wanted, progress, folder)
            latents = kept_reading(run, "latents.json") if kept else None
            if latents is None or not _fresh(latents, whole, seed) or not (folder / "latents.npz").is_file():
                _say(name, "latents", progress)
                latents = _latents(run, rows, seed, progress, folder)
            found.append(_opened(name, run, rows, whole, latents, wanted, folder))
    return found


def held_out(run: Run) -> Split:
    """The rows that runs are judged on: the test split, else the validation split, else all there is."""
    splits = run.data().splits
    return run.rows(None, next(name for name in ("test", "valid", "train", "all") if name in splits))


def affordable(run: Run, rows: Split) -> int:
    """How many draws the rows can be judged with."""
    from vaekit.run.inputs import subset

    look, judge = costs(run, subset(rows, np.arange(1)))
    one = (judge - look) / (max(DRAWS) - 1)  # of decoding a draw
    return max(k for k in K if k == K[0] or k * one * len(rows) <= WORK)


@contextlib.contextmanager
def _folder(run: Run, rows: Split) -> Iterator[tuple[Path, bool]]:
    """Where readings are kept: the run's own folder for its test split, if it can be written to, else for now alone."""
    if run.folder is not None and rows.name == "test" and os.access(run.folder.path, os.W_OK):
        yield run.folder.path, True
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder), False


def _serves(evaluation: dict[str, Any], run: Run, rows: Split, k: int) -> bool:
    """Whether an evaluation is of these rows, with draws enough."""
    if evaluation.get("images") != len(rows) or evaluation.get("data_hash") != rows.hash(run.contract):
        return False
    bounds = evaluation.get("nll")
    return bounds is None or any(bound["k"] == k for bound in bounds)


def _fresh(latents: dict[str, Any], evaluation: dict[str, Any], seed: int) -> bool:
    """Whether latent readings are of a version that is read here, and of this seed and these data."""
    from vaekit.metrics.latents import READ

    wanted = {"seed": seed, "data_hash": evaluation["data_hash"]}
    return latents.get("schema") in READ and {name: latents.get(name) for name in wanted} == wanted


def _evaluated(run: Run, rows: Split, k: int, progress: bool, folder: Path) -> dict[str, Any]:
    from vaekit.metrics.evaluate import evaluate

    return evaluate(
        run.model, rows, run.contract, k=[one for one in K if one <= k], draws=k, condition=run.condition,
        progress=progress, save=folder,
    )  # fmt: skip


def _latents(run: Run, rows: Split, seed: int, progress: bool, folder: Path) -> dict[str, Any]:
    from vaekit.metrics.latents import latents

    return latents(
        run.model, rows, run.data().train, run.contract, seed=seed, condition=run.condition, progress=progress,
        save=folder,
    )  # fmt: skip


def _opened(
    name: str,
    run: Run,
    rows: Split,
    evaluation: dict[str, Any],
    latents: dict[str, Any],
    k: int,
    folder: Path,
) -> Judged:
    """A run with what its folder holds of each row."""
    with np.load(folder / "per_image.npz") as nats, np.load(folder / "latents.npz") as codes:
        at = np.flatnonzero(nats["k"] == k)
        return Judged(
            name, run, rows, evaluation, latents, k,
            elbo=nats.get("elbo"),
            nll=nats["nll"][at[0]] if "nll" in nats and len(at) else None,
            squared_error=codes["squared_error"] if len(codes["squared_error"]) else None,
            index=codes["index"],
        )  # fmt: skip


def _say(name: str, what: str, progress: bool) -> None:
    if progress:
        print(f"{name}: {what}", file=sys.stderr)
