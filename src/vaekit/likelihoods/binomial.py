from __future__ import annotations

from torch import Tensor, nn

from vaekit.distributions import Binomial, OnGrid
from vaekit.likelihoods.common import Likelihood, safe_logit


class BinomialLikelihood(Likelihood):
    """Counts 0..n, n = `levels`, of independent bits in each element; `net` gives the logits.

    Exact where a grey level counts: each value of scikit-learn's digits is the ink in a 4x4 block, n = 16.
    """

    kinds = ("binary", "levels", "8-bit", "colour")
    logits = True

    def __init__(self, net: nn.Module, levels: int, initialise_bias: bool = True) -> None:
        super().__init__(net, initialise_bias)
        self.levels = levels

    def initialise(self, x: Tensor, c: Tensor | None, n_data: int) -> None:
        self.start_bias_at(safe_logit(x.mean(0)))

    def forward(self, z: Tensor, c: Tensor | None = None) -> OnGrid:
        logits = self.parameters_of(z, c)
        return OnGrid(Binomial(self.levels, logits, event_dims=logits.dim() - z.dim() + 1), self.levels)
