"""Objectives: modules that wrap the model, `objective(x, c, t) -> (loss, terms)`."""

from vaekit.objectives.ciwae import CIWAE
from vaekit.objectives.elbo import ELBO
from vaekit.objectives.iwae import IWAE, DReG
from vaekit.objectives.miwae import MIWAE, PIWAE

__all__ = ["CIWAE", "ELBO", "IWAE", "MIWAE", "PIWAE", "DReG"]
