"""Objectives: modules that wrap the model, `objective(x, c, t) -> (loss, terms)`."""

from vaekit.objectives.elbo import ELBO
from vaekit.objectives.iwae import IWAE, DReG

__all__ = ["ELBO", "IWAE", "DReG"]
