"""`evaluate` and the pictures a run ends with, on real data: fields others read, numbers known beforehand."""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from vaekit import (
    MLP,
    VAE,
    AutoregressiveLikelihood,
    BernoulliLikelihood,
    BinomialLikelihood,
    DiscretisedLogisticLikelihood,
    FlowPrior,
    GaussianLikelihood,
    GaussianPosterior,
    MixturePrior,
    PointPosterior,
    StandardPrior,
    VaekitError,
    VampPrior,
)
from vaekit.data import Contract, Data, Split
from vaekit.metrics.ais import Annealing
from vaekit.metrics.evaluate import evaluate
from vaekit.train.look import look, peek, preview

SHARED = Path(__file__).parents[2] / "../shared/data"
NAMES = tuple(map(str, range(10)))


def digits(n: int = 60) -> tuple[Contract, Split]:
    raw = load_digits()
    contract = Contract("digits", (1, 8, 8), "levels", 0, 16, 16, (0.0,), (16.0,), "uint8", labels=NAMES)
    return contract, Split(raw.images[:n, None].astype(np.uint8), raw.target[:n].astype(np.int64), "test")


def model_of(prior: nn.Module, D: int, shape=(1, 8, 8), condition: int = 0) -> VAE:
    torch.manual_seed(0)
    return VAE(
        prior,
        GaussianPosterior(MLP(shape, (2 * D,), hidden=(32,), condition=condition)),
        BinomialLikelihood(MLP((D,), shape, hidden=(32,), condition=condition), 16),
    )


def test_the_object_has_the_fields_that_scripts_read(tmp_path):
    contract, split = digits()
    model = model_of(StandardPrior(2), 2)
    result = evaluate(model, split, contract, k=(1, 10, 50), save=tmp_path)
    assert result["split"] == "test" and result["images"] == 60 and result["units"] == "nats per image"
    assert result["elbo"] == pytest.approx(-(result["rate"] + result["distortion"]))
    assert [entry["k"] for entry in result["nll"]] == [1, 10, 50]
    for entry in result["nll"]:
        assert entry["value"] > 0 and entry["standard_error"] > 0
        size = entry["effective_sample_size"]
        assert 1 <= size["p01"] <= size["median"] <= entry["k"]
    values = [entry["value"] for entry in result["nll"]]
    assert values == sorted(values, reverse=True) and values[-1] < -result["elbo"]
    assert result["bits_per_dimension"] == pytest.approx(values[-1] / (64 * math.log(2)))
    assert result["data_hash"] == split.hash(contract) and result["data_name"] is None
    assert 0 <= result["active_units"] <= 2 and len(result["kl_per_dimension"]) == 2
    assert result["reason"] is None and result["binarized"] is None
    assert json.loads((tmp_path / "evaluation.json").read_text()) == result
    arrays = np.load(tmp_path / "per_image.npz")
    assert arrays["nll"].shape == (3, 60) and arrays["k"].tolist() == [1, 10, 50]
    np.testing.assert_allclose(arrays["nll"].mean(1), values)
    np.testing.assert_allclose(arrays["elbo"].mean(), result["elbo"])
    assert result["elbo_standard_error"] == pytest.approx(arrays["elbo"].std(ddof=1) / math.sqrt(60))


def test_a_seed_repeats_itself_and_leaves_model_and_generator_as_they_were():
    contract, split = digits()
    model = model_of(FlowPrior(3), 3).train()
    model.posterior.eval()
    state = torch.get_rng_state()
    first, again, other = (evaluate(model, split, contract, k=(5,), seed=seed) for seed in (1, 1, 2))
    assert first == again and first["nll"] != other["nll"]
    assert torch.equal(state, torch.get_rng_state())
    assert model.training and model.likelihood.net.training and not model.posterior.training


