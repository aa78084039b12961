"""Priors p(z given c): modules whose forward returns a law over z."""

from vaekit.priors.flow import FlowPrior
from vaekit.priors.full_mixture import FullMixturePrior
from vaekit.priors.hierarchical import HierarchicalPrior
from vaekit.priors.mixture import MixturePrior
from vaekit.priors.standard import StandardPrior
from vaekit.priors.vamp import VampPrior
from vaekit.priors.whitened_flow import WhitenedFlowPrior

__all__ = [
    "FlowPrior",
    "FullMixturePrior",
    "HierarchicalPrior",
    "MixturePrior",
    "StandardPrior",
    "VampPrior",
    "WhitenedFlowPrior",
]
