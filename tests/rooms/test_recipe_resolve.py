"""A recipe meets data: what is chosen, what is translated, what is refused, and what `build` then makes."""

import dataclasses
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from vaekit import VaekitError, open_data, recipe
from vaekit.data import Batches, Preparation

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the data sets are not at {SHARED}")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAEKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def digits():
    return open_data("digits")


def refused(name, data, *overrides, **given):
    with pytest.raises(VaekitError) as caught:
        recipe.build(recipe.load(name, ["model.latent=8", *overrides]), data.contract, **given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def like(data, kind, **changes):
    """The digits' contract as if it held another kind of data."""
    return dataclasses.replace(data.contract, kind=kind, **changes)


# -- what every shipped recipe does on real data

SUITABLE = {
    "mnist": lambda: open_data(SHARED / "mnist", binarize="dynamic", limit=64),
    "images": lambda: open_data(SHARED / "faces" / "orl", size=32, limit=16),
    "large-images": lambda: open_data(SHARED / "faces" / "orl", limit=16),
    "mnist-best-cpu": lambda: open_data(SHARED / "mnist", binarize="dynamic", limit=64),
    "vectors": lambda: open_data(next((SHARED / "uci-binary").rglob("*.npz")), limit=64),
}
ON_BITS = {"ae-versus-vae", "mnist-ar-cpu", "binary-rows"}


def every():
    """Every recipe of one run, and every member of those of several."""
    for name in recipe.names():
        members = recipe.members(name)
        for member, loaded in members.items():
            yield pytest.param(name, loaded, id=f"{name}-{member}")
        if not members:
            yield pytest.param(name, recipe.load(name), id=name)


@pytest.mark.parametrize(("name", "loaded"), list(every()))
def test_every_recipe_resolves_builds_and_learns_from_real_data(name, loaded, digits):
    if name in SUITABLE and not SHARED.is_dir():
        pytest.skip(f"the data sets are not at {SHARED}")
    data = SUITABLE[name]() if name in SUITABLE else digits
    if name in ON_BITS:
        data = open_data("digits", binarize="dynamic")
    contract = data.contract
    resolved = recipe.resolve(loaded, contract)
    assert recipe.resolve(resolved, contract) == resolved, "resolving again changes something"
    assert recipe.from_toml(recipe.to_toml(resolved)) == resolved

    objective = recipe.build(resolved, contract)
    batches = Batches(data.train, contract, "cpu", condition=resolved.model.condition == "label")
    raw, c = batches.get(np.arange(8))
    x = Preparation(contract)(raw)
    objective.initialise(x, c, len(data.train))
    loss, terms = objective(x, c, torch.tensor(0.5))
    loss.backward()
    assert torch.isfinite(loss) and all(torch.isfinite(term) for term in terms.values())
    without = [
        n for n, p in objective.named_parameters()
        if p.requires_grad and (p.grad is None or not torch.isfinite(p.grad).all())
    ]  # fmt: skip
    assert not without, f"no gradient for {without}"
    assert objective.model.latent == resolved.model.latent


@needs_data
def test_the_recipe_is_chosen_by_the_data_and_the_reason_said(digits):
    faces = open_data(SHARED / "faces" / "orl", limit=16)
    cases = {
        "digits": digits.contract,
        "mnist": open_data(SHARED / "mnist", limit=64).contract,
        "large-images": faces.contract,
        "vectors": SUITABLE["vectors"]().contract,
        "images": dataclasses.replace(faces.contract, shape=(3, 33, 17)),
        "small-images": dataclasses.replace(digits.contract, source="scans"),
    }
    for expected, contract in cases.items():
        name, reason = recipe.for_contract(contract)
        assert name == expected and reason and name in recipe.names()
    vectors = SUITABLE["vectors"]().contract
    for source, shape, expected in (
        ("static-mnist", (1, 28, 28), "mnist"), ("dna", (180,), "binary-rows"), ("mushrooms", (112,), "binary-rows"),
    ):  # fmt: skip
        named = dataclasses.replace(vectors, source=source, shape=shape, kind="binary")
        assert recipe.for_contract(named) == (expected, f"it was made for {source}")
    own = dataclasses.replace(digits.contract, shape=(1, 12, 12))
    assert recipe.for_contract(own)[0] == "small-images", (
        "a set resized is not the set the recipe was made for"
    )


# -- the likelihood

KINDS = {
    "binary": "BernoulliLikelihood",
    "levels": "BinomialLikelihood",
    "8-bit": "DiscretisedLogisticLikelihood",
    "colour": "DiscretisedLogisticLikelihood",
    "real": "GaussianLikelihood",
    "counts": "PoissonLikelihood",
    "categories": "CategoricalLikelihood",
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_of_data_chooses_the_likelihood(kind, digits):
    resolved = recipe.resolve(recipe.load("iwae"), like(digits, kind))
    assert resolved.likelihood.kind == KINDS[kind]
    objective = recipe.build(resolved, like(digits, kind))
    assert type(objective.model.likelihood).__name__ == KINDS[kind]
    if kind == "real":
        assert resolved.likelihood.arguments["variance"] == "learned"
    if kind == "categories":
        assert resolved.likelihood.arguments["nominal"] is True


def test_a_likelihood_that_does_not_fit_is_refused_and_one_by_name_is_kept(digits):
    for name, kind in [
        ("PoissonLikelihood", "real"), ("BernoulliLikelihood", "counts"), ("BinomialLikelihood", "real"),
        ("GaussianLikelihood", "categories"), ("DiscretisedLogisticLikelihood", "real"),
    ]:  # fmt: skip
        with pytest.raises(VaekitError, match=f"{name}.*{kind} data: use {KINDS[kind]}"):
            recipe.resolve(recipe.load("iwae", [f"likelihood.kind={name}"]), like(digits, kind))
    for name, kind in [
        ("BernoulliLikelihood", "levels"), ("GaussianLikelihood", "8-bit"), ("LaplaceLikelihood", "counts"),
        ("DiscretisedLogisticLikelihood", "levels"), ("CategoricalLikelihood", "8-bit"),
    ]:  # fmt: skip
        resolved = recipe.resolve(recipe.load("iwae", [f"likelihood.kind={name}"]), like(digits, kind))
        assert resolved.likelihood.kind == name


def test_r_loss_factor_is_the_gaussian_of_the_variance_it_means(digits):
    """Tutorial loss F * mean((x - m)^2) + KL and ours have the same gradient, and differ by a constant."""
    F, D = 1000.0, 64
    resolved = recipe.resolve(
        recipe.load("iwae", ["objective.kind=ELBO", f"objective.r_loss_factor={F}"]), digits.contract
    )
    assert resolved.likelihood.kind == "GaussianLikelihood"
    assert resolved.likelihood.arguments["variance"] == pytest.approx(D / (2 * F))
    assert "r_loss_factor" not in resolved.objective.arguments
    assert "r_loss_factor 1000 over 64 elements means a Gaussian of variance 0.032" in resolved.notes[0]
    assert recipe.from_toml(recipe.to_toml(resolved)).notes == resolved.notes

    likelihood = recipe.build(resolved, digits.contract).model.likelihood
    x = digits.contract.scale(torch.from_numpy(digits.train.rows(slice(0, 50))))
    z = torch.randn(50, resolved.model.latent, generator=torch.Generator().manual_seed(0))
    law = likelihood(z)
    gap = -law.log_prob(x) - F * (x - law.mean).square().flatten(1).mean(1)
    assert torch.allclose(gap, gap[0].expand_as(gap), atol=1e-2), "they differ by more than a constant"


def test_kld_weight_is_the_inverse_factor(digits):
    def variance(setting):
        changes = ["objective.kind=ELBO", f"objective.{setting}"]
        return recipe.resolve(recipe.load("iwae", changes), digits.contract).likelihood.arguments["variance"]

    assert variance("kld_weight=0.00025") == pytest.approx(variance("r_loss_factor=4000"))
    assert "give one of them" in refused(
        "autoencoder", digits, "objective.kld_weight=1", "objective.r_loss_factor=1"
    )
    clash = refused("autoencoder", digits, "objective.r_loss_factor=1", "likelihood.kind=BernoulliLikelihood")
    assert "r_loss_factor" in clash and "BernoulliLikelihood" in clash
    assert "above 0" in refused_at_load("objective.r_loss_factor=0")


def refused_at_load(*overrides):
    with pytest.raises(VaekitError) as caught:
        recipe.load("digits", overrides)
    return str(caught.value)


# -- building


def test_the_seed_decides_the_weights_and_the_generator_stays(digits):
    def weights(*overrides):
        state = recipe.build(recipe.load("digits", overrides), digits.contract).state_dict()
        return torch.cat([value.flatten().double() for value in state.values()])

    before = torch.random.get_rng_state()
    first = weights()
    torch.rand(3)
    assert torch.equal(first, weights()) and not torch.equal(first, weights("train.seed=1"))
    torch.random.set_rng_state(before)
    weights()
    assert torch.equal(before, torch.random.get_rng_state())


def test_what_cannot_be_built_is_told_in_one_line(digits):
    unlabelled = dataclasses.replace(digits, contract=dataclasses.replace(digits.contract, labels=()))
    assert "no labels" in refused("conditional", unlabelled)
    assert "ConvDecoder gives images" in refused("digits", digits, "posterior.net.kind=ConvDecoder")
    vectors = dataclasses.replace(digits, contract=dataclasses.replace(digits.contract, shape=(64,)))
    assert "ResNetEncoder takes images" in refused("images", vectors)
    assert "at least 2" in refused("digits", digits, "prior.kind=FlowPrior", "model.latent=1")
    assert "PointPosterior" in refused("vamp", digits, "posterior.kind=PointPosterior")
    few = refused("digits", digits, "prior.kind=MixturePrior", "prior.components=-1")
    assert "prior.components is -1; a mixture needs at least 1" in few
    # what a constructor raises in its own words is told with its settings
    negative = refused("digits", digits, "posterior.net.hidden=[-3]")
    assert "MLP(" in negative and "hidden=[-3]" in negative and "cannot be built" in negative


class Own(torch.nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.layer = torch.nn.Linear(inputs, outputs)

    def forward(self, x, c=None):
        return self.layer(x.flatten(1))


def test_ones_own_modules_are_used_as_they_are_and_wanted_again(digits):
    own = Own(64, 16)
    resolved = recipe.resolve(
        recipe.load("digits", ["model.latent=8"]), digits.contract, nets={"posterior": own}
    )
    assert resolved.posterior.net.kind == "given"
    assert recipe.from_toml(recipe.to_toml(resolved)) == resolved
    assert recipe.build(resolved, digits.contract, nets={"posterior": own}).model.posterior.net is own
    with pytest.raises(VaekitError, match=r"posterior.net .*give it again.*nets="):
        recipe.build(resolved, digits.contract)
    assert "did you mean 'posterior'" in refused("digits", digits, nets={"posteriour": own})
    assert "[2, 15]" in refused("digits", digits, nets={"posterior": Own(64, 15)})
    assert "fails on" in refused("digits", digits, nets={"posterior": Own(63, 16)})


def test_code_from_outside_is_imported_only_where_it_is_allowed(digits, tmp_path, monkeypatch):
    (tmp_path / "outside_parts").mkdir()
    (tmp_path / "outside_parts" / "__init__.py").write_text("")
    (tmp_path / "outside_parts" / "nets.py").write_text(
        textwrap.dedent(
            """
            from torch import nn
            class Small(nn.Module):
                def __init__(self, in_shape: tuple[int, ...], out_shape: tuple[int, ...], width: int = 8):
                    super().__init__()
                    inside, outside = 1, 1
                    for n in in_shape: inside *= n
                    for n in out_shape: outside *= n
                    self.shape = out_shape
                    self.body = nn.Sequential(nn.Linear(inside, width), nn.ReLU(), nn.Linear(width, outside))
                def forward(self, x, c=None):
                    return self.body(x.flatten(1)).unflatten(1, self.shape)
            class NoModule:
                pass
            """
        )
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    here = "likelihood.net.kind=outside_parts.nets.Small"
    assert "--allow outside_parts" in refused("digits", digits, here)
    assert "--allow outside_parts" in refused(
        "digits", digits, here, allow=["outside", "outside_parts.nets.Small"]
    )
    assert "outside_parts" not in sys.modules, "refused code was imported"
    for allowed in (["outside_parts"], ["outside_parts.nets"]):
        built = recipe.build(
            recipe.load("digits", [here, "likelihood.net.width=5"]), digits.contract, allow=allowed
        )
        assert built.model.likelihood.net.body[0].out_features == 5
    resolved = recipe.resolve(recipe.load("digits", [here]), digits.contract, allow=["outside_parts"])
    assert resolved.likelihood.net.arguments == {"width": 8}
    assert recipe.from_toml(recipe.to_toml(resolved)) == resolved
    wrong = ["likelihood.net.width=wide", "likelihood.net.kind=outside_parts.nets.Small"]
    assert "a whole number" in refused("digits", digits, *wrong, allow=["outside_parts"])
    missing = refused(
        "digits", digits, "likelihood.net.kind=outside_parts.nets.Smal", allow=["outside_parts"]
    )
    assert "cannot be imported" in missing
    plain = refused(
        "digits", digits, "likelihood.net.kind=outside_parts.nets.NoModule", allow=["outside_parts"]
    )
    assert "torch.nn.Module" in plain
