from __future__ import annotations

import torch
from torch import Tensor, nn

from vaekit.distributions import Categorical, OnGrid
from vaekit.likelihoods.common import Likelihood


class CategoricalLikelihood(Likelihood):
    """One of n + 1 classes in each element, n = `levels`; x = class number / n in model units.

    `net` gives n + 1 logits an element: [N, (n + 1) C, H, W], or [N, (n + 1) F]. `nominal` classes have no order:
    a reconstruction is then their mode.
    """

    kinds = ("binary", "levels", "8-bit", "colour", "categories")
    logits = True

    def __init__(
        self, net: nn.Module, levels: int, nominal: bool = False, initialise_bias: bool = True
    ) -> None:
        super().__init__(net, initialise_bias)
        self.levels, self.nominal = levels, nominal

    @staticmethod
    def outputs_per_element(levels: int) -> int:
        return levels + 1

    def initialise(self, x: Tensor, c: Tensor | None, n_data: int) -> None:
        number = (x * self.levels).round()
        # add-one smoothing: a class unseen in this batch must stay reachable
        logits = torch.stack(
            [torch.log((number == k).sum(0) + 1.0) for k in range(self.levels + 1)]
        )  # [n + 1, *shape]
        self.start_bias_at((logits - torch.logsumexp(logits, 0)).flatten(0, 1))

    def forward(self, z: Tensor, c: Tensor | None = None) -> OnGrid:
        out = self.parameters_of(z, c)  # [..., (n + 1) C, H, W]
        lead = z.dim() - 1
        split = out.unflatten(lead, (self.levels + 1, -1)).movedim(lead, -1)  # [..., C, H, W, n + 1]
        return OnGrid(Categorical(split, split.dim() - 1 - lead, self.nominal), self.levels)
