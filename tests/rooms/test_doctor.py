"""The doctor is shown each illness once, by a real run made ill, and keeps its silence over healthy ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from train_kit import digits, settings, vae

import vaekit
from vaekit.nets import MLP
from vaekit.run import RunFolder
from vaekit.train.ailments import AILMENTS
from vaekit.train.doctor import Doctor
from vaekit.train.examine import Examination, Readings, carrying, overlap
from vaekit.train.plan import Plan

SMALL = [
    "train.pictures=false", "train.batch_size=16", "posterior.net.hidden=[32]", "likelihood.net.hidden=[32]",
]  # fmt: skip


def found(folder) -> dict[str, dict]:
    """What the doctor wrote down, by code, with its epoch; each code at most once."""
    lines = RunFolder.open(folder).read_metrics()
    said = [{**finding, "epoch": line["epoch"]} for line in lines for finding in line.get("doctor", ())]
    codes = [finding["code"] for finding in said]
    assert len(codes) == len(set(codes)), codes
    return dict(zip(codes, said, strict=True))


def treated(path, data, *sets, **how) -> dict[str, dict]:
    vaekit.fit(data, output=path, set=[*SMALL, *sets], **how)
    return found(path)


def one_factor() -> np.ndarray:
    """Twelve columns that one number moves, and noise."""
    draws = np.random.default_rng(0)
    x = draws.normal(size=(600, 1)) * np.linspace(1, 2, 12) + 0.3 * draws.normal(size=(600, 12))
    return x.astype(np.float32)


def constant() -> np.ndarray:
    """Rows that are all alike."""
    return np.tile(np.float32([0.5, 1.25, -3.0, 7.5]), (200, 1))


WIDE = ["posterior.net.hidden=[256, 256]", "likelihood.net.hidden=[256, 256]"]
ILL = {
    "collapse": ("digits", ["train.epochs=12", "objective.beta=50"], {}, "objective.beta (50 now)"),
    "kl-vanishing": ("digits", ["train.epochs=12", "objective.beta=35"], {}, "objective.beta (35 now)"),
    "collapsed": (one_factor, ["train.epochs=40", "train.learning_rate=0.01"], {}, "model.latent=2"),
    "kl-exploding": (
        one_factor, ["train.epochs=40", "train.schedule=constant", "objective.beta=0"], {"latent": 1},
        "objective.beta=1",
    ),
    "mean": ("digits", ["train.epochs=3", "train.learning_rate=1e-7"], {}, "train.learning_rate (1e-07 now)"),
    "over-fitting": ("digits", ["train.epochs=150", *WIDE], {"limit": 60}, "train.patience"),
    "scale-floor": (constant, ["train.epochs=4"], {"kind": "real"}, "likelihood.variance"),
    "variance-bound": (
        "digits", ["train.epochs=4", "posterior.log_variance_bound=1"], {}, "posterior.log_variance_bound",
    ),
    "prior": (
        "digits", ["train.epochs=12", "train.schedule=constant", "objective.beta=0"], {}, "objective.beta=1",
    ),
}  # fmt: skip


def test_every_illness_is_shown():
    assert set(ILL) == {ailment.code for ailment in AILMENTS}


@pytest.mark.parametrize("code", ILL)
def test_an_illness_is_said_once_with_the_setting_that_helps(code, tmp_path, capfd):
    data, sets, how, setting = ILL[code]
    findings = treated(tmp_path / "ill", data() if callable(data) else data, *sets, progress=True, **how)
    console = capfd.readouterr().err
    assert code in findings, findings
    finding = findings[code]
    assert setting in finding["text"] and "\n" not in finding["text"]
    assert all(isinstance(value, int | float) for value in finding["values"].values())
    assert console.count(f"doctor: {finding['text']}\n") == 1
    assert console.count("doctor: ") == len(findings)
    name = next(ailment.name for ailment in AILMENTS if ailment.code == code)
    assert f"the doctor found {name}" in console or f" and {name};" in console
    shown = vaekit.load(tmp_path / "ill").info()["doctor"]
    assert f"epoch {finding['epoch']}: {finding['text']}" in shown


def test_reconstructions_that_nobody_asked_for(tmp_path):
    findings = treated(tmp_path / "r", "digits", "train.epochs=4", "objective.distortion_weight=0")
    assert list(findings) == ["mean"] and "objective.distortion_weight is 0" in findings["mean"]["text"]


def tumours() -> np.ndarray:
    """A real table: thirty measures of 569 tumours."""
    from sklearn.datasets import load_breast_cancer

    return load_breast_cancer().data.astype(np.float32)


HEALTHY = {
    "short": ("digits", ["train.epochs=2"], {}),
    "digits": ("digits", ["train.epochs=12"], {}),
    "conditional": ("digits", ["train.epochs=12"], {"recipe": "conditional"}),
    "beta-vae": ("digits", ["train.epochs=12"], {"recipe": "beta-vae"}),
    "vamp": ("digits", ["train.epochs=12", "prior.components=20"], {"recipe": "vamp"}),
    "autoencoder": ("digits", ["train.epochs=12"], {"recipe": "autoencoder"}),
    "table": (tumours, ["train.epochs=40"], {}),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_over_a_healthy_run_the_doctor_keeps_silent(name, tmp_path, capfd):
    data, sets, how = HEALTHY[name]
    assert treated(tmp_path / "r", data() if callable(data) else data, *sets, progress=True, **how) == {}
    assert "doctor" not in capfd.readouterr().err
    run = vaekit.load(tmp_path / "r")
    assert "doctor" not in run.info()
    assert all(("valid_active" in line) == (name != "autoencoder") for line in run.metrics())


def test_a_resume_repeats_nothing(tmp_path):
    first = treated(tmp_path / "r", "digits", "train.epochs=2", "train.learning_rate=1e-7")
    vaekit.resume(tmp_path / "r", set=["train.epochs=4"])
    assert list(first) == ["mean"] and found(tmp_path / "r") == first


def test_a_doctor_who_fails_stays_away_and_training_goes_on(tmp_path, monkeypatch):
    def fails(self, model):
        raise RuntimeError("no such\norgan")

    monkeypatch.setattr(Examination, "__call__", fails)
    findings = treated(tmp_path / "r", "digits", "train.epochs=3")
    assert list(findings) == ["away"] and findings["away"]["epoch"] == 1
    assert "no such" in findings["away"]["text"] and "\n" not in findings["away"]["text"]
    assert len(RunFolder.open(tmp_path / "r").read_metrics()) == 3


# -- the judgement, without a run

ASLEEP = Readings(8, active=0, explained=0.0, overlap=0.9)
AWAKE = Readings(8, active=8, explained=0.8, overlap=0.9)


class Ward:
    """A doctor of a run of 2,000 steps, shown one validation after the other."""

    def __init__(self) -> None:
        plan = Plan.of(settings(epochs=400, batch_size=24), 120)
        self.doctor = Doctor(vae(), settings(), plan, digits().contract, None, None, torch.nn.Identity())
        self.epoch = 0

    def sees(self, readings: Readings, last=False, epochs=1, beta=1.0, **valid) -> list[str]:
        self.epoch += epochs
        terms = {"loss": 100.0, "rate": 0.01 if readings is ASLEEP else 12.0, "beta": 1.0, **valid}
        train = {"loss": 90.0, "beta": beta}
        return [
            f["code"] for f in self.doctor.judge(readings, self.epoch, 5 * self.epoch, train, terms, last)
        ]


def test_a_sign_must_come_three_times_in_a_row_and_is_said_once():
    ward = Ward()
    ward.sees(AWAKE, epochs=250)
    assert [ward.sees(ASLEEP) for _ in range(5)] == [[], [], ["collapse"], [], []]


def test_a_sign_that_heals_is_no_illness():
    ward = Ward()
    ward.sees(AWAKE, epochs=250)
    assert not any(ward.sees(readings) for readings in [ASLEEP, ASLEEP, AWAKE] * 4)


def test_while_the_kl_warms_up_the_doctor_waits():
    ward = Ward()
    ward.sees(ASLEEP, epochs=250, beta=0.5)
    assert not any(ward.sees(ASLEEP, beta=0.9) for _ in range(10))
    assert [ward.sees(ASLEEP) for _ in range(3)] == [[], [], ["collapse"]]


def test_a_young_model_may_sleep():
    ward = Ward()
    assert not any(ward.sees(ASLEEP) for _ in range(190))  # 950 steps


def test_the_last_validation_is_enough():
    ward = Ward()
    assert ward.sees(AWAKE, epochs=250) == []
    assert ward.sees(ASLEEP, last=True) == ["collapse"]
    assert ward.doctor.ailments == ("a full collapse",)


def test_half_the_dimensions_may_sleep_and_a_quarter_must_not():
    assert Ward().sees(Readings(16, active=5), last=True, epochs=300) == []
    assert Ward().sees(Readings(16, active=4), last=True, epochs=300) == ["collapsed"]
    # of 64 values in a row no more than 64 dimensions are of use
    assert Ward().sees(Readings(200, active=17), last=True, epochs=300, rate=30.0) == []


@pytest.mark.parametrize(
    ("D", "width", "ill"), [(2, 1.6, 0), (2, 60.0, 1), (64, 1.3, 0), (64, 2.5, 1), (64, 0.2, 1)]
)
def test_a_prior_is_unmet_where_codes_lie_elsewhere_in_any_dimension(D, width, ill):
    from vaekit.distributions import DiagonalGaussian

    torch.manual_seed(0)
    prior = DiagonalGaussian(torch.zeros(D), torch.zeros(D))
    codes, draws = prior.log_prob(width * torch.randn(500, D)), prior.log_prob(torch.randn(500, D))
    outside = ((draws.mean() - codes.mean()) / D).item()
    seen = Readings(D, active=D, explained=0.8, overlap=overlap(codes, draws).item(), outside=outside)
    assert Ward().sees(seen, last=True, epochs=300) == ["prior"] * ill


def test_over_fitting_needs_a_loss_that_has_stopped_falling():
    falling = Ward()
    falling.sees(AWAKE, loss=300.0)
    assert not any(
        falling.sees(AWAKE, loss=280.0 - n) for n in range(20)
    )  # far from training's 90, but falling
    ward = Ward()
    ward.sees(AWAKE, loss=300.0)
    # of 210 nats gained 5 %, 10.5, lost again; what rises by less stays within what validations scatter
    losses = [120.0, 129.0, 129.0, 129.0, 129.0, 131.0, 131.0, 131.0]
    assert [ward.sees(AWAKE, loss=loss) for loss in losses] == [[]] * 7 + [["over-fitting"]]


def test_validation_rows_that_are_harder_from_the_start_are_no_over_fitting():
    ward = Ward()
    assert not any(ward.sees(AWAKE, loss=120.0) for _ in range(20))  # training's stays at 90


def test_a_number_that_is_none_is_an_exploded_kl_and_no_collapse():
    ward = Ward()
    broken = Readings(8, active=0, explained=math.nan, overlap=0.9)
    assert ward.sees(broken, last=True, epochs=300, loss=math.nan, rate=math.nan) == ["kl-exploding"]


# -- the readings


def test_carrying_dimensions_under_any_scale():
    torch.manual_seed(0)
    N = 4000
    signal = torch.tensor([1.0, 0.3, 0.05, 0.0])
    for scale in (1.0, 1e-3):
        mean = scale * signal * torch.randn(N, 4)
        log_variance = torch.full((N, 4), 2 * math.log(scale))
        assert carrying(mean, log_variance).tolist() == [True, True, False, False]


def test_overlap_is_one_minus_the_kolmogorov_smirnov_distance():
    from scipy.stats import ks_2samp

    draws = np.random.default_rng(0)
    for shift in (0.0, 0.5, 2.0, 20.0):
        a, b = draws.normal(size=300), shift + draws.normal(size=200)
        expected = 1 - ks_2samp(a, b).statistic
        assert overlap(torch.tensor(a), torch.tensor(b)).item() == pytest.approx(expected, abs=1e-9)


def test_headroom_is_the_way_down_to_the_floor_of_a_scale():
    from vaekit.likelihoods import GaussianLikelihood

    def nats(variance, deviation):
        likelihood = GaussianLikelihood(MLP((2,), (1, 2, 2)), variance)
        likelihood.initialise(
            deviation * torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1).expand(2, 1, 2, 2), None, 2
        )
        return [part.headroom() for part in likelihood.modules() if hasattr(part, "headroom")]

    learned = [value for value in nats("learned", 0.5) if value is not None]
    assert learned[0].item() == pytest.approx(6 + math.log(0.5), abs=1e-4)  # the floor is exp(-6)
    optimal = [value for value in nats("optimal", 0.5) if value is not None]
    assert optimal[0].item() == pytest.approx(math.log(0.5 / 1e-5), abs=1e-4)
    assert all(value is None for value in nats(0.1, 0.5))
