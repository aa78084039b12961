"""What a user hands to a run, as rows, labels and latent points; what does not fit is refused in one line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vaekit.data import Batches, Contract, Data, Preparation, Split, open_data
from vaekit.errors import VaekitError, nearest

if TYPE_CHECKING:
    from vaekit.run.opened import Run


def own_data(run: Run, contract: Contract, moved: Any = None) -> Data:
    """The run's own data, held to a contract; `moved`: where, or what, they are now. Raises VaekitError if they have gone
    or no longer keep it."""
    section = run.recipe.data
    options = section.model_dump(include={"limit", "seed", "key", "labels", "kind", "valid"})
    try:
        return open_data(section.source if moved is None else moved, contract=contract, **options)
    except VaekitError as error:
        raise VaekitError(f"the run's own data: {error}; give the data to use") from error


def rows(run: Run, data: Any, split: str, label: Any) -> Split:
    """Rows as `Run.rows` gives them."""
    contract = run.contract
    if data is None or is_own(run, data):
        chosen = part(run.data(), split)
    elif isinstance(data, Split):
        contract.check(data.x, data.name)
        chosen = data.frozen(contract)
    else:
        chosen = part(opened(data, contract), split)
    return chosen if label is None else labelled(run, chosen, label)


def labelled(run: Run, rows: Split, label: Any) -> Split:
    """The rows with `label`, one or one a row, in place of their own. Raises VaekitError if they need one."""
    if label is not None:
        _refuse_useless(run, label)
        return replace(rows, label=ids(run.contract, label, len(rows)))
    if run.condition and rows.label is None:
        raise VaekitError(
            "this model is given the label, and these rows have none; give label, one or one a row"
        )
    return rows


def opened(data: Any, contract: Contract) -> Data:
    """Other data, held to a contract; what names no splits stays whole. One row is a set of one."""
    if isinstance(data, Data):
        return data
    single = isinstance(data, np.ndarray | Tensor) and tuple(data.shape) == contract.shape
    return open_data(data[None] if single else data, contract=contract, whole=True)


def is_own(run: Run, data: Any) -> bool:
    """Whether this name or path is where the run's own data are."""
    own = run.recipe.data.source
    if own is None or not isinstance(data, str | os.PathLike):
        return False
    return os.fspath(data) == own or Path(data).expanduser().resolve() == Path(own).resolve()


def part(data: Data, split: str) -> Split:
    """One split with its evaluation bits, or with "all" every row: train, then valid, then test."""
    splits = list(data.splits.values())
    if split != "all":
        return data.split(split).frozen(data.contract)
    frozen = [each.frozen(data.contract) for each in splits]
    if len(frozen) == 1:
        return frozen[0]
    labels = [each.label for each in frozen if each.label is not None]
    label = np.concatenate(labels) if len(labels) == len(frozen) else None
    known = [each.places for each in frozen if each.places is not None]
    places = np.concatenate(known) if len(known) == len(frozen) else None
    made = [each.factors for each in frozen if each.factors is not None]
    factors = np.concatenate(made) if len(made) == len(frozen) else None
    x = np.concatenate([each.rows(slice(None)) for each in frozen])
    return Split(x, label, "all", frozen[0].bits, places, factors)


def subset(rows: Split, index: np.ndarray) -> Split:
    """Some rows of a split."""
    label = None if rows.label is None else rows.label[index]
    places = None if rows.places is None else rows.places[index]
    factors = None if rows.factors is None else rows.factors[index]
    return replace(rows, x=rows.rows(index), label=label, places=places, factors=factors)


def ids(contract: Contract, label: Any, n: int) -> np.ndarray:
    """A label by name or number, or one a row, as numbers int64 [n]."""
    names = [str(name) for name in contract.labels]
    given = [label] if isinstance(label, str | int | np.integer) else list(label)
    found = []
    for one in given:
        number = names.index(str(one)) if str(one) in names else one
        if not isinstance(number, int | np.integer) or not 0 <= number < len(names):
            raise VaekitError(
                f"unknown label {one!r}{nearest(str(one), names) or ': the data have no labels'}"
            )
        found.append(number)
    if len(found) not in (1, n):
        raise VaekitError(f"{len(found)} labels for {n} rows; give one, or one a row")
    return np.resize(np.asarray(found, dtype=np.int64), n)


def need_latent(run: Run, what: str) -> None:
    """Raise VaekitError where the model has no latent dimensions (D = 0), for `what` there cannot be then."""
    if not run.model.latent:
        raise VaekitError(
            f"{run.path} has a latent of no dimensions (model.latent 0), so {what}; ask for samples"
        )


def points(given: Any, latent: int) -> Tensor:
    """Latent points, one [D] or several [N, D], as a float32 tensor [N, D]."""
    listed = list(given.detach().cpu().numpy() if isinstance(given, Tensor) else given)
    if not listed:
        raise VaekitError("no latent points came; give at least one")
    if np.ndim(listed[0]) == 0:
        listed = [listed]
    result = np.empty((len(listed), latent), np.float32)
    for number, point in enumerate(listed):
        if np.ndim(point) != 1 or len(point) != latent:
            raise VaekitError(
                f"a latent point of {len(point)} numbers came; this run has {latent} latent "
                f"dimension{'s' * (latent != 1)}"
            )
        try:
            result[number] = point
        except (ValueError, TypeError):
            raise VaekitError(f"{point!r} is no latent point: expected {latent} numbers") from None
        if not np.isfinite(result[number]).all():
            raise VaekitError(f"the latent point {list(map(float, point))} is not finite")
    return torch.from_numpy(result)


def batches(run: Run, rows: Split) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Rows as `Run.batches` gives them."""
    found = Batches(labelled(run, rows, None), run.contract, run.device, condition=run.condition)
    preparation = Preparation(run.contract).to(run.device)
    step = max(1, min(512, (1 << 23) // int(np.prod(run.contract.shape))))
    for start in range(0, len(rows), step):
        raw, c = found.get(np.arange(start, min(start + step, len(rows))))
        yield preparation(raw), c


def _refuse_useless(run: Run, label: Any) -> None:
    if label is not None and not run.condition:
        raise VaekitError(f"this model is not given the label, so label={label!r} says nothing; leave it out")


def conditions(run: Run, n: int, label: Any, turns: bool) -> Tensor | None:
    """c as `Run.conditions` gives it."""
    _refuse_useless(run, label)
    if not run.condition:
        return None
    names = run.contract.labels
    if label is None and not turns:
        raise VaekitError(f"this model is given the label: say which{nearest('', map(str, names))}")
    numbers = np.arange(n) % len(names) if label is None else ids(run.contract, label, n)
    return torch.eye(len(names), device=run.device)[torch.from_numpy(numbers)]