@pytest.mark.parametrize("kind", ["mixture", "flow", "vamp"])
def test_priors_without_a_closed_rate_get_an_estimate(kind):
    contract, split = digits()
    model = model_of(StandardPrior(2), 2)
    made = {"mixture": lambda: MixturePrior(2), "flow": lambda: FlowPrior(2)}
    model.prior = made[kind]() if kind in made else VampPrior(model.posterior, 2, (1, 8, 8), components=7)
    result = evaluate(model, split, contract, k=(1, 200))
    assert result["kl_per_dimension"] is None
    assert result["elbo"] == pytest.approx(-(result["rate"] + result["distortion"]))
    if kind == "flow":  # a new flow is the standard prior, whose rate has a closed form
        model.prior = StandardPrior(2)
        exact = evaluate(model, split, contract, k=(1, 200))
        assert result["rate"] == pytest.approx(exact["rate"], abs=0.05)
        assert result["nll"][1]["value"] == pytest.approx(exact["nll"][1]["value"], abs=0.05)


def test_a_conditional_model_is_judged_under_its_labels():
    contract, split = digits()
    model = model_of(StandardPrior(2), 2, condition=10)
    right = evaluate(model, split, contract, k=(1,), condition=True)
    wrong = Split(split.x, (split.label + 1) % 10, "test")
    assert right["nll"] != evaluate(model, wrong, contract, k=(1,), condition=True)["nll"]


def test_a_point_posterior_has_a_distortion_and_says_why_nothing_else():
    contract, split = digits()
    net = MLP((1, 8, 8), (2,), hidden=(16,))
    model = VAE(StandardPrior(2), PointPosterior(net), BinomialLikelihood(MLP((2,), (1, 8, 8)), 16))
    result = evaluate(model, split, contract)
    assert result["elbo"] is result["rate"] is result["nll"] is result["mutual_information"] is None
    assert result["distortion"] > 0 and result["draws"] == 1
    assert "PointPosterior has no density" in result["reason"] and "--refit-encoder" in result["reason"]
    assert result["warnings"] == []


def test_bernoulli_on_grey_values_gets_no_nll_and_bits_do():
    _, split = digits()
    grey = Contract("digits", (1, 8, 8), "levels", 0, 16, 16, (0.0,), (16.0,), "uint8")
    bits = Contract("digits", (1, 8, 8), "binary", 0, 16, 1, (0.0,), (16.0,), "uint8", binarize="dynamic")
    torch.manual_seed(0)
    model = VAE(
        StandardPrior(2),
        GaussianPosterior(MLP((1, 8, 8), (4,))),
        BernoulliLikelihood(MLP((2,), (1, 8, 8))),
    )
    result = evaluate(model, split, grey, k=(1, 10))
    assert result["nll"] is None and result["bits_per_dimension"] is None
    assert "cross-entropy" in result["reason"] and "--binarize" in result["reason"]
    assert result["distortion"] > 0 and result["rate"] > 0
    result = evaluate(model, split, bits, k=(1, 10))
    assert result["reason"] is None and result["nll"][1]["value"] > 0 and result["binarized"] == "dynamic"
    assert result["data_hash"] == split.frozen(bits).hash(bits)


@pytest.mark.parametrize(
    ("likelihood", "kind", "levels", "measure", "decoder"),
    [
        ("BernoulliLikelihood", "binary", 1, "probability", "factorised"),
        ("AutoregressiveLikelihood", "binary", 1, "probability", "autoregressive"),
        ("BinomialLikelihood", "levels", 16, "probability", "factorised"),
        ("DiscretisedLogisticLikelihood", "levels", 16, "probability", "factorised"),
        ("GaussianLikelihood", "levels", 16, "density", "factorised"),
    ],
)
def test_the_object_says_what_was_weighed_and_by_which_class_of_decoder(
    likelihood, kind, levels, measure, decoder
):
    _, split = digits(40)
    binarize = "dynamic" if kind == "binary" else None
    contract = Contract(
        "digits", (1, 8, 8), kind, 0, 16, levels, (0.0,), (16.0,), "uint8", binarize=binarize, rows={"train": 1437}
    )  # fmt: skip
    net = MLP((2,), (1, 8, 8))
    made = {
        "BernoulliLikelihood": lambda: BernoulliLikelihood(net),
        "AutoregressiveLikelihood": lambda: AutoregressiveLikelihood(net, (1, 8, 8), hidden=()),
        "BinomialLikelihood": lambda: BinomialLikelihood(net, 16),
        "DiscretisedLogisticLikelihood": lambda: DiscretisedLogisticLikelihood(net, 16),
        "GaussianLikelihood": lambda: GaussianLikelihood(net, divisor=(16.0,)),
    }
    model = VAE(StandardPrior(2), GaussianPosterior(MLP((1, 8, 8), (4,))), made[likelihood]())
    result = evaluate(model, split, contract, k=(1, 20))
    told = (
        result["likelihood"],
        result["decoder"],
        result["measure"],
        result["kind"],
        result["binarized"],
        result["dequantized"],
    )
    assert told == (likelihood, decoder, measure, kind, binarize, None)
    assert (result["bits_per_dimension"] is None) == (measure == "density")
    assert any("without dequantisation" in text for text in result["warnings"]) == (measure == "density")
    # the hash is that of what was weighed: the fixed bits, or the rows as they are stored
    assert result["data_hash"] == split.frozen(contract).hash(contract)
    bits = np.packbits(split.frozen(contract).x != 0)
    raw = np.ascontiguousarray(split.x).tobytes()
    assert result["data_hash"] == hashlib.sha256(bits.tobytes() if kind == "binary" else raw).hexdigest()


