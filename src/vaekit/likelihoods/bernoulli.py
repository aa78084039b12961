from __future__ import annotations

from torch import Tensor

from vaekit.distributions import Bernoulli
from vaekit.likelihoods.common import Likelihood, safe_logit


class BernoulliLikelihood(Likelihood):
    """Independent bits; `net` gives the logits.

    On grey values in [0, 1] it is the tutorials' cross-entropy, which is no density: such a run has no NLL.
    """

    kinds = ("binary", "levels", "8-bit", "colour")
    logits = True

    def gives_density(self, kind: str) -> bool:
        return kind == "binary"

    def initialise(self, x: Tensor, c: Tensor | None, n_data: int) -> None:
        self.start_bias_at(safe_logit(x.mean(0)))

    def forward(self, z: Tensor, c: Tensor | None = None) -> Bernoulli:
        logits = self.parameters_of(z, c)
        return Bernoulli(logits, event_dims=logits.dim() - z.dim() + 1)
