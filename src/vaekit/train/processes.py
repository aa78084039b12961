"""The processes of a run: how they start, and how a run ends when one of them is gone.

The process that a person has started starts the others of its machine by running the same command again, and
watches over them; they watch over it. Under torchrun all of that is torchrun's, and only the line that says what
happened is ours.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import ModuleType
from typing import Any, NoReturn

from vaekit.errors import VaekitError
from vaekit.recipe.settings import TrainSettings
from vaekit.train.trouble import StepError, home, reason

BEREFT = 75  # exit code of a child that ends because another process is gone: it is not the cause
GRACE = 10.0  # seconds for a process to notice by itself that another is gone, before it is ended
PARENT = "VAEKIT_PARENT"
REASON = "vaekit/reason"
# what gloo, NCCL and the store that they met in say when the other end has gone
LOST = ("/gloo/", "NCCL", "Connection closed by peer", "Connection reset by peer", "Broken pipe")


def by_torchrun() -> bool:
    """Whether torchrun has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_loss(error: BaseException) -> bool:
    """Whether an exchange failed because another process is gone."""
    return any(word in str(error) for word in LOST)


class Place:
    """How far a run is, in every process, and which step its checkpoint holds."""

    def __init__(self, folder: Any) -> None:
        self.folder = home(folder)
        self.step = 0
        self.saved: int | None = None

    @property
    def kept(self) -> str:
        """What there is to go on from, and how."""
        if self.saved is None:
            kept = "no checkpoint was written yet, so it would start afresh"
        else:
            kept = f"last.ckpt holds the state after step {self.saved}"
        return f"{kept}; go on with: vaekit train --resume {self.folder}"

    def lost(self, what: str) -> str:
        """What to say of the end of a run, e.g. `process 1 was killed by SIGKILL at step 57; ...`."""
        return f"{what} at step {self.step}; {self.kept}"


class Members:
    """The processes that this one started, or the one that started it; and whether any is gone."""

    def __init__(self, count: int, world: int) -> None:
        self.count, self.world = count, world  # here, and on all nodes
        self.children: dict[int, subprocess.Popen[bytes]] = {}
        parent = os.environ.get(PARENT)
        self.parent = None if parent is None else int(parent)
        self.gone: str | None = None
        self.news = threading.Event()
        self.line: Callable[[str], str] | None = None  # set while a loss ends the run
        self.well = False  # whether the last run ended so that nobody waits for how this process ends

    def start(self, first: int) -> None:
        """Run this command again, once for each further process of this machine; `first` is the global rank here."""
        for local in range(1, self.count):
            who = {"LOCAL_RANK": str(local), "RANK": str(first + local), PARENT: str(os.getpid())}
            child = subprocess.Popen([sys.executable, *sys.orig_argv[1:]], env=os.environ | who)
            self.children[local] = child
            name = f"process {first + local}"
            threading.Thread(target=self._await, args=(name, child), daemon=True).start()

    def watch(self) -> None:
        """In a process that another started: notice when that one is gone."""
        if self.parent is not None:
            threading.Thread(target=self._await_parent, daemon=True).start()

    def _await(self, name: str, child: subprocess.Popen[bytes]) -> None:
        code = child.wait()
        if code not in (0, BEREFT) and self.line is not None:
            how = (
                f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            )
            memory = " (by hand, or by the system for want of memory)" if code == -signal.SIGKILL else ""
            self._tell(f"{name} {how}{memory}")

    def _await_parent(self) -> None:
        while os.getppid() == self.parent:
            time.sleep(0.5)
        if self.line is not None:
            self._tell("the process that started the others is gone")

    def _tell(self, what: str) -> None:
        """The main thread should meet an error in its next exchange; where it hangs in one, end it from here."""
        self.gone = self.gone or what
        self.news.set()
        time.sleep(GRACE)
        line = self.line
        if line is not None:
            if self.speaks:
                print(f"vaekit: {line(self.gone)}", file=sys.stderr, flush=True)
            self.kill()
            os._exit(2)

    @property
    def speaks(self) -> bool:
        """Whether it is for this process to say what happened: the parent does, or the first of its children."""
        return self.parent is None or (os.getppid() != self.parent and os.environ.get("LOCAL_RANK") == "1")

    def said(self, line: Callable[[str], str], error: BaseException) -> str:
        """The line on a process that is gone: its own words, if it had any, or what can be known of it here."""
        if self.children:
            self.news.wait(GRACE)
        # with a parent the store is gone, too
        told = _told() if self.parent is None else None
        return told or line(self.gone or f"another process of this run is gone ({_short(error)})")

    def kill(self) -> None:
        """End the children, which may hang in an exchange with a process that is gone; they have nothing to save."""
        for child in self.children.values():
            if child.poll() is None:
                child.kill()

    def leave(self) -> None:
        """At exit: the children are done by now, or will never be."""
        until = time.monotonic() + GRACE
        for child in self.children.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(max(0.0, until - time.monotonic()))
        self.kill()
        _part()
        if self.parent is not None and self.well:
            # FSDP's groups seem to outlive `_part`: without this, torch ended a process with SIGABRT now and then
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)


