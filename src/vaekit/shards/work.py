"""One shard in, one parquet file out: the function that every engine calls."""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vaekit.errors import VaekitError
from vaekit.files import atomic

if TYPE_CHECKING:
    from vaekit.data.blocks import Block
    from vaekit.run import Run
    from vaekit.shards.finding import Shard

DRAWN = 1024  # samples drawn together
KEY = b"vaekit"  # of a file's metadata, which says what it was made from


@dataclass(frozen=True)
class Job:
    """What is done with every shard: plain values, for they travel to other machines.

    `draws`: of the scores; None for none. `allow` and `modules`: what a recipe may import, and where from.
    """

    run: str
    out: Path
    label: str | None = None
    draws: int | None = None
    noise: bool = False
    seed: int = 0
    allow: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """A shard to do. `made_of` is what its file will say of its input; a task without a shard draws `rows` samples."""

    target: str
    made_of: str
    shard: Shard | None = None
    rows: int = 0


@dataclass(frozen=True)
class Outcome:
    """What came of a task: rows written, or an error of one line; `unreadable` names image files left out."""

    target: str
    rows: int = 0
    error: str = ""
    unreadable: list[str] = field(default_factory=list)


class Worker:
    """Holds the model and does tasks."""

    def __init__(self, job: Job) -> None:
        import torch

        from vaekit.run import load

        sys.path[:0] = [path for path in job.modules if path not in sys.path]
        self.job, self.run = job, load(job.run, allow=job.allow)
        if torch.cuda.is_available():
            self.run.model.to("cuda")

    def __call__(self, task: Task) -> Outcome:
        """Never raises but for an interruption: a shard that fails is told, and the others go on."""
        unreadable: list[str] = []
        try:
            tables = self._drawn(task) if task.shard is None else self._encoded(task.shard, unreadable)
            return Outcome(task.target, self._write(task, tables), "", unreadable)
        except Exception as error:
            said = " ".join(str(error).split()) or type(error).__name__
            if not isinstance(error, VaekitError):
                said = f"{type(error).__name__}: {said}"
            return Outcome(task.target, 0, said)

    def _write(self, task: Task, tables: Iterator[dict[str, Any]]) -> int:
        """Rows written. Of a shard without rows nothing is written."""
        import pyarrow
        import pyarrow.parquet as parquet

        first, rows = next(tables, None), 0
        if first is None:
            return 0
        with atomic(self.job.out / task.target) as temporary:
            start = pyarrow.table(first)
            schema = start.schema.with_metadata({KEY: task.made_of.encode()})
            with parquet.ParquetWriter(temporary, schema) as writer:
                for table in itertools.chain([start], map(pyarrow.table, tables)):
                    writer.write_table(table.cast(schema))
                    rows += len(table)
        return rows

    def _encoded(self, shard: Shard, unreadable: list[str]) -> Iterator[dict[str, Any]]:
        from vaekit.data.blocks import blocks
        from vaekit.output import columns_of

        run, job = self.run, self.job
        labels = run.recipe.data.labels if run.condition else None
        for block in blocks(shard.path, run.contract, labels=labels, flat=shard.flat):
            unreadable += block.unreadable
            label = _label(run, job, shard, block)
            codes = run.encode(block.split, label=label)
            columns = {"mean": codes.mean}
            if codes.log_variance is not None:
                columns["log_variance"] = codes.log_variance
            if job.draws is not None:
                seed = seed_of(job.seed, shard.name, int(block.row[0]))
                columns |= run.scores(block.split, k=job.draws, seed=seed, label=label)
            told: dict[str, Any] = {"row": block.row}
            if block.file is not None:
                told["file"] = block.file
            results = columns_of(columns, {})
            clash = sorted(set(block.carried) & (set(told) | set(results)))
            if clash:
                raise VaekitError(f"its column {clash[0]!r} has the name of a result: rename it")
            yield told | block.carried | results

    def _drawn(self, task: Task) -> Iterator[dict[str, Any]]:
        from vaekit.output import columns_of

        run, job = self.run, self.job
        names = [str(name) for name in run.contract.labels] if run.condition else []
        for start in range(0, task.rows, DRAWN):
            n = min(DRAWN, task.rows - start)
            seed = seed_of(job.seed, task.target, start)
            x, z = run.sample(n, seed=seed, label=job.label, noise=job.noise, with_codes=True)
            told: dict[str, Any] = {"row": np.arange(start, start + n)}
            if names:
                told["label"] = [job.label or names[i % len(names)] for i in range(n)]
            yield told | columns_of({"x": x, "z": z}, {"x": run.contract.columns})


def seed_of(seed: int, name: str, row: int) -> int:
    """The seed of a block of rows, by the name of its shard and its first row: the same whoever computes it."""
    return int.from_bytes(hashlib.sha256(json.dumps([seed, name, row]).encode()).digest()[:8]) >> 1


def _label(run: Run, job: Job, shard: Shard, block: Block) -> Any:
    """What a conditional model is told of each row: what was asked for, else the row's own label, else the folder of
    its image that is named as a label."""
    if not run.condition or job.label is not None:
        return job.label
    if block.label is not None:
        return block.label
    if block.file is None:
        return None
    known = {str(name) for name in run.contract.labels}
    folders = [
        next((p for p in f"{shard.name}/{file}".split("/") if p in known), None) for file in block.file
    ]
    lost = next((file for file, folder in zip(block.file, folders, strict=True) if folder is None), None)
    if lost is not None:
        raise VaekitError(
            f"this model is given the label, and no folder of {lost} is called by one; give --label"
        )
    return folders
