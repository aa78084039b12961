"""Annealed log p(x) against what it is: in closed form, by quadrature, from both sides, beside importance sampling."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vaekit import (
    MLP,
    VAE,
    BernoulliLikelihood,
    FlowPrior,
    GaussianLikelihood,
    GaussianPosterior,
    HierarchicalPosterior,
    HierarchicalPrior,
    MixturePrior,
    PointPosterior,
    StandardPrior,
    VaekitError,
    VampPrior,
)
from vaekit.measures import ImportanceWeights
from vaekit.metrics.ais import Annealed, Annealing, annealed
from vaekit.metrics.hamiltonian import Position, transition
from vaekit.metrics.reading import prepared

CPU = torch.device("cpu")


class Linear(nn.Module):
    """A given affine map that keeps its dtype."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        return nn.functional.linear(x, self.weight, self.bias)


def linear_gaussian(
    D: int = 4, F: int = 8, wide: float = 1.5, off: float = 0.5, n: int = 30
) -> tuple[VAE, Tensor, Tensor]:
    """x = W z + noise in float64 with a posterior that is `wide` times too wide and `off` deviations beside the true one;
    rows x [n, F] of the model, and log p(x) [n]."""
    g = torch.Generator().manual_seed(0)
    W = torch.linalg.qr(torch.randn(F, D, generator=g, dtype=torch.float64)).Q * torch.linspace(0.5, 3, D)
    variance = 0.25
    precision = 1 + W.square().sum(0) / variance
    encode = W.T / variance / precision[:, None]
    spread = wide * precision.rsqrt()
    weight = torch.cat((encode, torch.zeros_like(encode)))
    bias = torch.cat((off * precision.rsqrt(), 2 * spread.log()))
    model = VAE(
        StandardPrior(D),
        GaussianPosterior(Linear(weight, bias), log_variance_bound=0.0),
        GaussianLikelihood(Linear(W, torch.zeros(F, dtype=torch.float64)), variance=variance),
    ).double()
    x = (
        torch.randn(n, D, generator=g).double() @ W.T
        + variance**0.5 * torch.randn(n, F, generator=g).double()
    )
    law = torch.distributions.MultivariateNormal(
        torch.zeros(F).double(), W @ W.T + variance * torch.eye(F).double()
    )
    return model, x, law.log_prob(x)


def anneal(model: VAE, x: Tensor, c: Tensor | None = None, **how) -> Annealed:
    def rows(index: np.ndarray) -> tuple[Tensor, Tensor | None]:
        return x[index], None if c is None else c[index]

    with prepared(model, CPU, seed=0):
        return annealed(model, rows, len(x), Annealing(**({"images": len(x), "chains": 8} | how)))


def near(values: np.ndarray, expected: float = 0.0, slack: float = 0.0) -> bool:
    """Whether a mean is what it should be, by four of its standard errors."""
    return abs(values.mean() - expected) < 4 * values.std(ddof=1) / math.sqrt(len(values)) + slack


@pytest.mark.parametrize("start", ["posterior", "prior"])
def test_annealing_finds_the_exact_likelihood_and_brackets_it(start):
    model, x, exact = linear_gaussian()
    found = anneal(model, x, start=start, steps={"posterior": 40, "prior": 200}[start])
    error = found.bounds - exact[found.index].numpy()
    # a lower bound in expectation, and close
    assert -0.2 < error.mean() < 3 * error.std(ddof=1) / math.sqrt(len(error))
    assert found.index.tolist() == list(range(30)) and 0.5 < found.acceptance < 0.9
    assert ((found.effective_sample_size >= 1) & (found.effective_sample_size <= 8)).all()
    # simulated rows are others: their bounds hold the entropy between them, E[log p(x)] under the model
    gap = found.upper - found.lower
    assert gap.mean() > -3 * gap.std(ddof=1) / math.sqrt(len(gap)) and gap.mean() < 0.5
    F, log_det = x.shape[1], -2 * exact.mean().item()  # of this model, up to noise of n rows
    assert -2 * found.lower.mean() == pytest.approx(log_det, abs=6 * math.sqrt(2 * F / len(gap)))


def test_with_the_true_posterior_every_weight_is_the_likelihood():
    model, x, exact = linear_gaussian(wide=1.0, off=0.0)
    found = anneal(model, x, steps=4)
    np.testing.assert_allclose(found.bounds, exact[found.index].numpy(), atol=1e-9)
    np.testing.assert_allclose(found.upper, found.lower, atol=1e-9)


