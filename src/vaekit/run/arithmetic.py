"""Arithmetic with codes: the mean code of one group of rows minus another's, added to a third."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vaekit.data import Split
from vaekit.errors import VaekitError, nearest
from vaekit.run import groups as reading
from vaekit.run import inputs
from vaekit.run.groups import Groups

if TYPE_CHECKING:
    from vaekit.run.opened import Run

STRONGEST = 1.5  # times the difference of the means


@dataclass(frozen=True)
class Arithmetic:
    """R items moved along the difference of two groups' mean codes, by S strengths.

    `x` [R, S, ...] and `z` [R, S, D], `names` [R] what is moved (the mean of a group first), `strengths` [S];
    `plus` and `minus` are called `ends` and have the mean codes `means` [2, D], decoded `mean_items` [2, ...];
    `originals` [R] are the rows behind what is moved, or None; `counts` the training rows of each group.
    """

    x: np.ndarray
    z: np.ndarray
    names: list[str]
    strengths: np.ndarray
    ends: tuple[str, str]
    means: np.ndarray
    mean_items: np.ndarray
    originals: list[np.ndarray | None]
    counts: dict[str, int]

    def arrays(self) -> dict[str, np.ndarray]:
        """A row an item, as `vaekit arithmetic` writes them: the two means at strength 0, then R x S."""
        R, S = self.z.shape[:2]
        return {
            "x": np.concatenate((self.mean_items, self.x.reshape(R * S, *self.x.shape[2:]))),
            "z": np.concatenate((self.means, self.z.reshape(R * S, -1))),
            "item": np.array([*(f"mean of {end}" for end in self.ends), *np.repeat(self.names, S)]),
            "strength": np.concatenate((np.zeros(2, np.float32), np.tile(self.strengths, R))),
        }


def arithmetic(
    run: Run, plus: str, minus: str, to: Any, *, groups: str | os.PathLike[str] | None, steps: int, n: int,
    label: Any, seed: int,
) -> Arithmetic:  # fmt: skip
    """As `Run.arithmetic`."""
    inputs.need_latent(run, "there are no codes to add")
    if steps < 2 or n < 0:
        raise VaekitError(f"steps is {steps} and n is {n}; give at least 2 steps, and 0 rows or more")
    known = reading.read(run, groups)
    rows = {name: _training(run, known, name, difference=True) for name in (plus, minus)}
    means = torch.stack([_mean(run, rows[name]) for name in (plus, minus)])  # [2, D]
    labels = [_commonest(run, rows[name], label) for name in (plus, minus)]
    moved, names, own, originals = _moved(run, known, to, n, label, seed)
    counts = {name: len(part) for name, part in rows.items()}
    if isinstance(to, str) and to in known.names:
        counts[to] = len(known.rows(to, "train"))
    strengths = torch.linspace(0, STRONGEST, steps, device=run.device)
    z = moved[:, None] + strengths[:, None] * (means[0] - means[1])  # [R, S, D]
    flat = torch.cat((means, z.flatten(0, 1)))
    every = [*labels, *(one for one in own for _ in range(steps))]
    with run.looking():
        x = run.decoded(flat, run.conditions(len(flat), every if run.condition else None))
    return Arithmetic(
        x=x[2:].reshape(len(names), steps, *x.shape[1:]),
        z=z.cpu().numpy(),
        names=names,
        strengths=strengths.cpu().numpy(),
        ends=(plus, minus),
        means=means.cpu().numpy(),
        mean_items=x[:2],
        originals=originals,
        counts=counts,
    )


def _training(run: Run, known: Groups, name: str, difference: bool = False) -> Split:
    """The training rows of a group. Raises VaekitError where there is no such group, or it has none."""
    if name not in known.names:
        near = nearest(name, known.names) or ": the data have no labels"
        raise VaekitError(f"there is no group {name!r}{near}")
    if difference and run.condition and known.is_label(name):
        raise VaekitError(
            f"this model is given the label, so its codes leave {name!r} out; give groups of another kind, --groups F.csv"
        )
    rows = known.rows(name, "train")
    if not len(rows):
        raise VaekitError(f"the group {name!r} has no rows among the training rows, so it has no mean code")
    return rows


def _mean(run: Run, rows: Split) -> Tensor:
    """The mean of the rows' mean codes [D]."""
    return torch.from_numpy(run.encode(rows).mean).mean(0).to(run.device)


def _commonest(run: Run, rows: Split, label: Any) -> Any:
    """The label that a group's mean is decoded with, where the model wants one."""
    if label is not None or not run.condition or rows.label is None:
        return label
    # by name: a number could be the name of another label
    return str(run.contract.labels[np.bincount(rows.label).argmax()])


def _moved(
    run: Run, known: Groups, to: Any, n: int, label: Any, seed: int
) -> tuple[Tensor, list[str], list[Any], list[np.ndarray | None]]:
    """What the difference is added to: codes [R, D], names, labels to decode with, and the rows themselves."""
    if isinstance(to, str) and to in known.names:
        training = _training(run, known, to)
        shown = _members(known, to, n, seed)
        codes, names = [_mean(run, training)[None]], [f"mean of {to}"]
        own = [_commonest(run, training, label)]
        originals: list[np.ndarray | None] = [None]
        for rows in shown:
            codes.append(torch.from_numpy(run.encode(rows).mean).to(run.device))
            names += known.called(rows)
            named = None if label is not None or rows.label is None else run.contract.names_of(rows.label)
            own += [label] * len(rows) if named is None else named.tolist()
            originals += list(rows.rows(slice(None)))
        return torch.cat(codes), names, own, originals
    from vaekit.run.walking import found

    where = to.strip().removeprefix("row:") if isinstance(to, str) else to
    if isinstance(where, str) and not (where.isdigit() or "," in where or Path(where).exists()):
        raise VaekitError(
            f"{to!r} is no group{nearest(to, known.names)}, no row number, no file and no latent point"
        )
    code, of_row, row = found(run, where, label)
    own_label = of_row if label is None else label
    if run.condition and own_label is None:
        raise VaekitError("this model is given the label, and a latent point has none; give label")
    return code[None], [str(to)], [own_label], [row]


def _members(known: Groups, name: str, n: int, seed: int) -> list[Split]:
    """At most n rows of a group, rows that were not trained on first."""
    shown: list[Split] = []
    for split in ("test", "valid", "train"):
        rows = known.rows(name, split)
        left = n - sum(map(len, shown))
        order = np.sort(np.random.default_rng(seed).permutation(len(rows))[:left])
        if len(order):
            shown.append(inputs.subset(rows, order))
    return shown
