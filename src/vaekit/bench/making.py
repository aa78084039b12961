"""One cell made: trained, or gone on with where it stopped, then judged once on the rows that are held out."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaekit.bench import facts
from vaekit.bench.cells import Cell, judged_by, made_of

if TYPE_CHECKING:
    from vaekit.data import Data
    from vaekit.run import Run
    from vaekit.train.given import Say

TRAIN_ROWS, TRAIN_K = 2000, 100  # a look at over-fitting, not a figure: few rows and draws


def make(
    cell: Cell, data: Data, say: Say, *, threads: int | None, allow: Collection[str], progress: bool | None
) -> dict[str, Any]:  # fmt: skip
    """The finished record of a cell, whatever was there before; each stage is on the disk before the next begins.

    Raises VaekitError where it cannot be trained or judged, KeyboardInterrupt once what there is has been saved.
    """
    record = cell.read() or {
        "bench": cell.bench,
        "row": cell.row.name,
        "seed": cell.seed,
        "state": "training",
        "made_of": made_of(cell.recipe(), data.contract.hash),
        "command": facts.command(cell.row, cell.seed),
        "code": [],
        "training": {},
    }
    _made_with(record)
    with _threads(threads):
        run = _trained(cell, record, data, say, threads, allow, progress)
        run.own = data
        if cell.row.refit_encoder:
            run = _refitted(cell, record, run, threads, progress)
        _judge(cell, record, run, say, progress)
    return record


def _trained(
    cell: Cell, record: dict[str, Any], data: Data, say: Say, threads: int | None, allow: Collection[str],
    progress: bool | None,
) -> Run:  # fmt: skip
    from vaekit.run import load
    from vaekit.train.onward import onward

    if record["state"] != "training":
        say(f"{cell.run} is trained, and kept")
        return load(cell.run, allow=allow)
    recipe = cell.recipe()
    if threads is not None:
        recipe = recipe.updated({"train": {"threads": threads}})
    with _clock(cell, record, "seconds", cell.run):
        run = onward(recipe, cell.run, lambda: data, say, allow=allow, progress=progress)
    record["training"] |= _facts(run, len(data.train))
    record["state"] = "trained"
    cell.write(record)
    return run


@contextlib.contextmanager
def _clock(cell: Cell, record: dict[str, Any], name: str, run: Path) -> Iterator[None]:
    """Add this sitting's seconds to the record, and of one that was killed those up to the run's last checkpoint."""
    training, checkpoint = record["training"], run / "last.ckpt"
    training.setdefault(name, 0.0)
    if (since := training.pop("since", None)) is not None and checkpoint.exists():
        training[name] += max(0.0, checkpoint.stat().st_mtime - since)
    training["since"] = time.time()
    cell.write(record)
    started = time.monotonic()
    try:
        yield
    finally:
        del training["since"]
        training[name] += time.monotonic() - started
        cell.write(record)


def _facts(run: Run, rows: int) -> dict[str, Any]:
    """What was trained, how long and on what."""
    from vaekit.train.plan import Plan

    settings, last = run.recipe.train, run.metrics()[-1]
    plan = Plan.of(settings, rows)
    return {
        "parameters": sum(weight.numel() for weight in run.model.parameters()),
        "epochs": last["epoch"],
        "steps": last["step"],
        "images_seen": last["epoch"] * min(rows, plan.steps_per_epoch * plan.per_step),
        "rows": rows,
        "threads": settings.threads,
        "device": settings.device,
        "precision": settings.precision,
        "compiled": settings.compile,
        "machine": facts.machine(),
        "date": facts.today(),
    }


def _refitted(
    cell: Cell, record: dict[str, Any], run: Run, threads: int | None, progress: bool | None
) -> Run:
    """The run with an encoder trained further, which is training, too."""
    changes = [] if threads is None else [f"train.threads={threads}"]
    with _clock(cell, record, "refit_seconds", cell.run / "refitted"):
        return run.refit_encoder(set=changes, progress=progress)


def _judge(cell: Cell, record: dict[str, Any], run: Run, say: Say, progress: bool | None) -> None:
    """Read the held-out rows once, and a few training rows beside them."""
    import torch

    row, device = cell.row, run.recipe.train.device
    shown, started = bool(progress), time.monotonic()
    found = run.evaluate(split=row.split, k=sorted(row.k), limit=row.limit, device=device, progress=shown)
    seconds = time.monotonic() - started
    train = run.evaluate(split="train", k=(TRAIN_K,), limit=TRAIN_ROWS, device=device, progress=shown)
    _made_with(record)
    record |= {
        "state": "done",
        "judged_by": judged_by(row),
        "evaluation": found | {"seconds": seconds, "threads": torch.get_num_threads(), "date": facts.today()},
        "train_evaluation": train,
    }
    cell.write(record)
    say(
        f"{cell.name}: {_said(found)}, {trained_seconds(record) / 60:.1f} min of training and {seconds / 60:.1f} of "
        "evaluation"
    )


def _said(evaluation: Mapping[str, Any]) -> str:
    """The NLL in words."""
    if not evaluation["nll"]:
        return "no NLL"
    nll = evaluation["nll"][-1]
    if nll["value"] is None:
        return f"an infinite NLL (k = {nll['k']})"
    return f"NLL {nll['value']:.2f} +- {nll['standard_error'] or 0:.2f} nats (k = {nll['k']})"


def trained_seconds(record: Mapping[str, Any]) -> float:
    """How long a cell was trained, its encoder's refit included."""
    training = record["training"]
    return float(training["seconds"] + training.get("refit_seconds", 0.0))


def _made_with(record: dict[str, Any]) -> None:
    """Note the code that works on a cell; a cell of several sittings may have had several."""
    record["code"] = list(dict.fromkeys([*record["code"], facts.code()]))


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """torch's number of threads meanwhile."""
    import torch

    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
