"""The same work by Ray Data: an actor a core, or a GPU, holds the model and takes shard after shard."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import platform
import socket
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from vaekit.devices import cores
from vaekit.errors import VaekitError
from vaekit.shards.work import Job, Outcome, Task, Worker

STORE = 256 << 20  # bytes of Ray's object store: only names of shards pass through it
BLOCKS = 10_000  # Ray keeps books of each
TRIES = 2  # more, of a shard whose actor dies
_QUIET = {"RAY_BACKEND_LOG_LEVEL": "fatal"}  # what goes wrong with a shard is told by its outcome
_OURS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    # the only switch by which Ray's servers listen on the loopback alone; they listen everywhere otherwise
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}


class Actor:
    """A worker among others on its machine: one thread each, so that they do not stand in each other's way."""

    def __init__(self, job: Job) -> None:
        import torch

        torch.set_num_threads(1)
        self._worker, self._error = None, ""
        try:
            self._worker = Worker(job)
        except VaekitError as error:  # of this machine: the caller has opened the run
            self._error = f"on {platform.node()}: {error}"

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        task: Task = pickle.loads(row["task"])
        outcome = Outcome(task.target, error=self._error) if self._worker is None else self._worker(task)
        return {"outcome": pickle.dumps(outcome)}


def outcomes(job: Job, tasks: list[Task]) -> Iterator[Outcome]:
    """The outcome of each task, as they come. Uses the cluster that RAY_ADDRESS names, or that is running in this
    process; else one on this machine, for the time of the work. Raises VaekitError where Ray is not installed or
    cannot be reached."""
    # what Ray prints is no result
    with contextlib.redirect_stdout(sys.stderr), _connected() as ray:
        import ray.data

        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # outcomes tell what failed, and in one line
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        context.max_errored_blocks = -1  # a shard that kills its actor is missing below, and the others go on
        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0))
        actors = min(len(tasks), gpus or max(1, int(resources.get("CPU", 1))))
        with warnings.catch_warnings():
            # Ray will give the limit of tries another place in 2.64, which pyproject's range leaves out
            warnings.filterwarnings("ignore", "`ray_remote_args_fn` is deprecated")
            found = ray.data.from_items(
                [{"task": pickle.dumps(task)} for task in tasks], override_num_blocks=min(len(tasks), BLOCKS)
            ).map(
                Actor, fn_constructor_args=(job,), compute=ray.data.ActorPoolStrategy(size=actors),
                num_cpus=0 if gpus else 1, num_gpus=1 if gpus else 0, ray_remote_args_fn=_few_tries,
            )  # fmt: skip
        missing = {task.target for task in tasks}
        try:
            for row in found.iter_rows():
                outcome: Outcome = pickle.loads(row["outcome"])
                missing.discard(outcome.target)
                yield outcome
        except ray.exceptions.RayError as error:
            said = str(error).strip().splitlines()[-1]
            raise VaekitError(
                f"Ray gave up: {said}; the same command goes on with the shards left"
            ) from error
        for target in sorted(missing):
            yield Outcome(target, error="its worker died, perhaps for want of memory")


def _few_tries() -> dict[str, Any]:
    return {"max_task_retries": TRIES}  # Ray's default is to try for ever


@contextlib.contextmanager
def _connected() -> Iterator[Any]:
    before, address = dict(os.environ), os.environ.get("RAY_ADDRESS")
    wanted = _QUIET if address else _QUIET | _OURS
    for name, value in wanted.items():
        os.environ.setdefault(name, value)  # before Ray is imported, which reads them then
    started = False
    try:
        try:
            with _hushed():
                import ray
        except ImportError as error:
            raise VaekitError(
                "--engine ray needs Ray: pip install 'vaekit[ray]', or take --engine local"
            ) from error
        if not ray.is_initialized():
            started = True
            with _hushed():
                _start(ray, address)
        yield ray
    finally:
        if started:
            ray.shutdown()
        for name in wanted:
            if name not in before:
                os.environ.pop(name, None)


def _start(ray: Any, address: str | None) -> None:
    """Join the cluster at an address, or start one here."""
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address:
            _reach(address)
            ray.init(**quiet)
        else:
            ray.init(
                address="local", num_cpus=cores(), include_dashboard=False, object_store_memory=STORE,
                _node_ip_address="127.0.0.1", **quiet,
            )  # fmt: skip
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = f"no Ray cluster at {address} (RAY_ADDRESS)" if address else "Ray cannot be started here"
        raise VaekitError(f"{where}: {' '.join(str(error).split())}") from error


def _reach(address: str) -> None:
    """Raise OSError where nobody answers: Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), 10).close()


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """What Ray's start says of itself below Python is no message of ours; its errors are exceptions."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