def test_annealing_is_tighter_than_importance_sampling_at_equal_cost_where_the_posterior_is_poor():
    # too narrow, as posteriors of a family that is too small are
    model, x, exact = linear_gaussian(D=12, F=16, wide=0.5, off=1.0)
    spent = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal spent
        # a gradient with respect to z costs another product of the same size
        spent += len(inputs[0]) * (2 if torch.is_grad_enabled() else 1)

    hook = model.likelihood.net.register_forward_hook(count)
    found = anneal(model, x, steps=60)
    hook.remove()
    k = math.ceil(spent / len(x))  # pilots and simulated rows, too, are on annealing's account
    with torch.no_grad():
        weights = ImportanceWeights([k])
        for _ in range(0, k, 2000):
            weights.add(model(x, k=2000).log_w)
    bound = weights.bounds[0].numpy()[found.index]
    gain = found.bounds - bound
    assert gain.mean() > 3 * gain.std(ddof=1) / math.sqrt(len(gain)), (gain.mean(), k)
    truth = exact[found.index].numpy()
    assert abs((found.bounds - truth).mean()) < 0.5 * abs((bound - truth).mean())


class Digits(nn.Module):
    """A small decoder of 2-D codes with strong weights: its posteriors are curved, and some have two ends."""

    def __init__(self, pixels: int) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Sequential(nn.Linear(2, 24), nn.Tanh(), nn.Linear(24, pixels))
        with torch.no_grad():
            for p in self.parameters():
                p.mul_(3.0)

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        return self.body(z)


def two_dimensional(n: int = 60) -> tuple[VAE, Tensor, np.ndarray]:
    """A model of 40 bits with a 2-D latent and a posterior that knows little, rows of it, and log p(x) by quadrature."""
    model = VAE(
        StandardPrior(2),
        GaussianPosterior(Linear(torch.zeros(4, 40), torch.tensor([0.3, -0.2, 0.5, 0.2]))),
        BernoulliLikelihood(Digits(40), initialise_bias=False),
    ).double()
    torch.manual_seed(1)
    x = model.sample(n, noise=True)
    side = torch.linspace(-6, 6, 601, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)  # a sum over a grid is exact far beyond fp64's use here
    area = 2 * math.log((side[1] - side[0]).item())
    with torch.no_grad():
        logits = model.likelihood.net(grid)  # [G, 40]
        log_p = x @ logits.T - nn.functional.softplus(logits).sum(-1) + model.prior().log_prob(grid)
    return model, x, (torch.logsumexp(log_p, 1) + area).numpy()


def test_a_two_dimensional_latent_agrees_with_quadrature():
    model, x, exact = two_dimensional()
    with torch.no_grad():
        weights = ImportanceWeights([4000])
        weights.add(model(x, k=4000).log_w)
    error = weights.bounds[0].numpy() - exact
    assert near(error, slack=2e-3) and abs(error.mean()) < 0.02
    found = anneal(model, x, steps=100, chains=16)
    error = found.bounds - exact
    assert near(error, slack=0.02) and abs(error.mean()) < 0.15


def test_the_bound_rises_with_k_in_the_mean_and_stays_under_the_truth():
    model, x, exact = two_dimensional()
    ks, rounds = (1, 2, 5, 20, 100), []
    with torch.no_grad():
        for _ in range(30):
            weights = ImportanceWeights(ks)
            weights.add(model(x, k=100).log_w)
            rounds.append(weights.bounds.mean(1).numpy())
    means, errors = np.mean(rounds, 0), np.std(rounds, 0, ddof=1) / math.sqrt(30)
    assert (np.diff(means) > 3 * (errors[1:] + errors[:-1])).all(), means
    assert means[-1] < exact.mean() + 3 * errors[-1]


def bits_of(prior: str, condition: int = 0) -> VAE:
    torch.manual_seed(0)
    D, shape = 4, (1, 6, 6)
    posterior: nn.Module = GaussianPosterior(MLP(shape, (2 * D,), (16,), condition=condition))
    if prior == "hierarchical":
        posterior = HierarchicalPosterior(MLP(shape, (8 * D,), (16,)), D, width=8)
    made = {
        "standard": lambda: StandardPrior(D), "flow": lambda: FlowPrior(D, condition=condition),
        "mixture": lambda: MixturePrior(D, 3), "vamp": lambda: VampPrior(posterior, D, shape, 5),
        "hierarchical": lambda: HierarchicalPrior(D, width=8),
    }  # fmt: skip
    return VAE(
        made[prior](), posterior, BernoulliLikelihood(MLP((D,), shape, (16,), condition=condition), False)
    )


