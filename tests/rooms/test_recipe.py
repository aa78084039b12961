"""Recipes as a user meets them: names, bases, overrides, and one line for everything that is wrong."""

import pytest

from vaekit import VaekitError, recipe


def refused(*overrides, name="digits"):
    with pytest.raises(VaekitError) as caught:
        recipe.load(name, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return str(path)


def test_every_listed_recipe_says_what_it_is_and_none_is_only_a_base():
    listed = recipe.listing()
    assert [name for name, _ in listed] == recipe.names()
    assert {"digits", "mnist", "images", "vectors", "conditional", "autoencoder"} <= set(recipe.names())
    assert all(description for _, description in listed)
    assert not any(name.startswith("_") for name in recipe.names())


@pytest.mark.parametrize("name", recipe.names())
def test_a_printed_recipe_stands_by_itself(name, tmp_path):
    alone = write(tmp_path, "alone.toml", recipe.shown(name))
    members = recipe.members(name)
    if members:
        assert recipe.members(alone) == members
    else:
        assert recipe.load(alone) == recipe.load(name)
    assert recipe.shown(name).startswith("#") and recipe.source(name).startswith("#")


def test_overrides_reach_every_depth_and_take_bare_text():
    loaded = recipe.load(
        "digits",
        ["train.epochs=3", "prior.kind=FlowPrior", "prior.hidden=[32, 32]", "posterior.net.hidden=[300,300]",
         "data.size=12x10", 'data.source="a b"', "train.betas=[0.5, 0.9]"],
    )  # fmt: skip
    assert loaded.train.epochs == 3 and loaded.train.betas == (0.5, 0.9)
    assert loaded.prior.kind == "FlowPrior" and loaded.prior.arguments["hidden"] == [32, 32]
    assert loaded.posterior.net.arguments["hidden"] == [300, 300]
    assert loaded.data.size == "12x10" and loaded.data.source == "a b"
    assert loaded.likelihood.net == recipe.load("digits").likelihood.net


def test_none_takes_a_value_away_but_stays_a_word_where_it_is_one():
    loaded = recipe.load(
        "digits", ["train.ema=none", "likelihood.net.activation=none", "objective.capacity=none"]
    )
    assert recipe.load("digits").train.ema is not None and loaded.train.ema is None
    assert loaded.likelihood.net.arguments["activation"] == "none"


def test_an_override_of_the_kind_drops_what_belonged_to_the_other_class_whatever_the_order():
    for order in (1, -1):
        loaded = recipe.load("vamp", ["prior.kind=FlowPrior", "prior.layers=2"][::order])
        assert loaded.prior.arguments == {"layers": 2}
    assert recipe.load("vamp", ["prior.kind=VampPrior"]).prior == recipe.load("vamp").prior
    assert (
        recipe.load("vamp", ["posterior.kind=PointPosterior"]).posterior.net
        == recipe.load("vamp").posterior.net
    )


def test_epochs_and_steps_replace_each_other():
    assert recipe.load("digits", ["train.steps=10"]).train.epochs is None
    assert recipe.load("images", ["train.epochs=2"]).train.steps is None


def test_a_round_trip_through_toml_changes_nothing():
    changes = ["train.clip=none", "train.learning_rate=1e-4"]
    for name in recipe.names():
        for loaded in recipe.members(name, changes).values() or [recipe.load(name, changes)]:
            assert recipe.from_toml(recipe.to_toml(loaded)) == loaded


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.epoch=3", ["train.epoch", "'epochs'"]),
        ("trian.epochs=3", ["[trian]", "'train'"]),
        ("prior.kind=FlowPriorr", ["prior.kind", "'FlowPriorr'", "did you mean 'FlowPrior'"]),
        ("prior.kind=vampprior", ["did you mean 'VampPrior'"]),
        ("posterior.net.kind=MPL", ["'MPL'", "did you mean 'MLP'"]),
        ("objective.schedule=cosin", ["objective.schedule", "'cosin'", "did you mean 'cosine'"]),
        ("train.optimizer=AdmaW", ["did you mean 'AdamW'"]),
        ("train.latent=2", ["did you mean 'model.latent'"]),
        ("posterior.hidden=[3]", ["did you mean 'posterior.net.hidden'"]),
        ("prior.latent=3", ["prior.latent", "set model.latent"]),
        ("likelihood.net.in_shape=[3]", ["comes from the data"]),
        ("epochs=3", ["train.epochs=3"]),
        ("train.epochs", ["section.key=value"]),
        ("likelihood.variance=0.1", ["likelihood.kind"]),
        ("prior.net.kind=MLP", ["prior.net"]),
        ("prior.kind=given", ["given"]),
        ("posterior.net=3", ["posterior.net", "3", "section"]),
    ],
)
def test_what_is_misspelt_or_misplaced_gets_the_nearest_name(override, words):
    message = refused(override)
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("override", "came", "expected"),
    [
        ("train.epochs=true", "true", "a whole number"),
        ("train.epochs=2.5", "2.5", "a whole number"),
        ("train.epochs=0", "0", "at least 1"),
        ("train.batch_size=big", "'big'", "a whole number of at least 1 or 'auto'"),
        ("train.learning_rate=nan", "nan", "above 0"),
        ("model.latent=two", "'two'", "a whole number"),
        ("data.grey=1", "1", "true or false"),
        ("objective.beta=high", "'high'", "a number"),
        ("posterior.net.hidden=300", "300", "a list of whole numbers"),
        ("posterior.net.hidden=[300", "'[300'", "a list of whole numbers"),
        ("train.betas=[0.9]", "[0.9]", "a list of 2 numbers"),
    ],
)
def test_a_wrong_value_is_told_with_what_came_and_what_was_expected(override, came, expected):
    message = refused(override)
    assert override.split("=")[0] in message and came in message and expected in message, message


