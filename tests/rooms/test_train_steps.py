"""What a step does: skipping, averaging, accumulating, clipping, keeping players apart, and failing in plain
words."""

from __future__ import annotations

import json
import re

import pytest
import torch
from torch import nn
from train_kit import Line, folder_at, left, run, same, settings, vae

from vaekit.data import permutation
from vaekit.errors import VaekitError
from vaekit.nets.common import constant
from vaekit.train.average import Average


class Spoiled(nn.Module):
    """An objective whose loss is spoiled in the forward passes that `when` names, counted from 1."""

    def __init__(self, objective: nn.Module, when, spoil) -> None:
        super().__init__()
        self.objective, self.model = objective, objective.model
        self.when, self.spoil, self.calls = when, spoil, 0

    def forward(self, x, c, t):
        if not self.training:
            return self.objective(x, c, t)
        self.calls += 1
        loss, terms = self.objective(x, c, t)
        if self.calls in self.when:
            loss = self.spoil(loss)
            terms = {**terms, "loss": loss.detach()}
        return loss, terms


def nan(loss):
    return loss * float("nan")


def infinite(loss):
    return loss + float("inf")  # the gradients stay finite


@pytest.mark.parametrize("optimizer", ["Adam", "AdamW", "SGD"])
@pytest.mark.parametrize("spoil", [nan, infinite])
def test_a_step_that_is_not_finite_leaves_no_trace_but_a_count(tmp_path, optimizer, spoil):
    chosen = settings(
        optimizer=optimizer, ema=None, epochs=2, learning_rate=1e-4, schedule="constant", warm_up=0.0
    )
    clean = run(tmp_path / "clean", chosen.model_copy(update={"epochs": 1}), Line())
    # The second epoch, and nothing else, is lost.
    lost = run(tmp_path / "lost", chosen, Spoiled(Line(), range(6, 11), spoil))
    assert lost.skipped == 5 and clean.skipped == 0
    first, second = folder_at(tmp_path / "lost").read_metrics()
    assert (first["skipped"], second["skipped"]) == (0, 5)
    assert "train_loss" not in second and second["gradient_norm"] is None
    same(lost.weights, clean.weights)


def test_the_very_first_step_may_be_the_bad_one(tmp_path):
    for optimizer in ("AdamW", "SGD"):
        chosen = settings(optimizer=optimizer, learning_rate=1e-3)
        outcome = run(tmp_path / optimizer, chosen, Spoiled(Line(), [1], nan))
        first = folder_at(tmp_path / optimizer).read_metrics()[0]
        assert outcome.skipped == first["skipped"] == 1
        assert outcome.record["train_loss"] < first["train_loss"]
        assert all(torch.isfinite(w).all() for w in outcome.weights.values())


def test_one_micro_step_that_is_not_finite_skips_the_whole_step(tmp_path):
    chosen = settings(batch_size=8, gradient_accumulation_steps=3, epochs=1)
    outcome = run(tmp_path, chosen, Spoiled(Line(), [5], nan))
    assert outcome.steps == 5 and outcome.skipped == 1
    assert all(torch.isfinite(w).all() for w in outcome.weights.values())


def test_a_freak_step_is_skipped_where_asked_and_a_lasting_change_is_accepted(tmp_path):
    def large(loss):
        return loss * 1e4

    once = Spoiled(Line(), [25], large)
    assert run(tmp_path / "once", settings(clip=None), once).skipped == 1
    assert (
        run(tmp_path / "off", settings(clip=None, skip_factor=None), Spoiled(Line(), [25], large)).skipped
        == 0
    )
    for_good = run(
        tmp_path / "good", settings(epochs=30), Spoiled(Line(), range(40, 999), lambda loss: loss * 50)
    )
    assert 5 < for_good.skipped < 40


