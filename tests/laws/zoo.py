"""Every part of every folder, small and in float64, built from its constructor's signature: a new part is tested
by being there."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn

import vaekit.likelihoods
import vaekit.posteriors
import vaekit.priors
from vaekit import MLP, VAE

LATENT, SHAPE, LEVELS, CONDITION = 3, (1, 3, 2), 5, 4
PRIORS = [getattr(vaekit.priors, name) for name in vaekit.priors.__all__]
POSTERIORS = [getattr(vaekit.posteriors, name) for name in vaekit.posteriors.__all__]
LIKELIHOODS = [getattr(vaekit.likelihoods, name) for name in vaekit.likelihoods.__all__]
WITH_DENSITY = [p for p in POSTERIORS if p.has_density]


def given(part: type, offered: dict[str, Any]) -> Any:
    """Call the constructor with those of the offered arguments that it takes."""
    return part(**{k: v for k, v in offered.items() if k in inspect.signature(part).parameters})


def make_vae(prior: type, posterior: type, likelihood: type, condition: int = 0, seed: int = 0) -> VAE:
    """A VAE of these three parts over x [B, 1, 3, 2], D = 3, float64, weights away from their special starts."""
    torch.manual_seed(seed)
    encoder = MLP(
        SHAPE, (posterior.outputs_per_latent * LATENT,), hidden=(8,), activation="tanh", condition=condition
    )
    q = given(posterior, {"net": encoder, "latent": LATENT, "width": 8})
    p = given(
        prior,
        {"latent": LATENT, "posterior": q, "shape": SHAPE, "components": 4, "layers": 2, "hidden": (8,), "width": 8,
         "condition": condition},
    )  # fmt: skip
    channels = SHAPE[0] * likelihood.outputs_per_element(LEVELS)
    decoder = MLP((LATENT,), (channels, *SHAPE[1:]), hidden=(8,), activation="tanh", condition=condition)
    one_unit = "divisor: float" in str(inspect.signature(likelihood)).replace("'", "")
    divisor = float(LEVELS) if one_unit else (float(LEVELS),)
    lik = given(
        likelihood,
        {
            "net": decoder,
            "levels": LEVELS,
            "divisor": divisor,
            "shape": SHAPE,
            "hidden": (8,),
            "activation": "tanh",
        },
    )
    vae = VAE(p, q, lik).double()
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return vae


def some_data(n: int = 5, binary: bool = False) -> torch.Tensor:
    """x [n, 1, 3, 2] on the grid 0..LEVELS, in model units."""
    generator = torch.Generator().manual_seed(1)
    levels = torch.randint(0, LEVELS + 1, (n, *SHAPE), generator=generator, dtype=torch.float64)
    return (levels > LEVELS / 2).double() if binary else levels / LEVELS


def fits(model: nn.Module) -> torch.Tensor:
    """Data that the model's likelihood is meant for."""
    return some_data(binary=not model.likelihood.gives_density("levels"))  # type: ignore[attr-defined, operator]
