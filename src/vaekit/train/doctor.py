"""The doctor: looks at the model after every validation, and says each illness once, when it is sure of it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from vaekit.data import Batches, Contract
from vaekit.model import VAE
from vaekit.recipe.settings import TrainSettings
from vaekit.run.looking import looking
from vaekit.train.ailments import AILMENTS, Sight
from vaekit.train.examine import Examination, Readings
from vaekit.train.plan import Plan
from vaekit.train.trouble import reason

IN_A_ROW = 3  # validations: a sign that comes and goes is noise
# of training, and steps: a healthy model may sleep for its first hundreds, and averaged weights look back a thousand
RIPE, RIPE_STEPS = 0.2, 1000
FULL = 0.99  # of the KL's final weight: below it the warm-up is not over


@dataclass(frozen=True)
class Visit:
    """What a visit leaves: terms for the line of metrics, and findings [{"code", "values", "text"}] that are new."""

    terms: dict[str, float] = field(default_factory=dict)
    findings: list[dict[str, Any]] = field(default_factory=list)


class Doctor:
    """Findings over a run. It keeps its silence while a warm-up lasts and until a sign has come three times in a
    row; at the last validation one time is enough, since short runs have few. A model that heals before that was
    never ill. `state_dict` is for the checkpoint: a resume does not repeat what was said.

    valid: the rows to look at; None where there are none, or where another process looks.
    """

    def __init__(
        self, objective: nn.Module, settings: TrainSettings, plan: Plan, contract: Contract, train: Batches,
        valid: Batches | None, preparation: nn.Module,
    ) -> None:  # fmt: skip
        self.objective, self.settings, self.plan = objective, settings, plan
        self.elements = math.prod(contract.shape)
        self.examination: Examination | None = None
        if valid is not None:
            self.examination = Examination(train, valid, preparation, contract, 2 * plan.batch, settings.seed)
        self.seen: Counter[str] = Counter()  # validations in a row, by code
        self.said: list[str] = []
        self.start: float | None = None  # the loss that training set out from, nats
        self.start_gap = 0.0  # how much more that of the validation rows was
        self.lowest, self.lowest_epoch, self.since = math.inf, 0, 0

    def visit(
        self, model: nn.Module, epoch: int, step: int, train: dict[str, float], valid: dict[str, float], last: bool
    ) -> Visit:  # fmt: skip
        """Look at the model after a validation. What fails there does not end a run, but the doctor stays away."""
        if self.examination is None or not valid:
            return Visit()
        readings = Readings(0)
        try:
            if isinstance(model, VAE):
                with looking(model):
                    readings = self.examination(model)
            findings = self.judge(readings, epoch, step, train, valid, last)
        except Exception as error:
            self.examination = None
            text = f"cannot look at the model after epoch {epoch} and stays away: {reason(error)}"
            return Visit(findings=[{"code": "away", "values": {}, "text": text}])
        return Visit({} if readings.active is None else {"active": readings.active}, findings)

    def judge(
        self, readings: Readings, epoch: int, step: int, train: dict[str, float], valid: dict[str, float], last: bool
    ) -> list[dict[str, Any]]:  # fmt: skip
        """What is new at this validation: [{"code", "values", "text"}]. Terms in nats, as the loop logs them."""
        loss, first = valid.get("loss", math.nan), train.get("loss", math.nan)
        if self.start is None:
            self.start, self.start_gap = max(first, loss), max(0.0, loss - first)
        self.since += 1
        if loss < self.lowest:
            self.lowest, self.lowest_epoch, self.since = loss, epoch, 0
        if not last and not self.steady(train, valid):
            self.seen.clear()
            return []
        ripe = step >= RIPE_STEPS and (last or self.plan.done(step) >= RIPE)
        sight = Sight(
            readings, self.elements, ripe, last, step, train, valid, self.start, self.start_gap, self.lowest,
            self.lowest_epoch, self.since, self.objective, self.settings,
        )  # fmt: skip
        findings = []
        for ailment in AILMENTS:
            values = ailment.sign(sight)
            self.seen[ailment.code] = 0 if values is None else self.seen[ailment.code] + 1
            sure = self.seen[ailment.code] >= (1 if last else IN_A_ROW)
            if values is not None and sure and ailment.code not in self.said:
                self.said.append(ailment.code)
                text = ailment.text.format(**values, advice=ailment.advice(sight))
                known = {name: round(v, 4) if math.isfinite(v) else None for name, v in values.items()}
                findings.append({"code": ailment.code, "values": known, "text": text})
        return findings

    def steady(self, train: dict[str, float], valid: dict[str, float]) -> bool:
        """Whether the KL weighs in training what it weighs in the end, so that the state is one to judge."""
        if getattr(self.objective, "capacity", None) is not None:
            return False  # it rises until the end
        return train.get("beta", 1.0) >= FULL * valid.get("beta", 1.0)

    @property
    def ailments(self) -> tuple[str, ...]:
        """What was said and still holds, in words."""
        return tuple(a.name for a in AILMENTS if a.code in self.said and self.seen[a.code])

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "seen": dict(self.seen), "said": list(self.said), "start": self.start, "start_gap": self.start_gap,
            "lowest": self.lowest, "lowest_epoch": self.lowest_epoch, "since": self.since,
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.seen, self.said = Counter(state["seen"]), list(state["said"])
        self.start, self.start_gap = state["start"], state["start_gap"]
        self.lowest, self.lowest_epoch, self.since = state["lowest"], state["lowest_epoch"], state["since"]