def test_a_skipped_step_leaves_batch_statistics_alone(tmp_path):
    class Normed(Line):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(64)
            self.spoil = self.calls = 0

        def forward(self, x, c, t):
            self.calls += self.training
            if self.training and self.calls in (1, 7):
                x = x * float("nan")
            x = self.norm(x.flatten(1)).reshape(x.shape)
            return super().forward(x, c, t)

    objective = Normed()
    outcome = run(tmp_path, settings(), objective)
    assert outcome.skipped == 2
    assert torch.isfinite(objective.norm.running_var).all()
    assert objective.norm.num_batches_tracked == 28
    assert outcome.record["valid_loss"] is not None


class Overflow(nn.Module):
    """Turns every training batch after the tenth into something not finite, in a layer of its own."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += self.training
        return x / 0 if self.training and self.calls > 10 else x


def test_fifty_skips_in_a_row_end_the_run_with_the_layer_named(tmp_path):
    objective = Line()
    objective.net = objective.model = nn.Sequential(nn.Linear(64, 64), Overflow(), nn.Linear(64, 64))
    with pytest.raises(VaekitError) as caught:
        run(tmp_path, settings(epochs=40), objective)
    text = str(caught.value)
    assert "\n" not in text and "steps in a row were skipped" in text and "(Overflow)" in text
    assert re.search(r"step 100 \(epoch 20\), 24 rows", text)
    assert all(torch.isfinite(w).all() for w in left(tmp_path)["state"]["objective"].values())


def test_a_short_run_that_never_takes_a_step_is_an_error_too(tmp_path):
    with pytest.raises(VaekitError, match="30 steps in a row were skipped"):
        run(tmp_path, settings(), Spoiled(Line(), range(1, 99), nan))


def test_the_average_warms_up_and_ships_trained_weights(tmp_path):
    line = nn.Linear(1, 1, bias=False)
    average = Average(line, 0.999)
    expected = line.weight.item()
    for step, value in enumerate([3.0, -1.0, 7.0, 2.0]):
        line.weight.data.fill_(value)
        average.update(step)
        decay = min(0.999, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert average.objective.weight.item() == pytest.approx(expected, rel=1e-6)
    losses = {
        ema: run(tmp_path / str(ema), settings(ema=ema, epochs=20), vae()).record["valid_loss"]
        for ema in (None, 0.9999)
    }
    untrained = folder_at(tmp_path / "None").read_metrics()[0]["valid_loss"]
    assert losses[0.9999] < untrained - 0.5 * (untrained - losses[None])


def test_accumulation_equals_the_large_batch(tmp_path):
    # 120 rows in steps of 48: the last step has 24, in micro-batches of 16 and 8.
    how = {"epochs": 3, "drop_last": False, "clip": 20.0, "learning_rate": 1e-3}
    large = run(tmp_path / "large", settings(batch_size=48, **how), Line())
    parts = run(tmp_path / "parts", settings(batch_size=16, gradient_accumulation_steps=3, **how), Line())
    assert large.steps == parts.steps == 9
    for name, weight in large.weights.items():
        torch.testing.assert_close(parts.weights[name], weight, rtol=1e-5, atol=1e-6)
    for key in ("train_loss", "valid_loss", "gradient_norm"):
        assert parts.record[key] == pytest.approx(large.record[key], rel=1e-5)


def test_clipping_bounds_the_step(tmp_path):
    def moved(clip):
        chosen = settings(
            optimizer="SGD", momentum=0.0, learning_rate=1.0, clip=clip, epochs=1, batch_size=120,
            schedule="constant", warm_up=0.0, ema=None,
        )  # fmt: skip
        outcome = run(tmp_path / str(clip), chosen, Line())
        before = Line().net.state_dict()
        return sum(
            (outcome.weights[n] - before[n]).square().sum() for n in before
        ).sqrt().item(), outcome.record

    length, record = moved(0.25)
    assert length == pytest.approx(0.25, rel=1e-4) and record["gradient_norm"] > 0.25
    length, record = moved(1e6)
    assert length == pytest.approx(record["gradient_norm"], rel=1e-4)


def test_a_label_conditional_model_sees_its_labels(tmp_path):
    outcome = run(tmp_path, settings(), vae(condition=10), condition=True)
    assert outcome.reason == "finished" and outcome.record["valid_loss"] < 300


class Players(nn.Module):
    """A two-player toy: one player follows the data, the other follows the first."""

    def __init__(self, leak: bool = False, forget: bool = False) -> None:
        super().__init__()
        self.leader, self.follower = nn.Linear(64, 1), nn.Linear(1, 1)
        self.model, self.leak, self.forget = self.leader, leak, forget

    def players(self):
        players = {"leader": list(self.leader.parameters()), "follower": list(self.follower.parameters())}
        return {"leader": players["leader"]} if self.forget else players

    def forward(self, x, c, t):
        target = x.flatten(1).sum(1, keepdim=True)
        led = self.leader(x.flatten(1))
        leader = (led - target).square().mean() + 0 * constant(self.follower, led).sum()
        follower = (self.follower(led if self.leak else led.detach()) - 2 * target).square().mean()
        terms = {"leader_error": leader.detach(), "follower_error": follower.detach()}
        return {"leader": leader, "follower": follower}, terms


def test_two_players_train_each_with_an_optimiser_of_its_own(tmp_path):
    outcome = run(tmp_path, settings(epochs=60, learning_rate=0.05, ema=None, patience=None), Players())
    first = folder_at(tmp_path).read_metrics()[0]
    assert outcome.record["train_leader_error"] < 0.02 * first["train_leader_error"]
    assert outcome.record["train_follower_error"] < 0.1 * first["train_follower_error"]
    assert {"gradient_norm_leader", "gradient_norm_follower", "train_loss_leader"} <= outcome.record.keys()
    assert left(tmp_path)["state"]["updates"]["optimizers"].keys() == {"leader", "follower"}


def test_players_that_are_not_kept_apart_are_refused(tmp_path):
    with pytest.raises(
        VaekitError, match=r"loss of player 'follower' reaches leader\.weight of player 'leader'"
    ):
        run(tmp_path, settings(), Players(leak=True))
    with pytest.raises(VaekitError, match=r"belong to no player, the first follower\.weight"):
        run(tmp_path, settings(), Players(forget=True))


class Fragile(nn.Module):
    def __init__(self, at: int) -> None:
        super().__init__()
        self.at, self.calls = at, 0

    def forward(self, x):
        self.calls += self.training
        if self.training and self.calls == self.at:
            raise RuntimeError("the matrix\nis on fire")
        return x


def fragile(at: int) -> Line:
    objective = Line()
    objective.net = objective.model = nn.Sequential(objective.net, nn.Sequential(nn.Identity(), Fragile(at)))
    return objective


def test_a_crash_names_step_rows_and_layer_and_leaves_the_last_good_state(tmp_path):
    with pytest.raises(VaekitError) as caught:
        run(tmp_path / "crashed", settings(), fragile(at=8))
    text = str(caught.value)
    assert isinstance(caught.value.__cause__, RuntimeError) and "\n" not in text
    assert (
        "step 8 (epoch 2), 24 rows" in text
        and "net.1.1 (Fragile): RuntimeError: the matrix is on fire" in text
    )
    rows = permutation(120, 0, 1)[48:72]
    assert f"({', '.join(map(str, rows[:5]))}, ...)" in text
    assert json.loads((tmp_path / "crashed" / "failed_batch.json").read_text())["rows"] == rows.tolist()
    # Mended, it goes on as if nothing had happened.
    run(tmp_path / "crashed", settings(), fragile(at=0), resume=True)
    run(tmp_path / "whole", settings(), fragile(at=0))
    same(left(tmp_path / "crashed"), left(tmp_path / "whole"))
