"""The PyTorch tutorials as plain modules, their weights copied into ours: the same outputs, losses, gradients, starts
and steps."""

from __future__ import annotations

import math

import pytest
import torch
from parity_kit import Ours, assert_same, assert_same_gradients, ours
from scipy.stats import kstest
from torch import Tensor, nn
from torch.nn import functional as F

from vaekit.train.optimise import Updates
from vaekit.train.plan import Plan

TIGHT = 1e-9
D = 784


class MLPTutorial(nn.Module):
    """784 - 400 - 2 x 20, 20 - 400 - 784, summed over the batch as its post does."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc21, self.fc22 = nn.Linear(784, 400), nn.Linear(400, 20), nn.Linear(400, 20)
        self.fc3, self.fc4 = nn.Linear(20, 400), nn.Linear(400, 784)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = F.relu(self.fc1(x))
        return self.fc21(h), self.fc22(h)

    def decode(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z))))

    def loss(self, x: Tensor, noise: Tensor) -> Tensor:
        mu, logvar = self.encode(x)
        reconstruction = self.decode(mu + torch.exp(0.5 * logvar) * noise)
        return F.binary_cross_entropy(reconstruction, x, reduction="sum") + kl(mu, logvar)

    def layers(self) -> list[list[nn.Linear]]:
        return [[self.fc1], [self.fc21, self.fc22], [self.fc3], [self.fc4]]


def kl(mu: Tensor, logvar: Tensor) -> Tensor:
    return -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())


class LinearTutorial(nn.Module):
    """784 - 2 - 784 without activations: `loss` is the root of the mean squared error."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(784, 2), nn.Linear(2, 784)

    def encode(self, x: Tensor) -> tuple[Tensor, ...]:
        return (self.encoder(x),)

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z)

    def loss(self, x: Tensor, noise: Tensor) -> Tensor:
        return torch.sqrt(nn.MSELoss()(self.decode(*self.encode(x)), x))

    def layers(self) -> list[list[nn.Linear]]:
        return [[self.encoder], [self.decoder]]


class LinearBCETutorial(LinearTutorial):
    """The same under `nn.BCELoss`, which takes probabilities and averages over pixels."""

    def decode(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.decoder(z))

    def loss(self, x: Tensor, noise: Tensor) -> Tensor:
        return nn.BCELoss()(self.decode(*self.encode(x)), x)


class LinearVAETutorial(LinearTutorial):
    """Two linear heads and a draw; D log RMSE, the Gaussian whose variance is its optimum, + KL."""

    def __init__(self) -> None:
        super().__init__()
        self.log_variance = nn.Linear(784, 2)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.encoder(x), self.log_variance(x)

    def loss(self, x: Tensor, noise: Tensor) -> Tensor:
        mu, logvar = self.encode(x)
        reconstruction = self.decode(mu + torch.exp(0.5 * logvar) * noise)
        return D * torch.log(torch.sqrt(nn.MSELoss()(reconstruction, x))) + kl(mu, logvar) / len(x)

    def layers(self) -> list[list[nn.Linear]]:
        return [[self.encoder, self.log_variance], [self.decoder]]


# the nats of a Gaussian of optimal variance besides D log RMSE, per grey level: 127.5 of them are a model unit
OPTIMAL = D / 2 * math.log(2 * math.pi * math.e) + D * math.log(127.5)
TUTORIALS = {
    "torch-mlp": MLPTutorial,
    "linear-ae": LinearTutorial,
    "linear-ae-bce": LinearBCETutorial,
    "linear-vae": LinearVAETutorial,
}
NAMES = list(TUTORIALS)


def as_ours(theirs: nn.Module, mine: Ours, gradient: bool = False) -> dict[str, Tensor]:
    """Their weights, or the gradients of these, by the names of ours: two heads are one layer here."""
    joined: list[Tensor] = []
    for group in theirs.layers():
        for kind in ("weight", "bias"):
            found = [getattr(layer, kind) for layer in group]
            joined.append(torch.cat([p.grad if gradient else p.detach() for p in found]))
    return dict(zip([n for n, _ in mine.model.named_parameters()], joined, strict=True))


