"""The Keras tutorials, written again with keras.layers, their weights copied into ours: the same outputs, losses,
gradients, starts and steps. All in float64, which Keras rounds to float32 in its dense layers and its means."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from parity_kit import Ours, assert_same, assert_same_gradients, ours
from scipy.stats import kstest
from torch import Tensor

from vaekit.train.optimise import Updates
from vaekit.train.plan import Plan

keras = pytest.importorskip("keras", reason="keras is not installed; pip install -e '.[dev]' has it")
layers, ops = keras.layers, keras.ops

MAPS = (7, 7, 64)  # H, W, C of what both tutorials flatten


@pytest.fixture(autouse=True)
def float64_on_the_cpu():
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    with keras.device("cpu"):
        yield
    keras.config.set_floatx(before)
    keras.config.set_dtype_policy(before)


@dataclass
class Tutorial:
    """What a post builds: two Keras models, and the loss it compiles (x, reconstruction, heads) -> 0-d."""

    encoder: keras.Model
    decoder: keras.Model
    compiled: Callable[[Tensor, Tensor, list[Tensor]], Tensor]

    def loss(self, x: Tensor, noise: Tensor) -> Tensor:
        """x [B, 28, 28, 1], noise [B, 2]."""
        heads = self.heads(x)
        z = heads[0] if len(heads) == 1 else heads[0] + ops.exp(0.5 * heads[1]) * noise
        return self.compiled(x, self.decoder(z), heads)

    def heads(self, x: Tensor) -> list[Tensor]:
        """[z_mean, z_log_var], or [z] of an autoencoder."""
        out = self.encoder(x)
        return out if isinstance(out, list) else [out]


def kl_elements(heads: list[Tensor]) -> Tensor:
    z_mean, z_log_var = heads
    return -0.5 * (1 + z_log_var - ops.square(z_mean) - ops.exp(z_log_var))  # [B, 2]


def cross_entropy_and_kl(x: Tensor, reconstruction: Tensor, heads: list[Tensor]) -> Tensor:
    reconstruction_loss = ops.sum(keras.losses.binary_crossentropy(x, reconstruction), axis=(1, 2))
    return ops.mean(reconstruction_loss) + ops.mean(ops.sum(kl_elements(heads), axis=1))


def kl_alone(x: Tensor, reconstruction: Tensor, heads: list[Tensor]) -> Tensor:
    return ops.mean(kl_elements(heads))


def squared_error(x: Tensor, reconstruction: Tensor) -> Tensor:
    return ops.mean(ops.square(x - reconstruction), axis=[1, 2, 3])


def scaled_squared_error_and_kl(x: Tensor, reconstruction: Tensor, heads: list[Tensor]) -> Tensor:
    r_loss_factor = 1000
    return ops.mean(r_loss_factor * squared_error(x, reconstruction) + ops.sum(kl_elements(heads), axis=1))


def squared_error_alone(x: Tensor, reconstruction: Tensor, heads: list[Tensor]) -> Tensor:
    return ops.mean(squared_error(x, reconstruction))


def conv_2d(compiled) -> Tutorial:
    image = keras.Input((28, 28, 1))
    x = layers.Conv2D(32, 3, activation="relu", strides=2, padding="same")(image)
    x = layers.Conv2D(64, 3, activation="relu", strides=2, padding="same")(x)
    x = layers.Flatten()(x)
    x = layers.Dense(16, activation="relu")(x)
    encoder = keras.Model(image, [layers.Dense(2, name="z_mean")(x), layers.Dense(2, name="z_log_var")(x)])
    z = keras.Input((2,))
    x = layers.Dense(7 * 7 * 64, activation="relu")(z)
    x = layers.Reshape((7, 7, 64))(x)
    x = layers.Conv2DTranspose(64, 3, activation="relu", strides=2, padding="same")(x)
    x = layers.Conv2DTranspose(32, 3, activation="relu", strides=2, padding="same")(x)
    decoder = keras.Model(z, layers.Conv2DTranspose(1, 3, activation="sigmoid", padding="same")(x))
    return Tutorial(encoder, decoder, compiled)


def conv_leaky(compiled, autoencoder: bool = False) -> Tutorial:
    image = x = keras.Input((28, 28, 1))
    for filters, strides in ((32, 1), (64, 2), (64, 2), (64, 1)):
        x = layers.Conv2D(filters, 3, strides=strides, padding="same")(x)
        x = layers.LeakyReLU()(x)
    x = layers.Flatten()(x)
    heads = [layers.Dense(2)(x)] if autoencoder else [layers.Dense(2)(x), layers.Dense(2)(x)]
    z = keras.Input((2,))
    x = layers.Reshape((7, 7, 64))(layers.Dense(3136)(z))
    for filters, strides in ((64, 1), (64, 2), (32, 2)):
        x = layers.Conv2DTranspose(filters, 3, strides=strides, padding="same")(x)
        x = layers.LeakyReLU()(x)
    x = layers.Conv2DTranspose(1, 3, strides=1, padding="same")(x)
    decoder = keras.Model(z, layers.Activation("sigmoid")(x))
    return Tutorial(keras.Model(image, heads), decoder, compiled)


def theirs(name: str) -> Tutorial:
    return {
        "keras-conv-2d": lambda: conv_2d(cross_entropy_and_kl),
        "keras-conv-2d-literal": lambda: conv_2d(kl_alone),
        "keras-conv-leaky": lambda: conv_leaky(scaled_squared_error_and_kl),
        "keras-conv-leaky-ae": lambda: conv_leaky(squared_error_alone, autoencoder=True),
    }[name]()


NAMES = ["keras-conv-2d", "keras-conv-2d-literal", "keras-conv-leaky", "keras-conv-leaky-ae"]


def as_ours(value: Tensor) -> Tensor:
    """A Keras kernel or bias, or its gradient, as torch lays it out: outputs first, channels before pixels."""
    pixels = math.prod(MAPS)
    if value.dim() == 4:  # [H, W, in, out] of a convolution, [H, W, out, in] of a transposed one
        return value.permute(3, 2, 0, 1)
    if value.shape[-1] == pixels:  # a dense layer that makes the maps
        value = value.unflatten(-1, MAPS).movedim(-1, -3).flatten(-3)
    if value.dim() == 2 and value.shape[0] == pixels:  # one that reads them
        value = value.unflatten(0, MAPS).movedim(2, 0).flatten(0, 2)
    return value.mT if value.dim() == 2 else value


def variables(tutorial: Tutorial, mine: Ours) -> dict[str, list[Tensor]]:
    """By the name of each weight of ours, the Keras weights that it stands for: the heads are one layer here."""
    found: dict[str, list[Tensor]] = {}
    heads = len(tutorial.encoder.outputs)
    for slot, net, last in (("posterior", tutorial.encoder, heads), ("likelihood", tutorial.decoder, 1)):
        trained = [layer for layer in net.layers if layer.weights]
        groups = [[layer] for layer in trained[:-last]] + [trained[-last:]]
        flat = [[layer.weights[i].value for layer in group] for group in groups for i in (0, 1)]
        names = [name for name, _ in mine.model.named_parameters() if name.startswith(slot)]
        found |= zip(names, flat, strict=True)
    return found


def gathered(values: list[Tensor]) -> Tensor:
    return torch.cat([as_ours(value) for value in values])


@dataclass
class Pair:
    """A recipe of ours with the weights of a Keras tutorial."""

    ours: Ours
    theirs: Tutorial
    variables: dict[str, list[Tensor]]

    @property
    def x(self) -> Tensor:
        """The batch as Keras takes it [B, 28, 28, 1]."""
        return self.ours.x.permute(0, 2, 3, 1)

    def their_gradients(self, seed: int) -> dict[str, Tensor]:
        """By our names and in our layout, zero where a weight is not in the loss."""
        loss = self.theirs.loss(self.x, self.ours.noise(seed))
        flat = [v for group in self.variables.values() for v in group]
        given = torch.autograd.grad(loss, flat, allow_unused=True, materialize_grads=True)
        gradient = dict(zip(map(id, flat), given, strict=True))
        return {n: gathered([gradient[id(v)] for v in group]) for n, group in self.variables.items()}


def pair(name: str) -> Pair:
    """Keras' own start, biases moved off zero so that they are compared too, copied into our model."""
    keras.utils.set_random_seed(1)
    mine, tutorial = ours(name), theirs(name)
    found = variables(tutorial, mine)
    with torch.no_grad():
        for group in found.values():
            for value in group:
                if value.dim() == 1:
                    value.normal_(std=0.1)
        for parameter_name, parameter in mine.model.named_parameters():
            parameter.copy_(gathered(found[parameter_name]))
    return Pair(mine, tutorial, found)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_codes_and_the_same_pictures(name):
    two = pair(name)
    q, heads = two.ours.model.encode(two.ours.x), two.theirs.heads(two.x)
    assert_same(q.mean, heads[0], "means")
    if len(heads) == 2:
        assert_same(q.log_variance, heads[1], "log-variances")
    z = two.ours.noise(0)
    decoded = two.theirs.decoder(z).permute(0, 3, 1, 2)
    grey = decoded.mean()  # held against what differs from pixel to pixel
    assert_same(two.ours.model.decode(z).mean - grey, decoded - grey, "pictures")


