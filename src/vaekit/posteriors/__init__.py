"""Posteriors q(z given x, c): modules whose forward returns a law over z."""

from vaekit.posteriors.gaussian import GaussianPosterior
from vaekit.posteriors.hierarchical import HierarchicalPosterior
from vaekit.posteriors.point import PointPosterior

__all__ = ["GaussianPosterior", "HierarchicalPosterior", "PointPosterior"]
