"""Steps: rows in, better weights out. Nothing here waits for the device."""

from __future__ import annotations

import contextlib
import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from vaekit.data import permutation
from vaekit.recipe.settings import TrainSettings
from vaekit.train.average import Average, Buffers
from vaekit.train.ledger import Ledger
from vaekit.train.machine import seed_noise
from vaekit.train.optimise import Updates, check_players
from vaekit.train.plan import Plan, mix
from vaekit.train.step import Step

if TYPE_CHECKING:
    from lightning_fabric import Fabric

FIRST_ROWS = 1024  # rows that `initialise` sees


class Steps:
    """The objective with all that moves it: optimisers, average, buffers, noise; and the ledger of it."""

    def __init__(
        self, objective: nn.Module, preparation: nn.Module, batches: Any, plan: Plan, settings: TrainSettings,
        fabric: Fabric,
    ) -> None:  # fmt: skip
        self.plan, self.settings, self.fabric = plan, settings, fabric
        self.rank, self.device = fabric.global_rank, fabric.device
        self.batches, self.preparation = batches, preparation
        self.objective = objective.to(self.device).train()
        self.t = torch.zeros((), device=self.device)
        self.rows, self.whole = np.zeros(0, np.int64), True
        self._order, self._order_of = np.zeros(0, np.int64), -1
        self._initialise()
        self.ledger = Ledger(self.updates.names, self.device)
        self.buffers = Buffers(objective)
        self.average = Average(objective, settings.ema) if settings.ema is not None else None
        self.raw_step = Step(preparation, objective)
        module: Any = torch.compile(self.raw_step) if settings.compile is True else self.raw_step
        self.module, *_ = fabric.setup(module, *self.updates.optimizers.values())

    def _initialise(self) -> None:
        """Let the parts start from the data, and make the optimisers of the players."""
        seed_noise(self.device, mix(self.settings.seed, "initialise"))
        rows = permutation(self.plan.n, self.settings.seed, 0)[: max(self.plan.batch, FIRST_ROWS)]
        raw, c = self.batches.get(rows)
        x = self.preparation(raw)
        initialise: Any = getattr(self.objective, "initialise", None)
        if initialise is not None:
            initialise(x, c, self.plan.n)
        self.updates = Updates(self.objective, self.settings, self.device)
        if len(self.updates.names) > 1:
            few = slice(0, self.plan.batch)
            # On a copy: a forward pass may write buffers, and this is no step.
            check_players(copy.deepcopy(self.objective), x[few], None if c is None else c[few], self.t)

    def take(self, epoch: int, position: int, step: int) -> int:
        """One optimiser step, or a skipped one; returns the number of images.

        `rows` and `whole` say, if it fails, which rows it was and whether the weights are still those before
        it.
        """
        if self._order_of != epoch:
            self._order, self._order_of = permutation(self.plan.n, self.settings.seed, epoch), epoch
        self.rows, self.whole = self.plan.rows(self._order, position), True
        self.buffers.keep(step)
        losses, values, count = self._gradients(step)
        self.whole = False
        agree = self.reduce if self.plan.processes > 1 else None
        norms, bad = self.updates.apply(losses, self.plan.rate(step), agree)
        self.updates.zero_grad()
        self.buffers.settle(step, bad)
        if self.average is not None:
            self.average.update(step, self.buffers)
        self.ledger.add(norms, self.raw_step.names, values, count)
        return len(self.rows)

    def _gradients(self, step: int) -> tuple[Tensor, Tensor, int]:
        """Back-propagate the mean loss over the rows: losses [players], terms [names], images of this
        process.

        Each micro-batch weighs what it holds. DDP averages over processes, hence the factor `processes`.
        """
        plan, shares = self.plan, self.plan.shares(self.rows, self.rank)
        seed_noise(self.device, mix(self.settings.seed, "step", step, self.rank))
        self.t.fill_(plan.done(step))
        count = sum(len(index) for index in shares)
        losses = values = None
        for number, index in enumerate(shares, 1):
            raw, c = self.batches.get(index)
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

    def state_dict(self, within_epoch: bool) -> dict[str, Any]:
        """For a checkpoint; `within_epoch` adds up the processes' sums, so all of them must call it."""
        return {
            "objective": self.objective.state_dict(),
            "average": None if self.average is None else self.average.objective.state_dict(),
            "updates": self.updates.state_dict(),
            "moving": sorted(self.buffers.moving),
            "ledger": self.ledger.state_dict(
                self.reduce if within_epoch and self.plan.processes > 1 else None
            ),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.objective.load_state_dict(state["objective"])
        if self.average is not None:
            self.average.objective.load_state_dict(state["average"])
        self.updates.load_state_dict(state["updates"])
        self.buffers.moving = set(state["moving"])
        self.ledger.load_state_dict(state["ledger"], first=self.rank == 0)
