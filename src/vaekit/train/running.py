"""A run on opened data: `begin` resolves what is open and makes its folder, `carry_out` trains into it and opens it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaekit.errors import VaekitError
from vaekit.train.given import Say

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vaekit.data import Data
    from vaekit.recipe import Recipe, TrainSettings
    from vaekit.run import Run, RunFolder
    from vaekit.train.outcome import Outcome


class InterruptedRun(KeyboardInterrupt):
    """Ctrl-C or SIGTERM, after everything was saved; the message says how to go on."""


def begin(
    chosen: Recipe, opened: Data, output: str | os.PathLike[str] | None, say: Say, *,
    nets: Mapping[str, nn.Module] | None = None, allow: Collection[str] = (), progress: bool | None = None,
    start: Mapping[str, Tensor] | None = None,
) -> Run:  # fmt: skip
    """Start a run on opened data: resolve all that is open, make the folder, train. `start`: the weights that
    `train.start` stands for, where they are not those of its file."""
    from vaekit import recipe as room
    from vaekit.run import RunFolder
    from vaekit.train import machine
    from vaekit.train.automatic import decide
    from vaekit.train.effort import multiply_adds
    from vaekit.train.starting import freeze, kept_start, weights_at

    if fitted_after(chosen):
        assert chosen.prior.trained is not None
        say(
            f"the recipe's {chosen.prior.kind} was fitted after training: this run has {chosen.prior.trained.kind}, as "
            "that one had, until vaekit fit-prior fits another"
        )
        chosen = chosen.as_trained()
    resolved = room.resolve(chosen, opened.contract, nets=nets, allow=allow)
    for note in resolved.notes:
        say(note)
    objective = room.build(resolved, opened.contract, nets=nets, allow=allow)
    if not objective.model.likelihood.gives_density(opened.contract.kind):  # type: ignore[operator]
        say(
            f"{resolved.likelihood.kind} on {opened.contract.kind} values is a cross-entropy, not a likelihood: this run "
            "has no NLL; --binarize gives one"
        )
    weights = list(objective.parameters())
    parameters = sum(p.numel() for p in weights)
    settings, reasons = decide(
        chosen.train,
        n_train=len(opened.train),
        model_tensors=len(weights),
        multiply_adds=multiply_adds(objective, opened, resolved.model.condition == "label"),
    )
    if settings.frozen:
        freeze(objective, settings.frozen)
    if settings.start is not None:
        settings = settings.model_copy(update={"start": kept_start(settings.start)})
        start = start or weights_at(str(settings.start), objective.model)
    resolved = resolved.model_copy(update={"train": settings})
    fabric = machine.start(settings)
    name = (
        opened.contract.source
        if resolved.name in ("", opened.contract.source)
        else (f"{opened.contract.source}-{resolved.name}")
    )
    path = refusal = ""
    if fabric.global_rank == 0:
        try:
            made = RunFolder.create(output, name)
            made.write_recipe(resolved)
            made.write_contract(opened.contract)
            made.write_environment()
            if start is not None:
                made.write_start(start)
            path = str(made.path)
        except VaekitError as error:
            refusal = str(error)
    path, refusal = fabric.broadcast((path, refusal))  # every process goes on, or none
    if refusal:
        raise VaekitError(refusal)
    if settings.nodes > 1:
        import torch

        blind = torch.tensor(float(not Path(path).is_dir()), device=fabric.device)
        if blind_processes := int(fabric.all_reduce(blind, reduce_op="sum")):  # type: ignore[arg-type]
            raise VaekitError(
                f"{blind_processes} of the processes cannot see {path}; give -o a folder that all nodes share"
            )
    folder = RunFolder(path)
    say(
        f"{parameters:,} parameters, latent {resolved.model.latent}, {_epochs(settings.epochs)}, "
        f"batch {settings.batch_size}, {settings.device} {settings.precision} ({reasons['precision']}), "
        f"{_processes(settings)}{settings.threads} thread{'s' * (settings.threads != 1)}, "
        f"{'compiled' if settings.compile else 'not compiled'} ({reasons['compile']})"
    )
    return carry_out(
        resolved,
        opened,
        folder,
        say,
        nets=nets,
        allow=allow,
        progress=progress,
        objective=objective,
        fabric=fabric,
    )


def carry_out(
    recipe: Recipe, opened: Data, folder: RunFolder, say: Any, *, nets: Mapping[str, nn.Module] | None,
    allow: Collection[str], progress: bool | None, resume: bool = False, changed: bool = False, objective: Any = None,
    fabric: Any = None,
) -> Run:  # fmt: skip
    """Train into a folder that exists, draw the pictures, open the run."""
    import torch

    from vaekit import recipe as room
    from vaekit.run import load
    from vaekit.train import checkpoint
    from vaekit.train.automatic import decide
    from vaekit.train.look import look, peek
    from vaekit.train.loop import train
    from vaekit.train.machine import start
    from vaekit.train.plan import Plan
    from vaekit.train.starting import begin_with

    if objective is None:
        objective = room.build(recipe, opened.contract, nets=nets, allow=allow)
    if changed:
        recipe = recipe.model_copy(update={"train": decide(recipe.train, n_train=len(opened.train))[0]})
    settings = recipe.train
    fabric = fabric or start(settings)
    if changed:
        state = checkpoint.load(folder.checkpoint, torch.device("cpu"))
        if state is not None:
            checkpoint.check(state, settings, Plan.of(settings, len(opened.train)))
            if settings.epochs is not None and settings.epochs < state["epoch"]:
                raise VaekitError(
                    f"train.epochs={settings.epochs}, but {folder.path} has done {state['epoch']} epochs; ask for more"
                )
        if fabric.global_rank == 0:
            folder.write_recipe(recipe)  # only now: a change that is refused must leave the run as it was
    if settings.start is not None:
        begin_with(objective.model, folder)
    condition = recipe.model.condition == "label"
    shown = opened.test or opened.valid or opened.train

    def watch(epoch: int, model: Any) -> None:
        # pictures at powers of two: many early on, when most happens
        every, last = settings.picture_every, epoch == settings.epochs
        if settings.pictures and (epoch & (epoch - 1) == 0 or last or (every and epoch % every == 0)):
            peek(
                model, opened.contract, shown, folder.pictures / f"epoch-{epoch:04d}.png", condition=condition
            )

    outcome = train(
        objective,
        opened,
        settings,
        folder,
        condition=condition,
        resume=resume,
        progress=progress,
        fabric=fabric,
        on_epoch=watch,
    )
    _interrupted(outcome, folder)
    if fabric.global_rank == 0 and settings.pictures:
        objective.model.load_state_dict(outcome.weights)
        look(
            objective.model, opened.contract, shown, folder.read_metrics(), folder.pictures, seed=settings.seed,
            condition=condition,
            # a map of a few hundred points shows little: a small test set leaves it to the training rows
            mapped=opened.train if len(shown) < 1000 else shown,
        )  # fmt: skip
    with contextlib.suppress(RuntimeError):  # the run is whole, whatever becomes of the others now
        fabric.barrier()
    say(_verdict(outcome, folder, settings.pictures))
    run = load(folder.path, nets=nets, allow=allow)
    run.own = opened  # an array has no path to be opened from again
    return run


def fitted_after(recipe: Recipe) -> bool:
    """Whether the prior was fitted to a trained model, and is not frozen with it."""
    return recipe.prior.trained is not None and "prior" not in recipe.train.frozen


def _interrupted(outcome: Outcome, folder: RunFolder) -> None:
    if outcome.reason == "interrupted":
        raise InterruptedRun(
            f"interrupted at step {outcome.steps:,}, all saved; go on with: vaekit train --resume {folder.path}"
        )


def _verdict(outcome: Outcome, folder: RunFolder, pictures: bool) -> str:
    """One line on how it ended and where to look."""
    best = ""
    if outcome.best_value is not None:
        which = "best " if outcome.best_epoch != outcome.epochs else ""
        best = f", {which}validation loss {outcome.best_value:.2f} nats at epoch {outcome.best_epoch}"
    skipped = f", {outcome.skipped} steps skipped" if outcome.skipped else ""
    found = f", the doctor found {' and '.join(outcome.ailments)}" if outcome.ailments else ""
    where = f"look at {folder.pictures}" if pictures else f"the run is {folder.path}"
    return f"{outcome.reason} after {_epochs(outcome.epochs)}, {outcome.seconds:.1f} s{best}{skipped}{found}; {where}"


def _processes(settings: TrainSettings) -> str:
    """`2 processes (ddp) with ` for the line that says what was chosen, or nothing."""
    count = settings.devices * settings.nodes
    strategy = "ddp" if settings.strategy == "auto" else settings.strategy
    return f"{count} processes ({strategy}) with " if count > 1 else ""


def _epochs(count: int | None) -> str:
    return f"{count} epoch{'s' * (count != 1)}"
