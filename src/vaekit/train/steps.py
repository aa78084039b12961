"""Steps: rows in, better weights out. Nothing here waits for the device."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from vaekit.recipe.settings import TrainSettings
from vaekit.train import alike, sharded, trouble
from vaekit.train.average import Average, Buffers
from vaekit.train.ledger import Ledger
from vaekit.train.machine import seed_noise
from vaekit.train.optimise import Updates, check_players, players_of
from vaekit.train.plan import Plan, mix
from vaekit.train.starting import freeze
from vaekit.train.step import Step
from vaekit.train.whole import Whole, fits

if TYPE_CHECKING:
    from lightning_fabric import Fabric

FIRST_ROWS = 1024  # rows that `initialise` sees


class Steps:
    """The objective with all that moves it: optimisers, average, buffers, noise; and the ledger of it."""

    def __init__(
        self, objective: nn.Module, preparation: nn.Module, batches: Any, plan: Plan, settings: TrainSettings,
        fabric: Fabric, say: Callable[[str], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self.plan, self.settings, self.fabric, self.say = plan, settings, fabric, say
        self.rank, self.device = fabric.global_rank, fabric.device
        self.batches, self.preparation = batches, preparation
        self.objective = objective.to(self.device).train()
        if settings.frozen:
            freeze(self.objective, settings.frozen)
        self.t = torch.zeros((), device=self.device)
        self.rows, self.whole = np.zeros(0, np.int64), True
        self._order, self._order_of = np.zeros(0, np.int64), -1
        self._initialise()
        self.average = Average(objective, settings.ema) if settings.ema is not None else None
        self.copy: nn.Module | None = None
        if settings.strategy == "fsdp":
            self._share_out()
        self.updates = Updates(self.objective, settings, self.device)
        self.ledger = Ledger(self.updates.names, self.device)
        self.buffers = Buffers(self.objective)
        self.raw_step = Step(preparation, self.objective)
        whole = settings.compile is True and fits(settings, plan.processes)
        self.compiled = Whole(self.raw_step, self.updates, self.average, settings) if whole else None
        module: Any = self.raw_step
        if settings.compile is True and not whole:
            module = torch.compile(module)
        self.module = fabric.setup_module(module)

    def _initialise(self) -> None:
        """Let the parts start from the data, and look at a first batch."""
        seed_noise(self.device, mix(self.settings.seed, "initialise"))
        rows = self.batches.order(self.settings.seed, 0)[: max(self.plan.batch, FIRST_ROWS)]
        raw, c = self.batches.get(rows)
        x = self.preparation(raw)
        initialise: Any = getattr(self.objective, "initialise", None)
        if initialise is not None and self.settings.start is None:
            initialise(x, c, self.plan.n)
        few, few_c = x[: self.plan.batch], None if c is None else c[: self.plan.batch]
        if len(players_of(self.objective)) > 1:
            # On a copy: a forward pass may write buffers, and this is no step.
            check_players(copy.deepcopy(self.objective), few, few_c, self.t)
        if self.plan.processes > 1:
            alike.same_start(self.objective)
            strategy: Any = self.fabric.strategy
            strategy.some_sit_out = alike.some_sit_out(self.objective, few, few_c)

    def _share_out(self) -> None:
        """Each process keeps its part of the weights and of their average; a whole copy stays, to be looked at."""
        strategy: Any = self.fabric.strategy
        self.copy = self.objective.cpu()
        self.objective = copy.deepcopy(self.copy)
        mesh = strategy.device_mesh["data_parallel"]
        for each in [self.objective] + ([] if self.average is None else [self.average.objective.cpu()]):
            sharded.share_out(each, mesh, self.device)
        if self.average is not None:
            self.average.bind(self.objective)
        if self.rank == 0:
            self.copy.to(self.device)  # one process looks

    def take(self, epoch: int, position: int, step: int) -> int:
        """One optimiser step, or a skipped one; returns the number of images.

        `rows` and `whole` say, if it fails, which rows it was and whether the weights are still those before
        it.
        """
        if self._order_of != epoch:
            self._order, self._order_of = self.batches.order(self.settings.seed, epoch), epoch
            self.batches.follow(self.plan.mine(self._order, position, self.rank))
        self.rows, self.whole = self.plan.rows(self._order, position), True
        self.buffers.keep(step)
        if self.compiled is not None and len(self.rows) == self.plan.batch:
            norms, bad, values, count = self._in_one(step)
        else:
            norms, bad, values, count = self._in_parts(step)
        self.buffers.settle(step, bad)
        if self.plan.processes > 1:
            self.buffers.agree(step)
        if self.average is not None:
            self.average.follow(self.buffers)
        self.ledger.add(norms, self.raw_step.names, values, count)
        return len(self.rows)

    def _in_one(self, step: int) -> tuple[Tensor, Tensor, Tensor, int]:
        """The step as one compiled call; without it from now on, if this machine cannot compile it."""
        assert self.compiled is not None
        stage = self._begin(step)
        raw, c = self.batches.get(self.rows)
        toward = 0.0 if self.average is None else self.average.toward(step)
        if not self.compiled.runs(stage):
            self.say(
                "compiling the step, which takes a while; the next run of its kind starts from the cache"
            )
        self.whole = not self.compiled.runs(stage)  # to compile moves nothing
        try:
            return *self.compiled(raw, c, self.t, self.plan.rate(step), toward, stage), len(self.rows)
        except Exception as error:
            if self.compiled.runs(stage):
                raise
            self.compiled = None
            self.say(f"compiling the step failed ({trouble.reason(error)}); training goes on without")
            return self._in_parts(step)

    def _in_parts(self, step: int) -> tuple[Tensor, Tensor, Tensor, int]:
        """Forward and backward, then the optimisers, then the average."""
        losses, values, count = self._gradients(step)
        self.whole = False
        agree = self.reduce if self.plan.processes > 1 else None
        norms, bad = self.updates.apply(losses, self.plan.rate(step), agree)
        self.updates.zero_grad()
        if self.average is not None:
            self.average.update(step)
        return norms, bad, values, count

    def _begin(self, step: int) -> int:
        """The noise and the time of a step; the stage that the objective is in."""
        seed_noise(self.device, mix(self.settings.seed, "step", step, self.rank))
        self.t.fill_(self.plan.done(step))
        objective: Any = self.objective
        return objective.enter(self.plan.done(step)) if hasattr(objective, "enter") else 0

    def _gradients(self, step: int) -> tuple[Tensor, Tensor, int]:
        """Back-propagate the mean loss over the rows: losses [players], terms [names], images of this
        process.

        Each micro-batch weighs what it holds. DDP averages over processes, hence the factor `processes`.
        """
        plan, shares = self.plan, self.plan.shares(self.rows, self.rank)
        if self.copy is not None:  # the weights are gathered by all processes or by none
            shares += [self.rows[:0]] * (plan.micro_steps(self.rows) - len(shares))
        self._begin(step)
        count = sum(len(index) for index in shares)
        losses = values = None
        for number, index in enumerate(shares, 1):
            raw, c = self.batches.get(index if len(index) else self.rows[:1])
            weight = len(index) * plan.processes / len(self.rows)
            waits = number < len(shares)  # other processes hear of the last micro-batch only
            with self.fabric.no_backward_sync(self.module) if waits else contextlib.nullcontext():
                total, each, terms = self.module(raw, c, self.t)
                self.fabric.backward(total if weight == 1 else total * weight)
            if len(shares) == 1:
                return each, terms, count
            part = len(index) / count
            losses = each * part if losses is None else losses + each * part
            values = terms * part if values is None else values + terms * part
        assert losses is not None and values is not None
        return losses, values, count

    def reduce(self, tensor: Tensor) -> Tensor:
        """The sum over processes."""
        if self.plan.processes == 1:
            return tensor
        return self.fabric.all_reduce(tensor.clone(), reduce_op="sum")  # type: ignore[return-value]

    def abandon(self) -> None:
        """After a failure inside a step: back to the state before it, where that is still possible."""
        self.updates.zero_grad()
        if self.whole:
            self.buffers.restore()

    @property
    def judged(self) -> nn.Module:
        """The objective whose weights count: the averaged one where there is an average."""
        return self.objective if self.average is None else self.average.objective

    @property
    def shown(self) -> nn.Module:
        """The judged objective as it can be looked at in one process; where weights are shared out, as last gathered."""
        return self.judged if self.copy is None else self.copy

    def gather(self, judged: bool = True) -> None:
        """Bring the whole copy up to date with the judged weights, or with the latest; all processes must call it."""
        if self.copy is not None:
            self.copy.load_state_dict(sharded.state_of(self.judged if judged else self.objective))

    def state_dict(self, within_epoch: bool) -> dict[str, Any]:
        """For a checkpoint; all processes must call it where weights are shared out, and `within_epoch`, which adds up
        their sums."""
        return {
            "objective": sharded.state_of(self.objective),
            "average": None if self.average is None else sharded.state_of(self.average.objective),
            "updates": self.updates.state_dict(),
            "moving": sorted(self.buffers.moving),
            "ledger": self.ledger.state_dict(
                self.reduce if within_epoch and self.plan.processes > 1 else None
            ),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        sharded.load(self.objective, state["objective"])
        if self.average is not None:
            sharded.load(self.average.objective, state["average"])
        self.updates.load_state_dict(state["updates"])
        self.buffers.moving = set(state["moving"])
        self.ledger.load_state_dict(state["ledger"], first=self.rank == 0)