def test_all_problems_come_at_once():
    message = refused("train.epoch=3", "prior.kind=Flow", "model.latent=two", "posterior.net.widht=3")
    assert all(
        part in message for part in ("train.epoch", "prior.kind", "model.latent", "posterior.net.widht")
    )


def test_a_recipe_of_ones_own_inherits_by_name_and_by_path(tmp_path):
    write(tmp_path, "below.toml", '[recipe]\nbase = "vamp"\n[model]\nlatent = 3\n[prior]\ncomponents = 7\n')
    path = write(
        tmp_path,
        "top.toml",
        '[recipe]\nbase = "./below.toml"\n[prior]\nkind = "MixturePrior"\n[train]\nepochs = 1\n',
    )
    loaded = recipe.load(path)
    assert loaded.name == "top" and loaded.model.latent == 3 and loaded.train.epochs == 1
    assert loaded.prior.kind == "MixturePrior" and "components" not in loaded.prior.arguments
    assert loaded.objective == recipe.load("vamp").objective


def test_a_circle_of_bases_is_refused_and_named(tmp_path):
    path = write(tmp_path, "a.toml", '[recipe]\nbase = "./b.toml"\n')
    write(tmp_path, "b.toml", '[recipe]\nbase = "./a.toml"\n')
    with pytest.raises(VaekitError, match=r"inherits from itself .a -> b -> a."):
        recipe.load(path)


@pytest.mark.parametrize(
    ("name", "words"),
    [("digts", "did you mean 'digits'"), ("nowhere/x.toml", "does not exist"), ("_none", "no recipe")],
)
def test_a_recipe_that_is_not_there(name, words):
    assert words in refused(name=name)


def test_a_file_that_is_no_recipe_is_refused(tmp_path):
    assert "is not TOML" in refused(name=write(tmp_path, "bad.toml", "[model\nlatent = 3"))
    assert "base" in refused(name=write(tmp_path, "base.toml", "[recipe]\nbase = 3\n"))
    assert "no recipe 'mnits' (did you mean 'mnist'?)" in refused(
        name=write(tmp_path, "lost.toml", '[recipe]\nbase = "mnits"\n')
    )
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in refused(name=str(tmp_path / "binary.toml"))


def test_updated_changes_keys_and_checks_them():
    loaded = recipe.load("digits").updated({"train": {"seed": 7}, "data": {"source": "/some/where"}})
    assert loaded.train.seed == 7 and loaded.data.source == "/some/where" and loaded.model.latent
    with pytest.raises(VaekitError, match=r"train\.seed"):
        loaded.updated({"train": {"seed": -1}})
