"""The illnesses a VAE is known for: the sign of each, in numbers, and what to do about it, in one line."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from vaekit.model import VAE
from vaekit.recipe.settings import TrainSettings
from vaekit.train.examine import Readings

Numbers = dict[str, float]

ASLEEP = 0.25  # of the dimensions the data could use: the bound lets superfluous ones sleep, most of them it must not
NO_CODE = 0.1  # nats of KL in all: the noise of sixteen sleeping dimensions
ONE_BIT = math.log(2)  # nats: a code that cannot tell two kinds of rows apart
TOO_FAR = 10.0  # nats a dimension: a posterior 22,000 times narrower than the prior, or codes 4.5 sigma off
EXPLAINS = 0.02  # of the variance around the mean; a code of one useful dimension explains more
APART_FROM_PRIOR = 0.05  # overlap: nineteen in twenty codes lie where next to no draw from the prior does
# and, since in many dimensions a little is enough for that, nats a dimension: a Gaussian cloud of codes that is
# over 1.7 times as wide as the prior ((s^2 - 1) / 2 = 1), or under 0.45 times
WIDER, NARROWER = 1.0, -0.4
AT_FLOOR = 0.25  # nats above the floor: the floor, not the data, decides the density
NOTICED = 1.0  # nats of the validation loss
WORSE = 0.05  # of all that training gained, lost again on validation rows
APART = 0.5  # of all that training gained, not seen on validation rows
RISING = 3  # validations since the lowest
MOVED = 0.02  # learning rate x steps: an adaptive optimiser has moved no weight by more, and 1 / sqrt(fan-in) is larger


@dataclass(frozen=True)
class Sight:
    """All that a sign may be read from, at one validation. Losses in nats, as the objective weighs them."""

    readings: Readings
    elements: int  # values of one x
    ripe: bool  # whether the model has had the time to wake up
    last: bool
    step: int
    train: Numbers  # terms of the epoch's steps
    valid: Numbers  # terms over the validation rows, at t = 1
    start: float  # the loss that training set out from: training's or validation's, whichever was worse
    start_gap: float  # how much harder the validation rows were then
    lowest: float  # validation loss, and its epoch
    lowest_epoch: int
    since: int  # validations since then
    objective: nn.Module
    settings: TrainSettings

    @property
    def rate(self) -> float | None:
        """KL of posterior and prior, nats a row."""
        return self.valid.get("rate") if self.readings.latent else None

    @property
    def beta(self) -> float:
        """What the rate weighs once any warm-up is over."""
        return self.valid.get("beta", 1.0)

    @property
    def unmoved(self) -> bool:
        """Whether the optimiser cannot have changed much yet."""
        return self.settings.optimizer != "SGD" and self.settings.learning_rate * self.step < MOVED

    @property
    def unasked(self) -> bool:
        """Whether nothing in the loss asks for reconstructions."""
        return self.of_objective("distortion_weight") == 0

    def of_objective(self, name: str) -> Any:
        """A setting of the objective, None where it has none of that name."""
        return getattr(self.objective, name, None)

    def of_likelihood(self, *names: str) -> str | None:
        """The first of these settings that the likelihood has, by its full name."""
        known = inspect.signature(type(self.model.likelihood)).parameters
        return next((f"likelihood.{name}" for name in names if name in known), None)

    @property
    def model(self) -> VAE:
        return self.objective.model  # type: ignore[return-value]


@dataclass(frozen=True)
class Ailment:
    """`sign` gives numbers where the illness shows, else None; `advice` names the settings that help, and `text` says
    it all in one line.
    """

    code: str
    name: str  # after "the doctor found"
    sign: Callable[[Sight], Numbers | None]
    advice: Callable[[Sight], str]
    text: str  # with the numbers and the advice to be filled in


# -- codes that carry nothing


def _untaught(s: Sight) -> bool:
    """Where codes are empty because nothing was learned, the KL is not to blame; see `_no_better_than_the_mean`."""
    return not s.ripe or s.unmoved or s.unasked or s.beta == 0 or not math.isfinite(s.rate or 0.0)


def _fully_collapsed(s: Sight) -> Numbers | None:
    if s.readings.active is None or s.rate is None or _untaught(s):
        return None
    if s.readings.active and not s.rate < NO_CODE:
        return None
    return {"latent": s.readings.latent, "rate": s.rate}


def _rate_vanished(s: Sight) -> Numbers | None:
    if s.rate is None or not s.rate < ONE_BIT or _untaught(s) or _fully_collapsed(s) is not None:
        return None
    return {"rate": s.rate}


def _collapsed(s: Sight) -> Numbers | None:
    D, active = s.readings.latent, s.readings.active
    if not active or active > ASLEEP * min(D, s.elements) or _untaught(s) or _fully_collapsed(s) is not None:
        return None
    return {"collapsed": D - active, "latent": D, "active": active, "enough": active + 1}


def _wake(s: Sight) -> str:
    """Settings that make the KL cheaper."""
    ways = []
    if s.of_objective("beta") is not None and s.beta > 0:
        ways.append(f"lower objective.beta ({s.beta:g} now)")
    if s.of_objective("capacity") is not None:
        ways.append(f"raise objective.capacity ({s.of_objective('capacity'):g} now)")
    elif s.of_objective("warm_up") is not None:
        ways.append(f"lengthen objective.warm_up ({s.of_objective('warm_up'):g} now)")
    setting = s.of_likelihood("variance", "scale")
    if setting and s.readings.headroom is None:
        ways.append(f"lower {setting}")
    return ", or ".join(ways) or "weigh the KL less"


# -- a KL without bounds


def _rate_exploded(s: Sight) -> Numbers | None:
    if not s.ripe or s.rate is None or s.rate <= TOO_FAR * s.readings.latent:
        return None
    return {"rate": s.rate, "each": s.rate / s.readings.latent}


def _hold(s: Sight) -> str:
    """Settings that hold the posterior to the prior."""
    if s.beta == 0 and s.of_objective("beta") is not None:
        return "objective.beta is 0, so nothing holds the codes: set objective.beta=1"
    if 0 < s.beta < 1:
        return f"raise objective.beta ({s.beta:g} now)"
    return f"lower train.learning_rate ({s.settings.learning_rate:g} now) or set train.clip"


# -- reconstructions, over-fitting, variances, the prior


def _no_better_than_the_mean(s: Sight) -> Numbers | None:
    explained = s.readings.explained
    if not (s.ripe or s.last) or explained is None or not explained < EXPLAINS:
        return None
    if _fully_collapsed(s) is not None:
        return None
    return {"explained": max(0.0, explained)}


def _teach(s: Sight) -> str:
    if s.unasked:
        return "objective.distortion_weight is 0, so nothing asks for them: set objective.distortion_weight=1"
    if s.unmoved:
        return (
            f"the weights have hardly moved: raise train.learning_rate ({s.settings.learning_rate:g} now) or "
            f"train.epochs ({s.settings.epochs} now)"
        )
    wider = ", or give posterior.net and likelihood.net more width" if s.ripe else ""
    return f"train longer (train.epochs, {s.settings.epochs} now){wider}"


def _over_fitted(s: Sight) -> Numbers | None:
    now, train = s.valid.get("loss"), s.train.get("loss")
    if now is None or train is None or s.since < (1 if s.last else RISING):
        return None
    gained, lost, gap = s.start - train, now - s.lowest, now - train
    worse = lost >= max(NOTICED, WORSE * gained) and gap > lost
    apart = gap - s.start_gap >= max(NOTICED, APART * gained)
    return {"gap": gap, "lost": lost, "epoch": s.lowest_epoch} if worse or apart else None


def _spare(s: Sight) -> str:
    kept = (
        "those weights are kept" if s.settings.keep == "best" else 'train.keep="best" would keep its weights'
    )
    return f"{kept}; set train.patience or train.weight_decay, narrow posterior.net and likelihood.net, or add data"


def _scale_at_floor(s: Sight) -> Numbers | None:
    headroom = s.readings.headroom
    return {"headroom": headroom} if headroom is not None and headroom < AT_FLOOR else None


def _fix(s: Sight) -> str:
    return f"set {s.of_likelihood('variance', 'scale') or 'the scale'} to a number"


def _loosen(s: Sight) -> str:
    if s.beta == 0:
        return f"{_hold(s)}, or raise posterior.log_variance_bound"
    setting = s.of_likelihood("variance", "scale")
    return "raise posterior.log_variance_bound" + (
        f", or set {setting} to a larger number" if setting else ""
    )


def _variance_at_bound(s: Sight) -> Numbers | None:
    if not s.readings.at_bound:
        return None
    bound = float(s.model.posterior.bound)  # type: ignore[arg-type]
    return {"dimensions": s.readings.at_bound, "latent": s.readings.latent, "bound": bound}


def _prior_unmet(s: Sight) -> Numbers | None:
    overlap, outside = s.readings.overlap, s.readings.outside
    if not s.ripe or overlap is None or outside is None or overlap >= APART_FROM_PRIOR:
        return None
    return None if NARROWER <= outside <= WIDER else {"overlap": overlap, "outside": outside}


def _meet(s: Sight) -> str:
    if s.beta < 1 and s.of_objective("beta") is not None:
        return _hold(s)
    raised = f"raise objective.beta ({s.beta:g} now), or " if s.of_objective("beta") is not None else ""
    return f'{raised}let the prior learn: prior.kind="VampPrior"'


AILMENTS = (
    Ailment(
        "collapse", "a full collapse", _fully_collapsed, _wake,
        "no latent dimension carries anything (KL {rate:.2f} nats), so every reconstruction is the same: {advice}",
    ),
    Ailment(
        "kl-vanishing", "a vanishing KL", _rate_vanished, _wake,
        "the KL is {rate:.2f} nats, and a code of less than one bit (0.69) tells next to nothing: {advice}",
    ),
    Ailment(
        "collapsed", "collapsed dimensions", _collapsed, _wake,
        "{collapsed} of {latent} latent dimensions carry nothing (active: {active}): {advice}; or take "
        "model.latent={enough}",
    ),
    Ailment(
        "kl-exploding", "an exploding KL", _rate_exploded, _hold,
        "the KL is {rate:.0f} nats, {each:.1f} a latent dimension: the codes leave the prior; {advice}",
    ),
    Ailment(
        "mean", "reconstructions like the mean", _no_better_than_the_mean, _teach,
        "reconstructions are no better than the mean of the training rows (they explain {explained:.0%} of the "
        "variance): {advice}",
    ),
    Ailment(
        "over-fitting", "over-fitting", _over_fitted, _spare,
        "over-fitting: the validation loss was lowest at epoch {epoch}; it is {lost:.1f} nats above that and {gap:.1f} "
        "above training's; {advice}",
    ),
    Ailment(
        "scale-floor", "a scale at its floor", _scale_at_floor, _fix,
        "the likelihood's learned scale is at its floor: without noise in the rows a density grows without end, and "
        "the nats mean little; {advice}",
    ),
    Ailment(
        "variance-bound", "a variance at its bound", _variance_at_bound, _loosen,
        "the posterior's log-variance is at its bound of +-{bound:g} in {dimensions} of {latent} dimensions: {advice}",
    ),
    Ailment(
        "prior", "a prior that no code meets", _prior_unmet, _meet,
        "codes and prior do not meet (overlap {overlap:.0%}), so samples will not look like the data: {advice}",
    ),
)  # fmt: skip
