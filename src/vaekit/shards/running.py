"""A job from its first shard to its last: what is left to do, who does it, what came of it."""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections.abc import Collection, Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vaekit.errors import VaekitError
from vaekit.run import inputs, load
from vaekit.shards import folder
from vaekit.shards.finding import find
from vaekit.shards.work import Job, Outcome, Task, Worker

if TYPE_CHECKING:
    from vaekit.run import Run

Engine = Literal["local", "ray"]
SAMPLES = 10_000  # in a shard


@dataclass(frozen=True)
class Done:
    """A finished job: shards and rows written by this call, the seconds it took, and shards finished before."""

    shards: int
    rows: int
    seconds: float
    before: int


def encode(
    run: str | os.PathLike[str], data: str | os.PathLike[str], out: str | os.PathLike[str], *, engine: Engine = "local",
    draws: int | None = None, label: str | None = None, seed: int = 0, allow: Collection[str] = (),
    progress: bool = False,
) -> Done:  # fmt: skip
    """Codes of every row of a collection, a parquet file in `out` for each shard of `data` (`finding.find` says what
    shards are): which row it is, the other columns of a parquet input, `mean_0`, ..., `log_variance_0`, ..., and with
    `draws` the row's scores (`Run.scores`, nats).

    The same call goes on where another has stopped: shards whose file is there and whose input has not changed are
    passed over. Raises VaekitError for an `out` of another model or other settings, and, once all others are done,
    where shards failed.
    """
    if draws is not None and draws < 1:
        raise VaekitError(f"{draws} draws asked for; ask for at least 1")
    opened, job = _job(run, out, Job(str(run), Path(out), label, draws, False, seed, tuple(allow)))
    inputs.need_latent(opened, "there are no codes")
    opened.conditions(1, label, turns=True)  # refuses a label that says nothing
    source, target = Path(data).expanduser(), job.out
    shards = find(source)
    if target.is_relative_to(source.resolve()):
        raise VaekitError(
            f"{target} lies in the data: its files would be read as data; give a folder elsewhere"
        )
    tasks = [Task(shard.target, shard.stamp(), shard) for shard in shards]
    return _run(job, opened, "encode", tasks, engine, progress)


def sample(
    run: str | os.PathLike[str], n: int, out: str | os.PathLike[str], *, engine: Engine = "local",
    label: str | None = None, noise: bool = False, seed: int = 0, allow: Collection[str] = (), progress: bool = False,
) -> Done:  # fmt: skip
    """n draws from the prior, decoded as `Run.sample` does, in files of `SAMPLES` rows: items `x` in data units, codes
    `z`, and the label of a conditional run. A shard's draws come from the seed and its number, so that a larger n
    goes on with the same folder. Raises as `encode` does."""
    if n < 1:
        raise VaekitError(f"{n} samples asked for; ask for at least 1")
    opened, job = _job(run, out, Job(str(run), Path(out), label, None, noise, seed, tuple(allow)))
    opened.conditions(1, label, turns=True)  # refuses a label that says nothing
    sizes = [min(SAMPLES, n - start) for start in range(0, n, SAMPLES)]
    tasks = [Task(f"samples-{i:06d}.parquet", f"{size} samples", None, size) for i, size in enumerate(sizes)]
    return _run(job, opened, "sample", tasks, engine, progress)


def _job(run: Any, out: Any, job: Job) -> tuple[Run, Job]:
    """The run, opened here so that what is wrong with it is told before anything starts, and absolute paths."""
    from vaekit.output import writable

    writable(Path("x.parquet"))
    opened = load(run, allow=job.allow)
    modules = (os.getcwd(),) if job.allow else ()
    place, target = Path(run).expanduser().resolve(), Path(out).expanduser().resolve()
    return opened, replace(job, run=str(place), out=target, modules=modules)


def _run(job: Job, opened: Run, what: str, tasks: list[Task], engine: Engine, progress: bool) -> Done:
    from vaekit.data import progress as bars

    weights = opened.folder.weights if opened.folder is not None else opened.path
    settings = {"label": job.label, "seed": job.seed}
    settings |= {"draws": job.draws} if what == "encode" else {"noise": job.noise}
    folder.claim(job.out, {"command": what, "model": folder.fingerprint(weights), **settings})
    for name in folder.strangers(job.out, tasks)[:1]:
        warnings.warn(
            f"{job.out} holds {name}, which this call does not make: its input has gone", stacklevel=3
        )
    left = folder.unfinished(job.out, tasks)
    for task in left:
        (job.out / task.target).unlink(missing_ok=True)  # results of an input that is no more
    rows, failed, began = 0, [], time.monotonic()
    try:
        with (
            bars.bar(what, len(left), "shards", show=progress) as advance,
            contextlib.closing(_outcomes(job, left, engine)) as outcomes,
        ):
            for outcome in outcomes:
                rows += outcome.rows
                if outcome.error:
                    failed.append(outcome.target)
                _tell(outcome)
                advance(1)
    except KeyboardInterrupt:
        folder.sweep(job.out, 0)  # workers that were ended in the middle of a shard could not
        finished = len(tasks) - len(folder.unfinished(job.out, left))
        raise KeyboardInterrupt(
            f"interrupted; {finished:,} of {len(tasks):,} shards are finished, and the same command goes on from there"
        ) from None
    if failed:
        more = f" and {len(failed) - 3:,} more" if len(failed) > 3 else ""
        raise VaekitError(
            f"{len(failed):,} of {len(tasks):,} shards failed: {', '.join(failed[:3])}{more}; what is finished is in "
            f"{job.out}, and the same command tries again"
        )
    return Done(len(left), rows, time.monotonic() - began, len(tasks) - len(left))


def _outcomes(job: Job, tasks: list[Task], engine: Engine) -> Generator[Outcome, None, None]:
    if not tasks:
        return
    if engine == "ray":
        from vaekit.shards.cluster import outcomes

        yield from outcomes(job, tasks)
    else:
        yield from map(Worker(job), tasks)


def _tell(outcome: Outcome) -> None:
    if outcome.error:
        warnings.warn(f"{outcome.target} failed: {outcome.error}", stacklevel=4)
    elif not outcome.rows:
        warnings.warn(f"{outcome.target} is not written: its input has no rows", stacklevel=4)
    if outcome.unreadable:
        shown = "; ".join(outcome.unreadable[:3]) + (" and more" if len(outcome.unreadable) > 3 else "")
        warnings.warn(
            f"{outcome.target} lacks {len(outcome.unreadable):,} unreadable images: {shown}", stacklevel=4
        )