def test_an_nll_that_rests_on_few_draws_is_not_trusted_and_the_reader_hears_what_to_do():
    contract, split = digits()
    model = model_of(StandardPrior(2), 2)
    model.posterior = GaussianPosterior(Ignores(torch.tensor([0.0, 0.0, 3.0, 3.0])))  # far too wide
    with torch.no_grad():
        for p in model.likelihood.parameters():
            p.mul_(4)
    result = evaluate(model, split, contract, k=(1, 200))
    assert [entry["trusted"] for entry in result["nll"]] == [False, False]
    (warning,) = result["warnings"]
    assert "fewer than 10 of its 200 draws" in warning
    assert "--k" in warning and "--ais" in warning and "--refit-encoder" in warning
    # what was already done is not advised again
    used = evaluate(
        model, split, contract, k=(1, 200), about={"encoder": "refitted on train with DReG"},
        ais=Annealing(images=2, steps=5, chains=2),
    )  # fmt: skip
    (warning,) = used["warnings"]
    assert "--k" in warning and "--ais" not in warning and "--refit-encoder" not in warning
    # a posterior that is the truth: here codes say nothing, and so all draws are worth the same
    model.posterior = GaussianPosterior(Ignores(torch.zeros(4)))
    with torch.no_grad():
        for p in model.likelihood.parameters():
            p.zero_()
    result = evaluate(model, split, contract, k=(1, 200))
    assert [entry["trusted"] for entry in result["nll"]] == [False, True] and result["warnings"] == []


def test_densities_of_real_rows_have_no_bits_and_may_be_negative():
    x = np.random.default_rng(0).normal(0, 1e-3, (40, 5)).astype(np.float32)
    contract = Contract("rows", (5,), "real", -1, 1, 0, (0.0,), (1e-3,), "float32")
    model = VAE(
        StandardPrior(2),
        GaussianPosterior(MLP((5,), (4,))),
        GaussianLikelihood(MLP((2,), (5,)), variance=1.0, divisor=(1e-3,)),
    )
    result = evaluate(model, Split(x, None, "valid"), contract, k=(1,))
    assert result["units"] == "nats per row" and result["bits_per_dimension"] is None
    # five columns of deviation 1e-3: about 5 log 1000 nats more than under unit scale
    assert result["nll"][0]["value"] == pytest.approx(5 * 1.9 - 5 * math.log(1e3), abs=8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": (0, 5)}, "each at least 1"),
        ({"draws": 0}, "draws is 0"),
        ({"rows": 0}, "no rows"),
        ({"device": "foo"}, "'foo', but this machine has"),
        ({"device": "cuda:99"}, "'cuda:99', but this machine"),
    ],
)
def test_bad_input_is_one_line(change, message):
    contract, split = digits()
    split = Split(split.x[:0], None, "test") if change.pop("rows", 1) == 0 else split
    with pytest.raises(VaekitError, match=message) as caught:
        evaluate(model_of(StandardPrior(2), 2), split, contract, **change)
    assert "\n" not in str(caught.value)


