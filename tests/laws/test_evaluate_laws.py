"""What is reported must be so: bounds against the exact linear-Gaussian model, sums against closed forms."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vaekit.data import Contract, Split
from vaekit.distributions import Bernoulli, DiagonalGaussian
from vaekit.errors import VaekitError
from vaekit.likelihoods import GaussianLikelihood
from vaekit.measures import ImportanceWeights, Moments, active_units, mutual_information
from vaekit.metrics.evaluate import evaluate
from vaekit.metrics.weighing import log_density
from vaekit.model import VAE
from vaekit.posteriors import GaussianPosterior
from vaekit.priors import StandardPrior

F, D, N, SIGMA, OFFSET, DIVISOR = 6, 3, 57, 0.5, 2.0, 3.0
SCALES = torch.tensor([1.5, 0.7, 0.0])  # the last latent dimension reaches nothing


class Encoder(nn.Module):
    """The true posterior of x = W z + noise for orthogonal columns W, its log-variance off by `widened`."""

    def __init__(self, W: Tensor, widened: float) -> None:
        super().__init__()
        self.W, self.widened, self.unused = W, widened, nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        precision = 1 + self.W.square().sum(0) / SIGMA**2  # [D]
        mean = x @ self.W / SIGMA**2 / precision
        return torch.cat((mean, (self.widened - precision.log()).expand_as(mean)), -1)


class Decoder(nn.Module):
    def __init__(self, W: Tensor) -> None:
        super().__init__()
        self.W = W

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        return z @ self.W.T


def linear_gaussian(widened: float = 0.0) -> tuple[VAE, Contract, Split, np.ndarray]:
    """A model whose log p(x) is known, its data in units that are not the model's, and log p of each row."""
    generator = torch.Generator().manual_seed(0)
    W = torch.linalg.qr(torch.randn(F, D, generator=generator)).Q * SCALES
    model = VAE(
        StandardPrior(D),
        GaussianPosterior(Encoder(W, widened), log_variance_bound=0),
        GaussianLikelihood(Decoder(W), variance=SIGMA**2, divisor=(DIVISOR,)),
    )
    law = torch.distributions.MultivariateNormal(
        torch.full((F,), OFFSET).double(),
        DIVISOR**2 * (W.double() @ W.double().T + SIGMA**2 * torch.eye(F).double()),
    )
    x = OFFSET + DIVISOR * (
        torch.randn(N, D, generator=generator) @ W.T + SIGMA * torch.randn(N, F, generator=generator)
    )
    contract = Contract(
        "line", (F,), "real", float(x.min()), float(x.max()), 0, (OFFSET,), (DIVISOR,), "float32"
    )
    return model, contract, Split(x.numpy(), None, "test"), law.log_prob(x.double()).numpy()


def test_with_the_true_posterior_every_bound_is_the_likelihood_and_every_draw_counts(tmp_path):
    model, contract, split, exact = linear_gaussian()
    result = evaluate(model, split, contract, k=(1, 10, 500), save=tmp_path)
    for entry in result["nll"]:
        assert entry["value"] == pytest.approx(-exact.mean(), abs=1e-4)
        assert entry["effective_sample_size"]["median"] == pytest.approx(entry["k"], rel=1e-3)
        assert entry["standard_error"] == pytest.approx(exact.std(ddof=1) / math.sqrt(N), rel=1e-3)
    # the rate is exact, the distortion an average over 500 draws
    assert result["elbo"] == pytest.approx(exact.mean(), abs=0.05)
    assert result["elbo"] == pytest.approx(-(result["rate"] + result["distortion"]))
    np.testing.assert_allclose(-np.load(tmp_path / "per_image.npz")["nll"][0], exact, atol=1e-3)


def test_bounds_rise_with_k_from_the_elbo_to_the_likelihood(tmp_path):
    model, contract, split, exact = linear_gaussian(widened=1.5)
    result = evaluate(model, split, contract, k=(1, 8, 64, 4096), draws=4096, save=tmp_path)
    values = [entry["value"] for entry in result["nll"]]
    assert values == sorted(values, reverse=True)
    assert values[1] < -result["elbo"]
    gap = -result["elbo"] + exact.mean()  # KL(q, true posterior), known in closed form
    assert gap == pytest.approx(D * 0.5 * (math.exp(1.5) - 1 - 1.5), abs=0.05)
    # image by image, on the same data: the error left is that of the draws alone
    error = -np.load(tmp_path / "per_image.npz")["nll"][-1] - exact
    assert abs(error.mean()) < 4 * error.std() / math.sqrt(N) + 2e-3
    assert result["nll"][-1]["effective_sample_size"]["median"] < 4096


