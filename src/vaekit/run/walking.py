"""Walks through the latent space of a run, decoded: from here to there, along a dimension, over a grid."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vaekit.errors import VaekitError
from vaekit.run import inputs

if TYPE_CHECKING:
    from vaekit.run.opened import Codes, Run

LOOKED_AT = 5000  # codes that measure how the latent space is used
FARTHEST = 1_000_000  # standard deviations of a traversal: farther, float32 has no numbers to spare
SHOWN = 10  # dimensions of a traversal that was not told which


def interpolate(
    run: Run, start: Any, end: Any, steps: int, path: str, label: Any
) -> tuple[np.ndarray, np.ndarray]:
    """As `Run.interpolate`."""
    from vaekit import walks

    ways = {"spherical": walks.spherical, "linear": walks.linear}
    inputs.need_latent(run, "there is nowhere to walk")
    if path not in ways:
        raise VaekitError(f"unknown path {path!r}; it is spherical or linear")
    (a, of_a), (b, _) = place(run, start, label), place(run, end, label)
    z = ways[path](a, b, steps)
    return _decoded(run, z, _first(run, label, of_a)), z.cpu().numpy()


def traverse(
    run: Run, at: Any, dimensions: Any, steps: int, extent: float, label: Any
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """As `Run.traverse`."""
    from vaekit import walks

    inputs.need_latent(run, "there is nothing to traverse")
    mean, spread = _used(run)
    if at is None:
        z, of_z = mean, None
        label = 0 if label is None and run.condition else label
    else:
        z, of_z = place(run, at, label)
    if not abs(extent) <= FARTHEST:
        raise VaekitError(
            f"extent is {extent}; give a number of standard deviations of at most {FARTHEST:,}, such as 2.5"
        )
    if steps < 1:
        raise VaekitError(f"a traversal of {steps} steps shows nothing; give at least 1")
    chosen = _dimensions(dimensions, spread)
    moves = (
        torch.linspace(-extent, extent, steps, device=z.device)
        if steps > 1
        else torch.zeros(1, device=z.device)
    )
    lines = []
    for d in chosen:
        reach = spread[d] if -len(z) <= d < len(z) else spread[0]  # `walks.traverse` refuses it by name
        lines.append(walks.traverse(z, d, z[d] + moves * reach if -len(z) <= d < len(z) else moves)[0])
    codes = torch.cat(lines)
    return _decoded(run, codes, _first(run, label, of_z)), codes.cpu().numpy(), [f"z{d}" for d in chosen]


def manifold(run: Run, n: int, label: Any, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """As `Run.manifold`."""
    from vaekit import walks

    inputs.need_latent(run, "there is no latent grid")
    label = 0 if label is None and run.condition else label
    with run.looking(seed):
        codes = _codes(run)
        means = (
            torch.from_numpy(codes.mean)
            if codes is not None
            else run.model.draw(LOOKED_AT, run.conditions(LOOKED_AT, turns=True))
        )
        prior = run.model.prior(run.conditions(1, label))
        answers = run.fitted or getattr(run.model.posterior, "has_density", True)
        z = walks.grid(prior, means.to(run.device), n, answers)
    z = z.reshape(-1, run.model.latent)
    return _decoded(run, z, label), z.cpu().numpy()


def place(run: Run, where: Any, label: Any) -> tuple[Tensor, Any]:
    """A code [D] and its row's label, from a row's number, a latent point, a row, or a path."""
    code, of_row, _ = found(run, where, label)
    return code, of_row


def found(run: Run, where: Any, label: Any) -> tuple[Tensor, Any, np.ndarray | None]:
    """As `place`, and the row itself in data units; None of a latent point."""
    from vaekit.output import point_of

    if isinstance(where, str):
        if where.strip().lstrip("-").isdigit():
            where = int(where)
        elif "," in where and not Path(where).exists():
            where = point_of(where)
    if isinstance(where, int | np.integer):
        test = inputs.part(run.data(), "test" if "test" in run.data().splits else "all")
        if not 0 <= where < len(test):
            raise VaekitError(f"there is no row {where}: the {test.name} split has rows 0 to {len(test) - 1}")
        row: Any = inputs.subset(test, np.array([where]))
    elif isinstance(where, str | Path) or tuple(np.shape(where)) != (run.model.latent,):
        if (
            not isinstance(where, str | Path)
            and tuple(np.shape(where)) != run.contract.shape
            and np.ndim(where) == 1
        ):
            inputs.points(where, run.model.latent)  # a point of the wrong length, and says so
        row = inputs.rows(run, where, "test", label)
    else:
        return inputs.points(where, run.model.latent)[0].to(run.device), None, None
    if len(row) != 1:
        raise VaekitError(
            f"{where} holds {len(row):,} rows; a walk needs one: give the file of one, or a row's number"
        )
    code = run.encode(row, label=label)
    # by name: a number could be the name of another label
    of_row = None if code.labels is None else str(code.labels[0])
    return torch.from_numpy(code.mean[0]).to(run.device), of_row, row.rows(0)


def _decoded(run: Run, z: Tensor, label: Any) -> np.ndarray:
    with run.looking(0):  # seeded for the laws whose centre is a draw
        return run.decoded(z, run.conditions(len(z), label))


def _first(run: Run, label: Any, of_row: Any) -> Any:
    """The label that was asked for, else the row's own where the model wants one."""
    return of_row if label is None and run.condition else label


def _codes(run: Run) -> Codes | None:
    """Codes of at most `LOOKED_AT` of the run's own rows, held out if there are such; None without data."""
    try:
        data = run.data()
    except VaekitError:
        return None  # the data have gone: the prior serves
    split = next(data.splits[name] for name in ("test", "valid", "train", "all") if name in data.splits)
    index = np.sort(np.random.default_rng(0).permutation(len(split))[:LOOKED_AT])
    return run.encode(inputs.subset(split.frozen(data.contract), index))


def _used(run: Run) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the codes, each [D]; those of the prior where the data have gone."""
    codes = _codes(run)
    if codes is not None:
        means = torch.from_numpy(codes.mean)
    else:
        with run.looking(0):
            means = run.model.draw(LOOKED_AT, run.conditions(LOOKED_AT, turns=True))
    return means.mean(0).to(run.device), means.std(0, correction=0).to(run.device)


def _dimensions(given: Any, spread: Tensor) -> list[int]:
    """Those asked for, or the `SHOWN` that vary most."""
    if given is None:
        return spread.argsort(descending=True)[:SHOWN].tolist()
    if isinstance(given, int):
        return [given]
    try:
        return [int(d) for d in (given.split(",") if isinstance(given, str) else given)]
    except ValueError:
        raise VaekitError(
            f"dimensions are whole numbers with commas between, such as 0,3,5; not {given!r}"
        ) from None