_members: Members | None = None


def check(settings: TrainSettings) -> None:
    """VaekitError where this program already trains with another number of processes: it was started so often."""
    count = settings.devices * settings.nodes
    if _members is not None and _members.world != count:
        raise VaekitError(
            f"this program runs in {_members.world} process(es) since its first run and cannot train with {count} now; "
            "start another program for that"
        )


def start(settings: TrainSettings) -> None:
    """Start the other processes of this machine, unless this one was itself started by one, or by torchrun.

    Afterwards the environment says who each is, in the words of torch.distributed. VaekitError where the command
    cannot be run again, or where several machines have not been told of each other.
    """
    global _members
    if _members is not None:
        return
    _members = Members(settings.devices, settings.devices * settings.nodes)
    atexit.register(_members.leave)
    if by_torchrun() or "LOCAL_RANK" in os.environ:
        return _members.watch()
    main: ModuleType = sys.modules["__main__"]
    if settings.devices > 1 and getattr(main, "__file__", None) is None:
        raise VaekitError(
            "several processes are started by running the same program again, and here is none that could be; write a "
            "script, or use the command: vaekit train --devices N"
        )
    if settings.nodes == 1:
        os.environ.update(NODE_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(_free_port()))
    first = int(os.environ["NODE_RANK"]) * settings.devices
    os.environ.update(LOCAL_RANK="0", RANK=str(first), WORLD_SIZE=str(settings.devices * settings.nodes))
    _members.start(first)


def _part() -> None:
    """Close gloo's connections while its threads still run: torch ends a process with SIGABRT now and then where they
    are left to the interpreter's end."""
    from torch import distributed

    if distributed.is_initialized() and distributed.get_backend() == "gloo":
        with contextlib.suppress(Exception):
            distributed.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def together(line: Callable[[str], str]) -> Iterator[None]:
    """While it is entered, the loss of a process ends the run with one line, here and in all the others.

    line: from what happened, e.g. "process 1 was killed by SIGKILL", to the whole line. What fails in one process
    alone is told to the others.
    """
    members = _members
    if members is None:
        yield
        return
    members.line, members.well = line, False
    try:
        yield
        members.well = True
    except Exception as error:
        if is_loss(error):
            _end(members, line, error)
        if by_torchrun():
            error.aloud = _first_to_say()  # type: ignore[attr-defined]
        else:
            who = f"process {os.environ.get('RANK', '')}"
            told = (
                f"{who}: {error}" if isinstance(error, StepError) else line(f"{who} failed ({reason(error)})")
            )
            _with_store(lambda store: store.set(REASON, told))
        members.kill()
        raise
    finally:
        members.line = None


def _end(members: Members, line: Callable[[str], str], error: Exception) -> NoReturn:
    if members.parent is not None:
        members.news.wait(2)  # a process closes its connections a moment before it is gone
        if members.gone is None:
            sys.exit(BEREFT)  # the parent has seen it, too, and says so
    lost = StepError(members.said(line, error))
    lost.aloud = _first_to_say() if by_torchrun() else members.speaks
    members.kill()
    raise lost from error


def _short(error: BaseException) -> str:
    """gloo's and NCCL's own words, without the place in their sources."""
    return reason(RuntimeError(re.sub(r"^\[[^]]*\] ", "", str(error)))).split(". ")[0]


def _with_store(use: Callable[[Any], Any]) -> Any:
    """What `use` makes of the store that the processes met in; None where it is gone with the first of them."""
    from torch.distributed import distributed_c10d

    with contextlib.suppress(Exception):
        store = distributed_c10d._get_default_store()
        store.set_timeout(timedelta(seconds=5))
        return use(store)
    return None


def _told() -> str | None:
    """What a process that failed by itself has told the others."""
    known = _with_store(lambda store: store.check([REASON]) and store.get(REASON))
    return known.decode() if known else None


def _first_to_say() -> bool:
    """Of processes that nobody of us has started, one speaks."""
    return _with_store(lambda store: store.add("vaekit/said", 1)) in (1, None)
