"""What an epoch leaves: honest means, a validation that compares, the best weights, and a seed that decides."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from train_kit import Line, digits, folder_at, run, same, settings, vae


def test_train_metrics_are_means_over_images(tmp_path):
    # With a vanishing learning rate the epoch's mean is the loss over all rows, whatever the batches.
    outcome = run(tmp_path, settings(batch_size=50, drop_last=False, epochs=1, learning_rate=1e-30), Line())
    x = torch.from_numpy(digits().train.x).float() / 16
    assert outcome.record["train_loss"] == pytest.approx(Line()(x, None, None)[0].item(), rel=1e-5)


class Worsens(nn.Module):
    """Its training loss falls while its validation loss rises."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Linear(1, 1, bias=False)
        self.model.weight.data.zero_()

    def forward(self, x, c, t):
        weight = self.model.weight.sum()
        loss = (weight - 1) ** 2 if self.training else weight**2
        return loss, {"loss": loss.detach()}


def test_patience_ends_a_run_and_the_best_weights_are_kept(tmp_path):
    outcome = run(tmp_path, settings(ema=None, patience=3), Worsens())
    lines = folder_at(tmp_path).read_metrics()
    assert (outcome.reason, outcome.epochs, outcome.best_epoch) == ("stopped early", 4, 1)
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert outcome.best_value == lines[0]["valid_loss"] < lines[1]["valid_loss"]
    kept = load_file(tmp_path / "model.safetensors")["weight"]
    assert kept.square().item() == pytest.approx(outcome.best_value)


def test_validation_sees_the_same_noise_at_every_epoch_and_t_is_one(tmp_path):
    objective = vae()
    run(tmp_path, settings(ema=None, learning_rate=1e-30, weight_decay=0.0), objective)
    lines = folder_at(tmp_path).read_metrics()
    assert len({line["valid_distortion"] for line in lines}) == 1  # nothing moved: the draws are the same
    assert len({line["train_distortion"] for line in lines}) == len(lines)
    assert lines[0]["beta"] < 0.2  # warm-up
    whole = lines[0]["valid_distortion"] + lines[0]["valid_rate"]
    assert lines[0]["valid_loss"] == pytest.approx(whole, rel=1e-6)


def test_the_seed_alone_decides_and_the_callers_noise_is_untouched(tmp_path):
    torch.manual_seed(5)
    noise, threads, exact = (
        torch.get_rng_state(),
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
    )
    numpy_noise = np.random.get_state()[1].copy()
    first = run(tmp_path / "a", settings(deterministic=True))
    assert torch.equal(torch.get_rng_state(), noise) and (np.random.get_state()[1] == numpy_noise).all()
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == (threads, exact)
    torch.manual_seed(6)
    same(run(tmp_path / "b", settings(deterministic=True)).weights, first.weights)
    other = run(tmp_path / "c", settings(seed=1)).weights
    assert not torch.equal(other["posterior.net.last.weight"], first.weights["posterior.net.last.weight"])