def test_a_model_that_gives_nan_is_no_table_entry():
    contract, split = digits()
    model = model_of(StandardPrior(2), 2)
    with torch.no_grad():
        next(model.likelihood.parameters()).fill_(math.nan)
    with pytest.raises(VaekitError, match="NaN for 60 of 60 rows"):
        evaluate(model, split, contract, k=(1,))


def test_decoding_in_bf16_moves_the_mean_by_far_less_than_its_standard_error():
    contract, split = digits()
    model = model_of(StandardPrior(2), 2)
    exact = evaluate(model, split, contract, k=(1, 200))
    rounded = evaluate(model, split, contract, k=(1, 200), precision="bf16")
    assert (exact["precision"], rounded["precision"]) == ("fp32", "bf16")
    assert rounded["rate"] == exact["rate"], "the encoder is not rounded"
    for one, other in zip(exact["nll"], rounded["nll"], strict=True):
        assert 0 < abs(one["value"] - other["value"]) < 0.05 * one["standard_error"]
    assert next(model.parameters()).dtype == torch.float32


def test_annealed_rows_stand_beside_their_bound_in_the_same_precision(tmp_path):
    contract, split = digits()
    model = model_of(StandardPrior(2), 2)
    how = {"k": (1, 20), "ais": Annealing(images=12, chains=2, steps=4)}
    exact = evaluate(model, split, contract, **how)
    rounded = evaluate(model, split, contract, **how, precision="bf16", save=tmp_path)
    assert (
        rounded["precision"] == "bf16" and exact["ais"]["precision"] == rounded["ais"]["precision"] == "fp32"
    )
    assert rounded["ais"]["nll"] == exact["ais"]["nll"] and rounded["nll"] != exact["nll"]
    arrays = np.load(tmp_path / "per_image.npz")
    some = Split(split.rows(arrays["ais_rows"]), None, "test", bits=split.bits)
    alone = evaluate(model, some, contract, k=(20,))["nll"][0]
    assert rounded["ais"]["bound"] == {
        "k": 20,
        "value": alone["value"],
        "standard_error": alone["standard_error"],
    }
    gap = alone["value"] - rounded["ais"]["nll"]["value"]
    assert rounded["ais"]["gap"]["value"] == pytest.approx(gap, abs=1e-9)


