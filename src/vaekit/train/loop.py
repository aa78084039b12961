"""The one training loop."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor, nn

from vaekit.data import Batches, Preparation
from vaekit.errors import VaekitError
from vaekit.recipe.settings import TrainSettings
from vaekit.train import checkpoint, trouble
from vaekit.train.best import Best
from vaekit.train.company import Company
from vaekit.train.doctor import Doctor
from vaekit.train.interrupt import Interrupt
from vaekit.train.ledger import ROWS
from vaekit.train.machine import start, working
from vaekit.train.outcome import Outcome, metrics_line
from vaekit.train.plan import Plan
from vaekit.train.processes import Place, is_loss, together
from vaekit.train.progress import Progress, choose
from vaekit.train.steps import Steps
from vaekit.train.validate import validate

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Watch = Callable[[int, nn.Module], None]
AGREE_EVERY = 32  # steps between looks at the signals of other processes


def train(
    objective: nn.Module,
    data: Any,
    settings: TrainSettings,
    folder: Any,
    *,
    condition: bool = False,
    resume: bool = False,
    progress: Progress | bool | None = None,
    fabric: Fabric | None = None,
    on_epoch: Watch | None = None,
) -> Outcome:
    """Train `objective` on `data.train`; metrics, best weights and checkpoints go to the run folder.

    settings: resolved. resume: go on from `folder.checkpoint`, or afresh where there is none; where `epochs`
        has changed the schedule is planned anew.
    progress: True for a bar on a terminal and lines elsewhere, None for a bar on a terminal only.
    fabric: what `machine.start` gave, where the caller needed the processes earlier.
    on_epoch: called after each epoch with its number and the model as it would be shipped, in eval mode.

    Ctrl-C or SIGTERM saves after the current step and returns an "interrupted" outcome. The objective is left
    in eval mode with the last weights; `Outcome.weights` are the best model's.

    Raises VaekitError for settings or data that do not fit, and StepError (a VaekitError) if a step fails.
    """
    open_choices = [name for name, value in settings if value == "auto" and name != "strategy"]
    if open_choices or settings.epochs is None:
        raise VaekitError(
            f"train.{(open_choices or ['epochs'])[0]} is not chosen yet; call vaekit.train.resolve first"
        )
    fabric = fabric or start(settings)
    shown = choose(progress, fabric.global_rank)
    shown.unit = "images" if data.contract.is_image else "rows"
    place = Place(folder)
    with working(settings, fabric.device), Interrupt() as interrupt, together(place.lost):
        loop = Loop(objective, data, settings, folder, condition, fabric, shown, interrupt, on_epoch, place)
        try:
            if resume:
                loop.resume()
            outcome = loop.run()
            loop.steps.gather(judged=False)
            fabric.barrier()  # a process that leaves early would abort the others' last exchange
            return outcome
        finally:
            loop.progress.end()
            loop.steps.updates.zero_grad()
            for batches in (loop.batches, loop.valid_batches):
                if batches is not None:
                    batches.close()
            objective.eval()


class Loop:
    """A run in progress. `state_dict` is all that a resume needs; the rest follows from the settings."""

    def __init__(
        self, objective: nn.Module, data: Any, settings: TrainSettings, folder: Any, condition: bool,
        fabric: Fabric, progress: Progress, interrupt: Interrupt, on_epoch: Watch | None, place: Place,
    ) -> None:  # fmt: skip
        self.place = place
        self.settings, self.folder, self.fabric, self.on_epoch = settings, folder, fabric, on_epoch
        self.progress, self.interrupt, self.rank = progress, interrupt, fabric.global_rank
        self.started = time.monotonic()
        self.notes: list[str] = []
        self.plan = Plan.of(settings, len(data.train))
        contract, device = data.contract, fabric.device
        self.preparation = Preparation(contract).to(device)
        self.batches = Batches(data.train, contract, device, condition=condition, mirror=data.mirror)
        self.valid_batches: Batches | None = None
        if data.valid is not None and len(data.valid):
            self.valid_batches = Batches(data.valid.frozen(contract), contract, device, condition=condition)
        elif settings.patience is not None:
            self.note("there are no validation rows, so train.patience has nothing to watch")
        self.steps = Steps(objective, self.preparation, self.batches, self.plan, settings, fabric, self.note)
        self.company = Company(1 if settings.deterministic else int(settings.threads))
        self.best, self.pace = Best(settings.patience, settings.keep), checkpoint.Pace()
        # one process looks, and asks nothing of the others
        seen = self.valid_batches if self.rank == 0 else None
        self.doctor = Doctor(objective, settings, self.plan, contract, self.batches, seen, self.preparation)
        self.epoch = self.position = self.step = self.images = 0
        self.record: dict[str, Any] | None = None

    def resume(self) -> None:
        """Take over the checkpoint, drop what was logged after it, and say what changes."""
        # of shared-out weights a device may not hold the whole
        whole = self.settings.strategy != "fsdp"
        state = checkpoint.load(self.folder.checkpoint, self.fabric.device if whole else torch.device("cpu"))
        if state is not None:
            checkpoint.check(state, self.settings, self.plan)
        if self.rank == 0:
            self.folder.drop_metrics_after(state["epoch"] if state else 0)
        if state is None:
            return self.note("no checkpoint was written yet: the run starts afresh")
        self.load_state_dict(state)
        self.place.step = self.place.saved = self.step
        before, now = state["settings"]["epochs"], self.plan.epochs
        if before != now and self.epoch < now:
            self.best.waited = 0
            self.note(
                f"{now} epochs instead of {before}: the schedule is planned anew over all {now}, and "
                f"training goes on at step {self.step} of {self.plan.steps}"
            )

    def note(self, text: str) -> None:
        """Say it, and keep it for the outcome."""
        self.notes.append(text)
        self.progress.say(text)

    def run(self) -> Outcome:
        """Epochs until the plan is done, patience ends or a signal comes."""
        if self.epoch >= self.plan.epochs or self.best.out_of_patience:
            self.write_model()
            return self.outcome("nothing to do")
        self.progress.begin(self.plan, self.step)
        while self.epoch < self.plan.epochs and not self.best.out_of_patience:
            started, images = time.monotonic(), self.images
            while self.position < self.plan.steps_per_epoch:
                self.take_step()
                stop, save = self.asked()
                if stop:
                    return self.interrupted()
                if save:
                    self.write(within_epoch=True)
            if not self.finish_epoch(started, images):
                return self.interrupted()
        return self.outcome("stopped early" if self.epoch < self.plan.epochs else "finished")

    def take_step(self) -> None:
        """One step, and a look now and then at what the steps did."""
        try:
            self.images += self.steps.take(self.epoch, self.position, self.step)
        except Exception as error:
            self.fail(error)
        self.step, self.position = self.step + 1, self.position + 1
        self.company.look()
        self.place.step = self.step
        if self.step % ROWS == 0 or self.step == self.plan.steps:
            self.look_at_skips()
        self.progress.step(self.step, self.images, self.steps.ledger)

    def finish_epoch(self, started: float, images: int) -> bool:
        """Validate, log, judge, checkpoint. False, with nothing changed, if a signal came before the log."""
        number, last = self.epoch + 1, self.epoch + 1 == self.plan.epochs
        means = self.steps.ledger.means(self.steps.reduce)  # the device sync of the log line
        seconds = max(1e-9, time.monotonic() - started)
        valid: dict[str, float] = {}
        if self.valid_batches is not None and (number % self.settings.validate_every == 0 or last):
            seen = self.validate()
            if seen is None:
                return False
            valid = seen
        self.steps.gather()
        if valid:
            self.best.judge(number, valid["loss"], lambda: checkpoint.weights_of(self.model))
        ends = last or self.best.out_of_patience
        visit = self.doctor.visit(self.model, number, self.step, means, valid, ends)
        self.record = metrics_line(
            number, self.step, means, valid | visit.terms, self.steps.ledger.updates(),
            self.plan.rate(self.step - 1), seconds, self.images - images, visit.findings,
        )  # fmt: skip
        if self.rank == 0:
            self.folder.append_metrics(self.record)
        self.epoch, self.position = number, 0
        self.steps.ledger.clear()
        self.progress.epoch(self.record)
        for finding in visit.findings:
            self.progress.say(f"doctor: {finding['text']}")
        self.watch()
        if ends or self.agreed(self.pace.due())[0]:
            self.write()
        return True

    def watch(self) -> None:
        """Let the caller look at the model as it would be shipped. What fails there does not end a run."""
        if self.on_epoch is None or self.rank:
            return
        judged = self.steps.shown
        training = judged.training
        try:
            self.on_epoch(self.epoch, self.model.eval())
        except Exception as error:
            self.note(f"looking at the model after epoch {self.epoch} failed: {trouble.reason(error)}")
            self.on_epoch = None
        finally:
            judged.train(training)

    def validate(self) -> dict[str, float] | None:
        """Terms over the validation rows, of the averaged weights where there are some."""
        with self.fabric.autocast():
            return validate(
                self.steps.judged, self.preparation, self.valid_batches, batch=2 * self.plan.batch,
                seed=self.settings.seed, device=self.fabric.device, rank=self.rank,
                processes=self.plan.processes, reduce=self.steps.reduce,
                stop=lambda: self.plan.processes == 1 and self.interrupt.signal is not None,
            )  # fmt: skip

    def asked(self) -> tuple[bool, bool]:
        """Whether a signal came, and whether a checkpoint within the epoch is due; several processes look together
        now and then, to do it at one step."""
        within, every = self.position < self.plan.steps_per_epoch, self.settings.checkpoint_every
        stop = late = False
        if self.plan.processes == 1 or self.step % AGREE_EVERY == 0 or not within:
            stop, late = self.agreed(self.interrupt.signal is not None, self.pace.overdue())
        return stop, within and (late or bool(every and self.step % every == 0))

    def agreed(self, *flags: bool) -> list[bool]:
        """Which of these flags any process has; all of them must call it."""
        if self.plan.processes == 1:
            return list(flags)
        return (self.steps.reduce(torch.tensor(flags, device=self.fabric.device).float()) > 0).tolist()

    # -- what stays

    @property
    def model(self) -> nn.Module:
        """The model to ship: averaged where there is an average."""
        return getattr(self.steps.shown, "model", self.steps.shown)

    @property
    def weights(self) -> dict[str, Tensor]:
        """The best weights, or the latest as long as nothing was validated."""
        return self.best.weights if self.best.weights is not None else checkpoint.weights_of(self.model)

    def state_dict(self, within_epoch: bool) -> dict[str, Any]:
        """All that a resume needs; within an epoch all processes must call it."""
        return {
            "version": checkpoint.VERSION, "settings": self.settings.model_dump(mode="json"),
            "n": self.plan.n, "epoch": self.epoch, "position": self.position, "step": self.step,
            **self.steps.state_dict(within_epoch), "best": self.best.state_dict(),
            "doctor": self.doctor.state_dict(),
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.epoch, self.position, self.step = state["epoch"], state["position"], state["step"]
        self.steps.load_state_dict(state)
        self.best.load_state_dict(state["best"])
        if "doctor" in state:  # a checkpoint of a vaekit that had none
            self.doctor.load_state_dict(state["doctor"])

    def write(self, within_epoch: bool = False) -> None:
        """The best model, then the checkpoint that knows of it; their line of metrics was there before."""
        since, state = time.monotonic(), self.state_dict(within_epoch)
        if self.best.weights is None:
            self.steps.gather()
        if self.rank == 0:
            self.write_model()
            checkpoint.save(self.folder.checkpoint, state)
        self.pace.wrote(since)
        self.place.saved = self.step

    def write_model(self) -> None:
        """`model.safetensors`, where the file does not hold these weights yet."""
        if self.rank == 0 and (self.best.weights is None or self.best.unwritten):
            self.folder.write_model(self.weights)
            self.best.unwritten = False

    # -- endings

    def outcome(self, reason: str) -> Outcome:
        """How it ended."""
        return Outcome(
            reason=reason, epochs=self.epoch, steps=self.step, best_epoch=self.best.epoch,
            best_value=self.best.value, skipped=sum(self.steps.ledger.skipped.values()),
            seconds=time.monotonic() - self.started, record=self.record, notes=tuple(self.notes),
            signal=self.interrupt.signal, weights=self.weights, ailments=self.doctor.ailments,
        )  # fmt: skip

    def interrupted(self) -> Outcome:
        """Save within the epoch and note how to go on."""
        self.write(within_epoch=True)
        self.notes.append(
            f"stopped by {self.interrupt.signal or 'another process'} after step {self.step} of "
            f"{self.plan.steps}, all saved; go on with: vaekit train --resume {trouble.home(self.folder)}"
        )
        return self.outcome("interrupted")

    def fail(self, error: Exception) -> NoReturn:
        """Raise a StepError that names the place; the state before the step is saved if it is whole."""
        if is_loss(error):
            raise error
        self.steps.abandon()
        text = trouble.crash(error, self.steps, self.folder, self.step + 1, self.epoch + 1)
        raise trouble.StepError(f"{text}; {self.keep_last(self.steps.whole)}") from error

    def look_at_skips(self) -> None:
        """Stop a run that skips step after step: StepError. A device sync."""
        last = self.step == self.plan.steps
        text = trouble.skips(self.steps, self.folder, self.step, self.epoch + 1, last)
        if text is not None:
            raise trouble.StepError(f"{text}; {self.keep_last(True)}")

    def keep_last(self, whole: bool) -> str:
        """Write the last good state where that is possible, and say where it is."""
        if whole and self.plan.processes == 1:
            with contextlib.suppress(VaekitError):
                self.write()
                return "the last good state is in last.ckpt"
        return self.place.kept
