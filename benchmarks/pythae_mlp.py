"""torch-mlp's nets, 784-400-20-400-784, as a VAE of Pythae; imported in Pythae's own environment alone."""

from __future__ import annotations

import torch
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from torch import nn


class Encoder(BaseEncoder):
    def __init__(self) -> None:
        BaseEncoder.__init__(self)
        self.body, self.mean, self.variance = nn.Linear(784, 400), nn.Linear(400, 20), nn.Linear(400, 20)

    def forward(self, x: torch.Tensor) -> ModelOutput:
        h = torch.relu(self.body(x.reshape(-1, 784)))
        return ModelOutput(embedding=self.mean(h), log_covariance=self.variance(h))


class Decoder(BaseDecoder):
    def __init__(self) -> None:
        BaseDecoder.__init__(self)
        self.body, self.last = nn.Linear(20, 400), nn.Linear(400, 784)

    def forward(self, z: torch.Tensor) -> ModelOutput:
        x = torch.sigmoid(self.last(torch.relu(self.body(z))))
        return ModelOutput(reconstruction=x.reshape(-1, 1, 28, 28))


def torch_mlp() -> VAE:
    """Cross-entropy on images [N, 1, 28, 28] in [0, 1]; weights as torch starts them."""
    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=20, reconstruction_loss="bce")
    return VAE(config, Encoder(), Decoder())