def constant(mine: Ours) -> tuple[float, float]:
    """What our loss is of theirs: (factor, nats that depend on no weight).

    Cross-entropy has none. F x mean squared error is -log N of variance v = D / 2F less D / 2 log(2 pi v), and a
    density over 0..255 rather than [0, 1] takes another D log 255.
    """
    if mine.recipe.likelihood.kind == "BernoulliLikelihood":
        return 1.0, 0.0
    variance, D = 784 / (2 * 1000), 784
    nats = D / 2 * math.log(2 * math.pi * variance) + D * math.log(255)
    return (1000.0 if mine.recipe.name == "keras-conv-leaky-ae" else 1.0), nats


@pytest.mark.parametrize("name", NAMES)
def test_the_same_loss_and_the_same_gradients(name):
    two = pair(name)
    loss, expected = two.ours.loss(seed=5), two.theirs.loss(two.x, two.ours.noise(5))
    factor, nats = constant(two.ours)
    assert_same(loss - nats, factor * expected, "loss")
    loss.backward()
    gradients = two.their_gradients(5)
    parameters = dict(two.ours.model.named_parameters())
    if name == "keras-conv-2d-literal":  # what the post compiled: nothing reaches the decoder
        decoder = [n for n in parameters if n.startswith("likelihood")]
        assert decoder and all(
            not gradients.pop(n).any() and not parameters.pop(n).grad.any() for n in decoder
        )
    assert_same_gradients(parameters, gradients, factor)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_start(name):
    """Glorot uniform with Keras' fans layer by layer, each head by itself, and biases of 0: both keep one law."""
    drawn: dict[str, dict[str, list[Tensor]]] = {"ours": {}, "theirs": {}}
    for seed in range(6):
        keras.utils.set_random_seed(seed)
        mine, tutorial = ours(name, f"train.seed={seed}"), theirs(name)
        for n, parameter in mine.model.named_parameters():
            drawn["ours"].setdefault(n, []).append(parameter.detach())
        for n, group in variables(tutorial, mine).items():
            drawn["theirs"].setdefault(n, []).append(gathered(group).detach())
    heads = len(tutorial.encoder.outputs)
    for n in drawn["ours"]:
        for who in drawn:
            value = torch.stack(drawn[who][n])
            if n.endswith("bias"):
                assert not value.any(), (who, n)
                continue
            field = math.prod(value.shape[3:])
            outputs = value.shape[1] // (heads if n == "posterior.net.last.weight" else 1)
            limit = math.sqrt(6 / (field * (outputs + value.shape[2])))
            # the largest of n falls short of the limit by 10 / n once in 20,000 times
            assert limit * (1 - 10 / value.numel()) < value.abs().max() <= limit, (who, n)
            assert kstest((value / limit).flatten(), "uniform", args=(-1, 2)).pvalue > 1e-3, (who, n)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_optimiser_at_one_rate(name):
    settings = ours(name).recipe.train
    adam = keras.optimizers.Adam(learning_rate=5e-4 if "leaky" in name else 1e-3).get_config()
    assert (settings.batch_size, settings.epochs) == ((32, 200) if "leaky" in name else (128, 30))
    assert settings.optimizer == "Adam" and settings.weight_decay == 0
    assert (settings.learning_rate, settings.eps) == (adam["learning_rate"], adam["epsilon"])
    assert settings.betas == (adam["beta_1"], adam["beta_2"])
    assert settings.clip is settings.skip_factor is settings.ema is settings.patience is None
    assert adam["clipnorm"] is adam["global_clipnorm"] is adam["weight_decay"] is None and not adam["use_ema"]
    plan = Plan.of(settings, 50_000)
    assert {plan.rate(step) for step in (0, 1, plan.steps // 2, plan.steps - 1)} == {adam["learning_rate"]}
    assert plan.steps_per_epoch == math.ceil(50_000 / settings.batch_size)  # Keras keeps the short last batch


def test_one_step_of_adam_is_keras_own_but_for_where_epsilon_stands():
    """Keras adds epsilon before it undoes the bias of the second moment, torch after (as Kingma and Ba write it).

    So after n steps Keras' epsilon counts 1 / sqrt(1 - beta_2^n) times: 31.6 times at the first step, 1.003 times
    after 5,000. A first step is rate x g / (|g| + epsilon), and the two differ by 3.1e-6 / |g| of it.
    """
    two = pair("keras-conv-leaky")
    settings = two.ours.recipe.train
    gradients = two.their_gradients(5)
    before = {n: p.detach().clone() for n, p in two.ours.model.named_parameters()}

    two.ours.loss(seed=5).backward()
    Updates(two.ours.objective, settings, torch.device("cpu")).apply(torch.zeros(1), settings.learning_rate)

    adam = keras.optimizers.Adam(learning_rate=settings.learning_rate)
    trained = [v for model in (two.theirs.encoder, two.theirs.decoder) for v in model.trainable_variables]
    loss = two.theirs.loss(two.x, two.ours.noise(5))
    adam.apply(torch.autograd.grad(loss, [v.value for v in trained]), trained)

    theirs_counts = settings.eps / math.sqrt(1 - settings.betas[1])
    clear = 0
    for n, parameter in two.ours.model.named_parameters():
        moved, theirs_moved = parameter.detach() - before[n], gathered(two.variables[n]) - before[n]
        for step, g, eps in (
            (moved, parameter.grad, settings.eps),
            (theirs_moved, gradients[n], theirs_counts),
        ):
            torch.testing.assert_close(
                step, -settings.learning_rate * g / (g.abs() + eps), rtol=1e-6, atol=1e-10
            )
        large = gradients[n].abs() > 0.05
        torch.testing.assert_close(moved[large], theirs_moved[large], rtol=1e-4, atol=0.0)
        clear += int(large.sum())
    assert clear > 5000