def pair(name: str) -> tuple[Ours, nn.Module, Tensor]:
    """A recipe with the weights of a plain module, and the batch [B, 784]."""
    mine = ours(name)
    torch.manual_seed(1)
    theirs = TUTORIALS[name]().double()
    mine.model.load_state_dict(as_ours(theirs, mine), strict=False)
    return mine, theirs, mine.x.flatten(1)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_codes_and_the_same_pictures(name):
    mine, theirs, x = pair(name)
    q, heads = mine.model.encode(mine.x), theirs.encode(x)
    assert_same(q.mean, heads[0], "means", TIGHT)
    if len(heads) == 2:
        assert_same(q.log_variance, heads[1], "log-variances", TIGHT)
    z = mine.noise(0)
    assert_same(mine.model.decode(z).mean.flatten(1), theirs.decode(z), "pictures", TIGHT)


def on_our_scale(name: str, loss: Tensor, rows: int) -> Tensor:
    """Their loss as the nats that ours is, up to a constant: torch-mlp sums over the batch, linear-ae-bce averages over
    pixels, and RMSE is a Gaussian of optimal variance by its logarithm."""
    return {
        "torch-mlp": loss / rows,
        "linear-ae": D * torch.log(loss),
        "linear-ae-bce": D * loss,
        "linear-vae": loss,
    }[name]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_loss_and_the_same_gradients(name):
    mine, theirs, x = pair(name)
    loss, expected = mine.loss(seed=5), theirs.loss(x, mine.noise(5))
    nats = 0.0 if mine.recipe.likelihood.kind == "BernoulliLikelihood" else OPTIMAL
    torch.testing.assert_close(
        loss - nats, on_our_scale(name, expected, len(x)).double(), rtol=TIGHT, atol=1e-8
    )
    loss.backward()
    expected.backward()
    # RMSE has our gradient's direction; ours is D / RMSE times as long, which Adam divides out again
    factor = {"torch-mlp": 1 / len(x), "linear-ae": D / expected.item(), "linear-ae-bce": D, "linear-vae": 1}
    gradients = as_ours(theirs, mine, gradient=True)
    assert_same_gradients(dict(mine.model.named_parameters()), gradients, factor[name], TIGHT)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_start(name):
    """torch's own: every weight and bias uniform within 1 / sqrt(fan-in), in both."""
    drawn: dict[str, dict[str, list[Tensor]]] = {"ours": {}, "theirs": {}}
    for seed in range(3):
        mine = ours(name, f"train.seed={seed}")
        torch.manual_seed(seed)
        theirs = as_ours(TUTORIALS[name](), mine)
        for n, parameter in mine.model.named_parameters():
            drawn["ours"].setdefault(n, []).append(parameter.detach())
            drawn["theirs"].setdefault(n, []).append(theirs[n])
    for found in drawn.values():
        for n, values in found.items():
            limit = found[n.replace("bias", "weight")][0].shape[1] ** -0.5
            value = torch.stack(values) / limit
            assert value.abs().max() <= 1 + 1e-6, n
            assert kstest(value.flatten(), "uniform", args=(-1, 2)).pvalue > 1e-3, n


@pytest.mark.parametrize("name", NAMES)
def test_the_same_steps_of_adam_at_one_rate(name):
    mine, theirs, x = pair(name)
    settings = mine.recipe.train
    assert settings.batch_size == (128 if name == "torch-mlp" else 64) and not settings.drop_last
    plan = Plan.of(settings, 50_000)
    assert {plan.rate(step) for step in (0, 1, plan.steps // 2, plan.steps - 1)} == {1e-3}
    updates = Updates(mine.objective, settings, torch.device("cpu"))
    adam = torch.optim.Adam(theirs.parameters(), lr=1e-3)
    before = as_ours(theirs, mine)
    for step in range(3):
        updates.zero_grad()
        mine.loss(seed=step).backward()
        updates.apply(torch.zeros(1), plan.rate(step))
        adam.zero_grad()
        on_our_scale(name, theirs.loss(x, mine.noise(step)), len(x)).backward()
        adam.step()
    after = as_ours(theirs, mine)
    for n, parameter in mine.model.named_parameters():
        assert_same(parameter.detach() - before[n], after[n] - before[n], n, 1e-6)
