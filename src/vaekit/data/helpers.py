"""Decoding on several cores: in order on threads, and of small images by processes.

These are plain children on pipes: `multiprocessing` would run the user's script again.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, Any

from vaekit.data.decode import Packed, Plan, pack

_LAST_WAIT = 5  # seconds for a child to see that its pipe is closed


class Helpers:
    """`pack` of `decode`, by `count` processes, for as many threads; a context. What they cannot do is done here."""

    def __init__(self, count: int) -> None:
        self._children = [child for _ in range(count) if (child := _start()) is not None]
        self._free: queue.SimpleQueue[subprocess.Popen[bytes] | None] = queue.SimpleQueue()
        for number in range(count):
            self._free.put(self._children[number] if number < len(self._children) else None)

    def __enter__(self) -> Helpers:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            for pipe in (child.stdin, child.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()  # type: ignore[union-attr]
        for child in self._children:
            try:
                child.wait(_LAST_WAIT)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def pack(self, files: Sequence[bytes], plan: Plan) -> Packed:
        """As `decode.pack`, errors included; waits until a process is free."""
        child, answer = self._free.get(), None
        try:
            if child is not None:
                answer = _ask(child, files, plan)
        except (OSError, EOFError, pickle.PickleError):
            child = None  # it died, or could never start: go on without it
        finally:
            self._free.put(child)
        if answer is None:
            return pack(files, plan)
        if isinstance(answer, Exception):
            raise answer
        return answer


def _start() -> subprocess.Popen[bytes] | None:
    if not sys.executable or getattr(sys, "frozen", False):
        return None  # a program with Python inside: what stands there is not Python
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = os.environ | {"PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"}
    # -P: the folder it is started in is no place to import from
    command = [sys.executable, "-P", "-c", "from vaekit.data.helpers import serve; serve()"]
    try:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
    except OSError:
        return None


def _ask(child: subprocess.Popen[bytes], files: Sequence[bytes], plan: Plan) -> Packed | Exception:
    assert child.stdin is not None and child.stdout is not None
    _send(child.stdin, (files, plan))
    return pickle.load(child.stdout)


def _send(pipe: IO[bytes], value: Any) -> None:
    pickle.dump(value, pipe, pickle.HIGHEST_PROTOCOL)
    pipe.flush()


def ordered(
    threads: int, work: Callable[[list[int]], Packed], groups: Iterable[list[int]]
) -> Iterator[tuple[list[int], Packed]]:
    """work(group) for each group in order, on a pool that runs a few groups ahead and no more."""
    if threads == 1:
        yield from ((group, work(group)) for group in groups)
        return
    pending: deque[tuple[list[int], Future[Packed]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for group in groups:
                pending.append((group, pool.submit(work, group)))
                if len(pending) > 2 * threads:
                    first, future = pending.popleft()
                    yield first, future.result()
            while pending:
                first, future = pending.popleft()
                yield first, future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def serve() -> None:
    """What a child does: answer until the pipe is closed. Ctrl-C is the parent's to act on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            files, plan = pickle.load(sys.stdin.buffer)
            try:
                answer: Packed | Exception = pack(files, plan)
            except Exception as error:
                answer = error
            _send(answers, answer)