def test_a_short_last_batch_weighs_as_many_rows_as_it_has():
    model, contract, split, exact = linear_gaussian()
    for memory in (4 * F * 5, 4 * F * 64 * 7, 1 << 24):  # 57 rows in chunks of 5, of 7 or so, at once
        result = evaluate(model, split, contract, k=(3, 7), memory=memory)
        assert result["nll"][-1]["value"] == pytest.approx(-exact.mean(), abs=1e-4)
        assert result["elbo"] == pytest.approx(exact.mean(), abs=0.5)  # seven draws, in pieces or together
        assert result["rate"] == pytest.approx(evaluate(model, split, contract, k=(1,))["rate"], abs=1e-4)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_neither_memory_nor_cores_change_a_draw(tmp_path, threads):
    model, contract, split, _ = linear_gaussian(widened=1.5)
    found = []
    for number, (cores, memory) in enumerate(((1, None), (2, None), (2, 4 * F), (1, 4 * F * 100))):
        threads(cores)
        evaluate(model, split, contract, k=(1, 300), memory=memory, save=tmp_path / str(number))
        assert torch.get_num_threads() == cores
        found.append(np.load(tmp_path / str(number) / "per_image.npz")["nll"])
    for other in found[1:]:
        np.testing.assert_allclose(found[0], other, rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", [(1,), (31,), (1, 8, 9), (3, 29, 41), (5000,)])
def test_bits_weighed_by_products_equal_bits_weighed_one_by_one(shape):
    generator = torch.Generator().manual_seed(0)
    logits = 20 * torch.randn(7, 5, *shape, generator=generator, dtype=torch.float64)
    logits.view(-1)[:3] = torch.tensor([0.0, 3000.0, -3000.0])
    before = logits.clone()
    law = Bernoulli(logits, event_dims=len(shape))
    for x in (
        torch.rand(5, *shape, generator=generator).round().double(),
        torch.full((5, *shape), 0.3).double(),
    ):
        each = x * logits - torch.logaddexp(torch.zeros_like(logits), logits)
        torch.testing.assert_close(log_density(law, x), each.flatten(2).sum(-1), rtol=1e-12, atol=1e-10)
    assert torch.equal(logits, before), "a net may give logits that are its own"


def test_a_failing_decoder_is_heard_of_and_the_threads_come_back(threads):
    model, contract, split, _ = linear_gaussian()
    threads(2)

    def fails(*_: object) -> None:
        raise RuntimeError("broken")

    model.likelihood.net.register_forward_hook(
        lambda module, inputs, out: out if out.shape[0] == 1 else fails()
    )
    with pytest.raises(RuntimeError, match="broken"):
        evaluate(model, split, contract, k=(3,))
    assert torch.get_num_threads() == 2


def test_collapsed_dimensions_are_seen():
    model, contract, split, _ = linear_gaussian()
    result = evaluate(model, split, contract, k=(1,))
    assert (result["active_units"], result["latent"]) == (2, 3)
    assert result["kl_per_dimension"][2] == pytest.approx(0, abs=1e-6)
    assert sum(result["kl_per_dimension"]) == pytest.approx(result["rate"], abs=1e-4)
    assert 0 < result["mutual_information"]["value"] <= result["mutual_information"]["at_most"]
    assert result["mutual_information"]["at_most"] == pytest.approx(math.log(N))


@pytest.mark.parametrize("pieces", [[100], [1] * 100, [3, 4, 60, 33]])
def test_streamed_bounds_equal_logsumexp_however_the_draws_arrive(pieces):
    torch.manual_seed(0)
    log_w = 30 * torch.randn(100, 11, dtype=torch.float64) - 2000
    weights = ImportanceWeights([100, 1, 7])
    for part in log_w.split(pieces):
        weights.add(part)
    for k, bound, size in zip((1, 7, 100), weights.bounds, weights.effective_sample_sizes, strict=True):
        torch.testing.assert_close(bound, torch.logsumexp(log_w[:k], 0) - math.log(k))
        w = torch.softmax(log_w[:k], 0)
        torch.testing.assert_close(size, 1 / w.square().sum(0))


def test_weights_of_zero_give_no_nan():
    weights = ImportanceWeights([2, 4])
    weights.add(torch.full((2, 1), -math.inf))
    weights.add(torch.tensor([[-3000.0], [-math.inf]]))
    assert weights.bounds[0].item() == -math.inf and weights.effective_sample_sizes[0].item() == 0
    assert weights.bounds[1].item() == pytest.approx(-3000 - math.log(4))
    assert weights.effective_sample_sizes[1].item() == pytest.approx(1)


@pytest.mark.parametrize("k", [(), (0,), (1, -5), (2.5,)])
def test_k_below_one_is_refused(k):
    with pytest.raises(VaekitError, match="each at least 1"):
        ImportanceWeights(k)


def test_moments_do_not_depend_on_the_batches_and_do_not_cancel():
    rows = np.random.default_rng(0).normal(1e4, 0.1, (101, 3))
    moments = Moments()
    for part in np.split(rows, [1, 40, 41, 100]):
        moments.add(torch.from_numpy(part))
    np.testing.assert_allclose(moments.mean, rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments.variance, rows.var(0, ddof=1), rtol=1e-9)
    assert active_units(torch.tensor([0.02, 0.01, 0.0])).tolist() == [True, False, False]


def test_mutual_information_against_closed_forms():
    torch.manual_seed(0)
    same = DiagonalGaussian(torch.zeros(64, 2), torch.zeros(64, 2))
    z = same.rsample()
    assert mutual_information(same, z, same.log_prob(z)).item() == pytest.approx(0, abs=1e-6)
    apart = DiagonalGaussian(1000.0 * torch.arange(64).unsqueeze(-1), torch.zeros(64, 1))
    z = apart.rsample()
    assert mutual_information(apart, z, apart.log_prob(z)).item() == pytest.approx(math.log(64))
    # two rows at -1 and +1 with unit noise: log 2 - E[log(1 + exp(-2 (1 + e)))], e ~ N(0, 1), by quadrature
    e = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    density = torch.exp(-0.5 * e.square()) / math.sqrt(2 * math.pi)
    expected = math.log(2) - torch.trapezoid(density * torch.log1p(torch.exp(-2 * (1 + e))), e).item()
    pair = DiagonalGaussian(torch.tensor([[-1.0], [1.0]]), torch.zeros(2, 1))
    draws = pair.rsample((4000,))
    found = np.array([mutual_information(pair, z, pair.log_prob(z)).item() for z in draws])
    assert found.mean() == pytest.approx(expected, abs=4 * found.std() / math.sqrt(4000))
