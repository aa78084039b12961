"""Likelihoods p(x given z, c): modules whose forward returns a law over x, in nats of the data's own units."""

from vaekit.likelihoods.autoregressive import AutoregressiveLikelihood
from vaekit.likelihoods.bernoulli import BernoulliLikelihood
from vaekit.likelihoods.binomial import BinomialLikelihood
from vaekit.likelihoods.categorical import CategoricalLikelihood
from vaekit.likelihoods.gaussian import GaussianLikelihood
from vaekit.likelihoods.laplace import LaplaceLikelihood
from vaekit.likelihoods.logistic import DiscretisedLogisticLikelihood
from vaekit.likelihoods.poisson import PoissonLikelihood

__all__ = [
    "AutoregressiveLikelihood", "BernoulliLikelihood", "BinomialLikelihood", "CategoricalLikelihood",
    "DiscretisedLogisticLikelihood", "GaussianLikelihood", "LaplaceLikelihood", "PoissonLikelihood",
]  # fmt: skip
