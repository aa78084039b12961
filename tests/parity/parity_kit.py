"""What the parity tests share: a recipe built the public way, in float64, and a comparison weight by weight."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vaekit import recipe
from vaekit.data import Contract, open_data
from vaekit.objectives.common import Objective
from vaekit.recipe import Recipe


@dataclass
class Ours:
    """A recipe resolved and built on data like MNIST, ready to train, and a batch of it."""

    recipe: Recipe
    contract: Contract
    objective: Objective
    x: Tensor  # [B, 1, 28, 28] in model units

    @property
    def model(self):
        return self.objective.model

    def loss(self, seed: int) -> Tensor:
        """The loss of the batch as a training step computes it, its noise drawn from `seed`."""
        torch.manual_seed(seed)
        return self.objective(self.x, None, torch.tensor(1.0))[0]

    def noise(self, seed: int) -> Tensor:
        """The noise that `loss` draws [B, D]."""
        torch.manual_seed(seed)
        return torch.randn(1, len(self.x), self.model.latent, dtype=torch.float64)[0]


def ours(name: str, *overrides: str, rows: int = 8) -> Ours:
    """The recipe `name` on grey images of 28x28, initialised as before a first step."""
    loaded = recipe.load(name, overrides)
    data = open_data(greys(), scale_to=loaded.data.scale_to)
    resolved = recipe.resolve(loaded, data.contract)
    objective = recipe.build(resolved, data.contract).double()
    x = data.contract.scale(torch.from_numpy(data.train.x[:rows])).double()
    objective.initialise(x, None, len(data.train))
    return Ours(resolved, data.contract, objective, x)


def greys(n: int = 60) -> np.ndarray:
    """Smooth grey images, uint8 [n, 28, 28], each with a 0 and a 255."""
    coarse = np.random.default_rng(0).normal(size=(n, 7, 7))
    images = np.kron(coarse, np.ones((1, 4, 4)))
    low, high = images.min((1, 2), keepdims=True), images.max((1, 2), keepdims=True)
    return np.rint(255 * (images - low) / (high - low)).astype(np.uint8)


def assert_same(mine: Tensor, theirs: Tensor, what: str = "", tolerance: float = 1e-5) -> None:
    """Equal to `tolerance` of each value, or a tenth of that of the largest; and they say something."""
    largest = theirs.detach().abs().max().item()
    assert largest > 0, f"{what} is 0 throughout"
    torch.testing.assert_close(
        mine, theirs, rtol=tolerance, atol=tolerance * largest / 10, msg=lambda text: f"{what}: {text}"
    )


def assert_same_gradients(
    parameters: dict[str, Tensor], theirs: dict[str, Tensor], factor: float = 1.0, tolerance: float = 1e-5
) -> None:
    """Each gradient of ours is `factor` times theirs, and none is zero throughout."""
    assert parameters.keys() == theirs.keys()
    for name, parameter in parameters.items():
        assert parameter.grad is not None, name
        assert_same(parameter.grad, factor * theirs[name], name, tolerance)
