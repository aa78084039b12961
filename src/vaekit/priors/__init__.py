"""Priors p(z given c): modules whose forward returns a law over z."""

from vaekit.priors.flow import FlowPrior
from vaekit.priors.mixture import MixturePrior
from vaekit.priors.standard import StandardPrior
from vaekit.priors.vamp import VampPrior

__all__ = ["FlowPrior", "MixturePrior", "StandardPrior", "VampPrior"]
