"""A progress bar on stderr for work that a person waits for."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def bar(what: str, total: int, unit: str, *, show: bool = True) -> Iterator[Callable[[int], None]]:
    """Yield `advance(n)`. Rate and remaining time are shown on a terminal; elsewhere nothing is printed."""
    if not (show and sys.stderr.isatty()):
        yield lambda n: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining
    from rich.progress import TransferSpeedColumn as Speed

    rate = TextColumn("{task.fields[rate]}")
    columns = (DownloadColumn(), Speed()) if unit == "bytes" else (MofNCompleteColumn(), rate)
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), *columns, Remaining(), console=console, transient=True
    ) as progress:
        task = progress.add_task(what, total=total, rate="")

        def advance(n: int) -> None:
            progress.advance(task, n)
            speed = progress.tasks[0].speed
            if speed:
                shown = f"{speed:,.0f}" if speed >= 10 else f"{speed:.2g}"
                progress.update(task, rate=f"{shown} {unit}/s")

        yield advance