class Ignores(nn.Module):
    """Always the same output: a decoder that ignores z, or an encoder that says N(0, I)."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = nn.Parameter(value)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        return self.value.expand(len(x), *self.value.shape)


def idx(name: str) -> np.ndarray:
    import gzip

    path = SHARED / "mnist" / name
    if not path.exists():
        pytest.skip(f"{path} is not here")
    return np.frombuffer(gzip.open(path).read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)


def test_a_decoder_that_ignores_z_gives_the_known_floor_on_the_known_bits():
    """numbers.md: 205.69 +- 0.02 on these MNIST bits. A wrong evaluator lands elsewhere."""
    train, test = idx("train-images-idx3-ubyte.gz"), idx("t10k-images-idx3-ubyte.gz")
    contract = Contract(
        "mnist", (1, 28, 28), "binary", 0, 255, 1, (0.0,), (255.0,), "uint8", binarize="dynamic"
    )
    p = torch.from_numpy(train.mean(0) / 255).float().clamp(1e-4, 1 - 1e-4)
    model = VAE(
        StandardPrior(2),
        GaussianPosterior(Ignores(torch.zeros(4))),
        BernoulliLikelihood(Ignores(torch.logit(p))),
    )
    result = evaluate(model, Split(test, None, "test"), contract, k=(1, 3))
    assert result["data_hash"] == "e57c29358f8feb9d94da931970e5d4412a2ac9422f0a8515278b558a6d213cf7"
    assert "MNIST test" in result["data_name"]
    assert [entry["value"] for entry in result["nll"]] == pytest.approx([205.69, 205.69], abs=0.02)
    assert result["nll"][1]["effective_sample_size"]["median"] == pytest.approx(3)
    assert (result["rate"], result["active_units"]) == (0, 0)
    assert result["mutual_information"]["value"] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("D", [1, 2, 5])
def test_look_writes_every_picture_and_disturbs_nothing(tmp_path, D):
    contract, split = digits(80)
    model = model_of(StandardPrior(D), D).train()
    lines = [{"epoch": e, "train_elbo": -90 / e, "train_distortion": 80 / e, "train_rate": 9} for e in (1, 2)]
    state = torch.get_rng_state()
    paths = look(model, contract, split, lines, tmp_path / "a", seed=3)
    look(model, contract, split, lines, tmp_path / "b", seed=3)
    assert torch.equal(state, torch.get_rng_state()) and model.training and model.likelihood.training
    assert [p.name for p in paths] == [
        "reconstructions.png", "samples.png", "latent.png", "manifold.png", "curves.png",
    ]  # fmt: skip
    for path in paths:
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), (
            f"{path.name}: one seed, one picture"
        )


def test_look_at_a_conditional_model_an_autoencoder_and_before_the_first_epoch(tmp_path):
    from PIL import Image

    contract, split = digits(80)
    model = model_of(FlowPrior(2, condition=10), 2, condition=10)
    paths = look(model, contract, split, [], tmp_path / "conditional", condition=True)
    assert "curves.png" not in [p.name for p in paths]
    with Image.open(tmp_path / "conditional" / "samples.png") as picture:
        assert picture.height > 10 * 90  # a row for each of the ten labels
    point = VAE(
        StandardPrior(3),
        PointPosterior(MLP((1, 8, 8), (3,), hidden=(16,))),
        BinomialLikelihood(MLP((3,), (1, 8, 8), hidden=(16,)), 16),
    )
    assert len(look(point, contract, split, [], tmp_path / "point")) == 4


def test_look_at_vectors(tmp_path):
    x = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    contract = Contract(
        "rows", (4,), "real", -3, 3, 0, (0.0,) * 4, (1.0,) * 4, "float32", columns=("a", "b", "c", "d")
    )
    model = VAE(StandardPrior(2), GaussianPosterior(MLP((4,), (4,))), GaussianLikelihood(MLP((2,), (4,))))
    paths = look(model, contract, Split(x, None, "valid"), [], tmp_path)
    assert [p.name for p in paths] == ["reconstructions.png", "samples.png", "latent.png", "manifold.png"]
    assert peek(model, contract, Split(x, None, "valid"), tmp_path / "peek.png").exists()


def test_peek_shows_the_same_rows_and_noise_each_time(tmp_path):
    contract, split = digits(80)
    model = model_of(StandardPrior(2), 2)
    state = torch.get_rng_state()
    before = peek(model, contract, split, tmp_path / "epoch-1.png", seed=1).read_bytes()
    again = peek(model, contract, split, tmp_path / "epoch-2.png", seed=1).read_bytes()
    assert before == again and torch.equal(state, torch.get_rng_state())
    with torch.no_grad():
        for p in model.likelihood.parameters():
            p.mul_(3)
    assert peek(model, contract, split, tmp_path / "epoch-4.png", seed=1).read_bytes() != before


def test_preview_shows_a_row_for_each_label(tmp_path):
    contract, split = digits(200)
    picture = preview(Data(contract, split))
    first = np.asarray(picture)[8 : 8 + 96, -8 - 96 : -8, 0]  # the tenth zero, twelve times enlarged
    tiles = [np.round(x[0] / 16 * 255).repeat(12, 0).repeat(12, 1) for x in split.x[split.label == 0]]
    assert any((first == tile).all() for tile in tiles)
    assert picture.height > 10 * 96
    rows = Contract("rows", (3,), "real", -1, 1, 0, (0.0,), (1.0,), "float32")
    assert preview(Data(rows, Split(np.eye(3, dtype=np.float32), None, "train"))).width > 300


def test_look_at_a_model_that_broke_does_not_break(tmp_path):
    contract, split = digits()
    model = model_of(StandardPrior(3), 3)
    with torch.no_grad():
        next(model.posterior.parameters()).fill_(math.nan)
    names = [p.name for p in look(model, contract, split, [], tmp_path)]
    assert names == ["reconstructions.png", "samples.png"]
