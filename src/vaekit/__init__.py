"""vaekit: variational autoencoders as one composable model, prior x posterior x likelihood x objective.

Public names are imported when first used, so that `import vaekit` is light and changes no global state.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from vaekit._version import __version__
from vaekit.errors import VaekitError

_HOMES = {
    "vaekit.distributions": ("Distribution", "kl"),
    "vaekit.nets": (
        "MLP", "Constant", "ConvDecoder", "ConvEncoder", "GatedMLP", "PatchDecoder", "PatchEncoder", "ResNetDecoder",
        "ResNetEncoder", "ResidualMLP",
    ),
    "vaekit.priors": (
        "FlowPrior", "FullMixturePrior", "HierarchicalPrior", "MixturePrior", "StandardPrior", "VampPrior",
        "WhitenedFlowPrior",
    ),
    "vaekit.posteriors": ("GaussianPosterior", "HierarchicalPosterior", "PointPosterior"),
    "vaekit.likelihoods": (
        "AutoregressiveLikelihood", "BernoulliLikelihood", "BinomialLikelihood", "CategoricalLikelihood",
        "DiscretisedLogisticLikelihood", "GaussianLikelihood", "LaplaceLikelihood", "PoissonLikelihood",
    ),
    "vaekit.model": ("VAE", "Trace", "initialise"),
    "vaekit.objectives": ("CIWAE", "ELBO", "IWAE", "MIWAE", "PIWAE", "DReG"),
    "vaekit.run": ("Run", "load"),
    "vaekit.train.fit": ("fit", "resume"),
    "vaekit.bench": ("benchmark",),
    "vaekit.train.prior": ("restore_prior",),
    "vaekit.members": ("fit_members", "resume_members", "sweep"),
    "vaekit.report": ("compare",),
    "vaekit.data": ("open_data",),
}  # fmt: skip
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
__all__ = ["VaekitError", "__version__", *_HOME_OF]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'vaekit' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:
    from vaekit.bench import benchmark
    from vaekit.data import open_data
    from vaekit.distributions import Distribution, kl
    from vaekit.likelihoods import (
        AutoregressiveLikelihood,
        BernoulliLikelihood,
        BinomialLikelihood,
        CategoricalLikelihood,
        DiscretisedLogisticLikelihood,
        GaussianLikelihood,
        LaplaceLikelihood,
        PoissonLikelihood,
    )
    from vaekit.members import fit_members, resume_members, sweep
    from vaekit.model import VAE, Trace, initialise
    from vaekit.nets import (
        MLP,
        Constant,
        ConvDecoder,
        ConvEncoder,
        GatedMLP,
        PatchDecoder,
        PatchEncoder,
        ResidualMLP,
        ResNetDecoder,
        ResNetEncoder,
    )
    from vaekit.objectives import CIWAE, ELBO, IWAE, MIWAE, PIWAE, DReG
    from vaekit.posteriors import GaussianPosterior, HierarchicalPosterior, PointPosterior
    from vaekit.priors import (
        FlowPrior,
        FullMixturePrior,
        HierarchicalPrior,
        MixturePrior,
        StandardPrior,
        VampPrior,
        WhitenedFlowPrior,
    )
    from vaekit.report.comparison import compare
    from vaekit.run import Run, load
    from vaekit.train.fit import fit, resume
    from vaekit.train.prior import restore_prior
