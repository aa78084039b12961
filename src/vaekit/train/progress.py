"""What a person sees of a run, on stderr: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

from vaekit.train.ledger import Ledger
from vaekit.train.plan import Plan

REFRESH = 0.25  # seconds between looks at the device
LINE_EVERY = 15.0  # seconds between lines where there is no terminal

# What the house calls rate and distortion, in the words of people who meet them for the first time.
SHOWN = (("distortion", "reconstruction"), ("rate", "KL"))


class Progress:
    """The contract, and the silent one. `unit` is what the rows are called."""

    unit = "images"

    def begin(self, plan: Plan, step: int) -> None:
        """Training starts, or goes on, before `step`."""

    def step(self, step: int, images: int, ledger: Ledger) -> None:
        """`step` steps in all, and `images` images since `begin`, are done; `ledger` holds the terms."""

    def epoch(self, record: dict[str, Any]) -> None:
        """An epoch is done and this is its line of metrics."""

    def say(self, text: str) -> None:
        """A sentence for the person."""

    def end(self) -> None:
        """Training stops."""


class Wordless(Progress):
    """Another's bar or lines, without the sentences in between."""

    def __init__(self, shown: Progress) -> None:
        self.shown = shown

    def begin(self, plan: Plan, step: int) -> None:
        self.shown.unit = self.unit
        self.shown.begin(plan, step)

    def step(self, step: int, images: int, ledger: Ledger) -> None:
        self.shown.step(step, images, ledger)

    def epoch(self, record: dict[str, Any]) -> None:
        self.shown.epoch(record)

    def end(self) -> None:
        self.shown.end()


class Lines(Progress):
    """A plain line every so often: for logs and pipes."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.plan: Plan | None = None
        self.last = self.started = self.first_step = 0.0

    def begin(self, plan: Plan, step: int) -> None:
        self.plan, self.first_step = plan, step
        self.last = self.started = time.monotonic()

    def epoch(self, record: dict[str, Any]) -> None:
        assert self.plan is not None
        now, last_epoch = time.monotonic(), record["epoch"] == self.plan.epochs
        if record["epoch"] > 1 and not last_epoch and now - self.last < LINE_EVERY:
            return
        self.last = now
        per_step = (now - self.started) / max(1, record["step"] - self.first_step)
        left = "" if last_epoch else f" · {clock(per_step * (self.plan.steps - record['step']))} left"
        speed = f" · {record['time']['images_per_second']:,.0f} {self.unit}/s"
        self.say(f"epoch {record['epoch']}/{self.plan.epochs}{nats(record)}{speed}{left}")

    def say(self, text: str) -> None:
        print(text, file=self.stream, flush=True)


class Bar(Progress):
    """A bar by rich, a few times a second: the only looks at the device between epochs are its own."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress

        self.console = Console(stderr=True)
        self.bar = RichProgress(
            TextColumn("epoch {task.fields[epoch]}"), BarColumn(bar_width=None),
            TextColumn("step {task.completed}/{task.total}"), TextColumn("{task.fields[speed]}"),
            TextColumn("{task.fields[left]}"), TextColumn("{task.fields[terms]}"),
            console=self.console, auto_refresh=False, transient=False,
        )  # fmt: skip
        self.valid = ""

    def begin(self, plan: Plan, step: int) -> None:
        self.plan, self.last, self.seen_step, self.seen_images = plan, time.monotonic(), step, 0
        self.steps_per_second = self.speed = 0.0
        self.task = self.bar.add_task(
            "", total=plan.steps, completed=step, epoch=f"0/{plan.epochs}", speed="", left="", terms=""
        )
        self.bar.start()

    def step(self, step: int, images: int, ledger: Ledger) -> None:
        now = time.monotonic()
        if now - self.last < REFRESH and step < self.plan.steps:
            return
        passed = max(1e-6, now - self.last)
        keep = 0.8 if self.speed else 0.0
        self.speed = keep * self.speed + (1 - keep) * (images - self.seen_images) / passed
        self.steps_per_second = keep * self.steps_per_second + (1 - keep) * (step - self.seen_step) / passed
        self.last, self.seen_step, self.seen_images = now, step, images
        epoch = min(self.plan.epochs, step // self.plan.steps_per_epoch + 1)
        means = ledger.means()  # a device sync
        left = (self.plan.steps - step) / self.steps_per_second if self.steps_per_second else None
        self.bar.update(
            self.task, completed=step, epoch=f"{epoch}/{self.plan.epochs}",
            speed=f"{self.speed:,.0f} {self.unit}/s", left="" if left is None else f"{clock(left)} left",
            terms=nats(means, prefix="").removeprefix(" · "), refresh=True,
        )  # fmt: skip

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True, markup=False)

    def end(self) -> None:
        self.bar.stop()


def nats(record: dict[str, Any], prefix: str = "train_") -> str:
    """` · reconstruction 21.3 + KL 8.9 nats`, with the validation loss where there is one."""
    parts = [
        f"{word} {record[prefix + key]:.1f}" for key, word in SHOWN if record.get(prefix + key) is not None
    ]
    if not parts and record.get(prefix + "loss") is not None:
        parts = [f"loss {record[prefix + 'loss']:.1f}"]
    text = f" · {' + '.join(parts)} nats" if parts else ""
    if record.get("valid_loss") is not None:
        text += f" · validation {record['valid_loss']:.1f}"
    return text


def clock(seconds: float) -> str:
    """`8 s`, `3:05`, `1:02:09`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def choose(progress: Progress | bool | None, rank: int) -> Progress:
    """The caller's own; a bar on a terminal; elsewhere lines for True and silence for None.

    Silence for False, and on ranks other than 0.
    """
    if rank or progress is False:
        return Progress()
    if isinstance(progress, Progress):
        return progress
    if sys.stderr.isatty():
        return Bar()
    return Lines() if progress else Progress()