@pytest.mark.parametrize("prior", ["standard", "flow", "mixture", "vamp", "hierarchical"])
def test_every_prior_is_bracketed_and_agrees_with_many_draws(prior):
    model, x = bits_of(prior), torch.rand(24, 1, 6, 6).round()
    found = anneal(model, x, steps=40)
    gap = found.upper - found.lower
    assert abs(gap.mean()) < 0.1 and np.isfinite(found.bounds).all()
    with torch.no_grad():
        weights = ImportanceWeights([3000])
        weights.add(model(x, k=3000).log_w)
    np.testing.assert_allclose(found.bounds.mean(), weights.bounds[0].mean().item(), atol=0.05)


def test_a_conditional_model_is_annealed_under_its_conditions():
    model, x = bits_of("flow", condition=3), torch.rand(12, 1, 6, 6).round()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(2)
    c = torch.eye(3)[torch.arange(12) % 3]
    right, wrong = anneal(model, x, c, steps=50), anneal(model, x, c.roll(1, 1), steps=2)
    with torch.no_grad():
        weights = ImportanceWeights([4000])
        weights.add(model(x, c, k=4000).log_w)
    assert near(right.bounds - weights.bounds[0].numpy(), slack=0.05)
    assert np.abs(right.bounds - wrong.bounds).max() > 1


def test_a_seed_repeats_itself_on_any_number_of_cores_and_nothing_is_left_behind():
    model, x = bits_of("flow").train(), torch.rand(40, 1, 6, 6).round()
    next(model.likelihood.parameters()).requires_grad_(False)
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    try:
        found = []
        for cores in (1, 2, 2):
            torch.set_num_threads(cores)
            found.append(anneal(model, x, images=30, steps=5))
            assert torch.get_num_threads() == cores
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert (other.index == found[0].index).all() and len(other.index) == 30
        np.testing.assert_allclose(other.bounds, found[0].bounds, atol=1e-4)
        np.testing.assert_allclose(other.upper, found[0].upper, atol=1e-4)
    assert torch.equal(state, torch.get_rng_state()) and model.training
    assert [p.requires_grad for p in model.parameters()].count(False) == 1
    assert all(p.grad is None for p in model.parameters())


def test_rows_that_are_simulated_are_drawn_from_those_that_are_annealed():
    asked, model = [], linear_gaussian(n=200)[0]

    def rows(index: np.ndarray) -> tuple[Tensor, Tensor | None]:
        asked.append(index.tolist())
        return torch.zeros(len(index), 8).double(), None

    with prepared(model, CPU, seed=0):
        found = annealed(model, rows, 200, Annealing(images=50, chains=2, steps=3))
    index = found.index.tolist()
    assert asked[1] == index == sorted(index) and len(asked[2]) == 10
    assert set(asked[2]) < set(index) and asked[2] != index[:10] and max(asked[2]) > 100


class Ridge:
    """A path from N(0, I) to a Gaussian of other scales."""

    scales = torch.tensor([0.3, 1.0, 2.0], dtype=torch.float64)

    def start(self, z: Tensor) -> Tensor:
        return -0.5 * z.square().sum(-1)

    def end(self, z: Tensor) -> Tensor:
        return -0.5 * (z / self.scales).square().sum(-1)


@pytest.mark.parametrize("beta", [0.3, 1.0])
def test_a_transition_leaves_its_law_as_it_is(beta):
    path = Ridge()
    variance = 1 / ((1 - beta) + beta / path.scales.square())
    here = Position.at(path, variance.sqrt() * torch.randn(4000, 2, 3, dtype=torch.float64))
    before, generator = here.z, torch.Generator().manual_seed(7)  # not the noise that z is made of
    step, scale = torch.tensor([0.4, 1.0]).double(), torch.ones(2, 3).double()
    accepted = []
    for _ in range(6):
        here, accept = transition(path, here, beta, step, scale, 3, generator)
        accepted.append(accept.mean().item())
    assert min(accepted) > 0.3 and max(accepted) < 0.999, "a rejection is part of what is tested"
    error = variance * math.sqrt(2 / 4000)
    assert ((here.z.square().mean(0) - variance).abs() < 4.5 * error).all()
    assert (here.z - before).abs().mean() > 0.2


def test_what_cannot_be_annealed_is_told_in_one_line():
    x, net = torch.rand(3, 1, 6, 6).round(), MLP((1, 6, 6), (4,))
    point = VAE(StandardPrior(4), PointPosterior(net), BernoulliLikelihood(MLP((4,), (1, 6, 6))))
    with pytest.raises(VaekitError, match=r"PointPosterior has no density.*--ais-from prior"):
        anneal(point, x)
    assert np.isfinite(anneal(point, x, start="prior", steps=5).bounds).all()
    with pytest.raises(VaekitError, match="steps is 1; give at least 2"):
        Annealing(steps=1)
    with pytest.raises(VaekitError, match=r"no .chain. .did you mean .chains"):
        Annealing.of({"chain": 3})
