"""Sets larger than memory: their order, their reader, and training that reads a window ahead."""

from __future__ import annotations

import signal
import threading

import numpy as np
import pytest
import torch
from train_kit import left, run, same, settings, vae

from vaekit.data import Batches, open_data, splits, stored, windows
from vaekit.data.stored import Mapped, Reader, Rows
from vaekit.data.windows import Windows
from vaekit.errors import VaekitError
from vaekit.train.plan import Plan

RNG = np.random.default_rng(0)


@pytest.fixture
def small(monkeypatch):
    """Digits of 64 bytes are large: blocks of 4 rows, windows of 20."""
    for room, name, size in (
        (stored, "BLOCK_BYTES", 4 * 64), (windows, "BLOCK_BYTES", 4 * 64), (windows, "WINDOW_BYTES", 20 * 64),
        (windows, "HELD_BYTES", 64), (splits, "_LAZY_BYTES", 64),
    ):  # fmt: skip
        monkeypatch.setattr(room, name, size)


@pytest.fixture
def digits(tmp_path):
    """A file of 130 digits, 104 of them to train on, with labels beside it in the source."""
    from sklearn.datasets import load_digits

    path = tmp_path / "digits.npy"
    np.save(path, load_digits().images.astype(np.uint8)[:130])
    return path


def mapped(path, x) -> np.ndarray:
    np.save(path, x)
    return Mapped.of(np.load(path, mmap_mode="c"))


@pytest.mark.parametrize("n", [1, 19, 20, 21, 103, 400])
def test_the_order_is_a_permutation_made_of_seed_and_epoch(n):
    order = Windows(4, 20).order(n, 3, 5)
    assert order.dtype == np.int64 and np.array_equal(np.sort(order), np.arange(n))
    assert np.array_equal(order, Windows(4, 20).order(n, 3, 5))
    if n > 20:
        assert not np.array_equal(order, Windows(4, 20).order(n, 3, 6))
        assert not np.array_equal(order, Windows(4, 20).order(n, 4, 5))


def test_a_window_is_read_in_whole_blocks_yet_mixes_rows_from_far_apart():
    n, label = 4000, np.arange(4000) // 400  # sorted by class, as the files of a folder are
    order = Windows(4, 200).order(n, 0, 0)
    for first in range(0, n, 200):
        window = order[first : first + 200]
        assert len(np.unique(window // 4)) == 50  # every block whole
        assert len(np.unique(label[window])) >= 8
        assert np.abs(np.diff(window)).min() >= 1 and (np.diff(window) == 1).mean() < 0.1  # neighbours parted
    assert len(np.unique(label[order[:20]])) >= 4


LAYOUTS = {
    "plain": lambda x: x,
    "channels last": lambda x: x.transpose(0, 3, 1, 2),
    "a channel dropped": lambda x: x[..., :2],
    "every second row": lambda x: x[1::2],
    "a slice": lambda x: x[7:31],
    "an axis added": lambda x: x[:, None],
    "from right to left": lambda x: x[:, :, ::-1],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_rows_read_from_the_file_are_the_maps(tmp_path, monkeypatch, layout, dtype):
    monkeypatch.setattr(stored, "BLOCK_BYTES", 300)
    x = RNG.integers(0, 256, (41, 3, 4, 3)).astype(dtype)
    view, known = LAYOUTS[layout](mapped(tmp_path / "a.npy", x)), LAYOUTS[layout](x)
    some = np.sort(RNG.permutation(len(known))[: len(known) // 2])
    for rows, expected in ((view, known), (Rows(view, some), known[some])):
        reader = Reader(rows)
        at = RNG.integers(0, len(expected), 30)
        assert np.array_equal(reader.rows(at).numpy(), expected[at])
        assert np.array_equal(reader[3:9], expected[3:9])
        assert len(reader.rows(at[:0])) == 0


def test_a_map_that_is_the_callers_own_is_read_as_he_changed_it(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((40, 3), np.float32))
    own = np.load(tmp_path / "a.npy", mmap_mode="c")
    own[5] = 1
    assert Reader(own).rows(np.array([4, 5])).tolist() == [[0, 0, 0], [1, 1, 1]]


def test_a_file_that_is_replaced_or_cut_short_does_not_pass_unseen(tmp_path):
    path = tmp_path / "a.npy"
    x = RNG.integers(0, 256, (4000, 50), np.uint8)
    rows = mapped(path, x)
    np.save(tmp_path / "b.npy", 255 - x)
    reader = Reader(rows)
    (tmp_path / "b.npy").replace(path)
    assert np.array_equal(reader.rows(np.array([7])).numpy(), x[[7]])
    assert np.array_equal(Reader(rows).rows(np.array([7])).numpy(), x[[7]])
    rows = mapped(tmp_path / "c.npy", x)
    with (tmp_path / "c.npy").open("r+b") as file:
        file.truncate(100_000)
    with pytest.raises(VaekitError, match=r"c\.npy has become shorter while it was in use: row 3,999"):
        Reader(rows).rows(np.array([0, 3999]))


def test_reading_ahead_gives_what_reading_on_demand_gives(digits, small):
    data = open_data(digits)
    x = data.train.rows(slice(None))

    def batches():
        return Batches(data.train, data.contract, "cpu", condition=False)

    order = batches().order(0, 0)
    ahead, plain = batches(), batches()
    ahead.follow(order)
    others = {t for t in threading.enumerate() if t.name.startswith("vaekit-reader")}
    assert others and isinstance(data.train.x, Rows)
    for first in range(0, len(order), 24):  # batches straddle the windows of 20
        at = order[first : first + 24]
        found = ahead.get(at)[0]
        assert torch.equal(found, plain.get(at)[0]) and np.array_equal(found, x[at])
        assert np.array_equal(ahead.get(np.array([3, 3, 99]))[0], x[[3, 3, 99]])  # out of turn
        assert len(ahead.get(at[:0])[0]) == 0
    ahead.follow(order[50:])
    assert np.array_equal(ahead.get(torch.from_numpy(order[50:60]))[0], x[order[50:60]])
    ahead.close()
    assert not any(t.is_alive() for t in others)
    assert np.array_equal(ahead.get(order[60:70])[0], x[order[60:70]])


def test_the_data_say_how_they_are_shuffled_and_small_ones_are_shuffled_whole(digits, small, monkeypatch):
    told = "shuffled in windows of 20 rows, made of blocks of 4 in random order"
    assert any(told in note for note in open_data(digits).contract.preparation)
    monkeypatch.setattr(windows, "HELD_BYTES", 1 << 20)
    data = open_data(digits)
    assert not any("windows" in note for note in data.contract.preparation)
    order = Batches(data.train, data.contract, "cpu", condition=False).order(0, 0)
    assert np.array_equal(np.sort(order), np.arange(104)) and np.ptp(order[:20]) > 50


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_what_a_process_announces_is_what_it_asks_for(processes):
    chosen = settings(devices=processes, batch_size=4, gradient_accumulation_steps=2)
    plan, order = Plan.of(chosen, 103), RNG.permutation(103)
    for rank in range(processes):
        for start in (0, 2):
            steps = range(start, plan.steps_per_epoch)
            asked = [i for p in steps for share in plan.shares(plan.rows(order, p), rank) for i in share]
            assert asked == list(plan.mine(order, start, rank)[: len(asked)])


class Stops(torch.nn.Module):
    """Interrupts the run inside a chosen step."""

    def __init__(self, objective, after: int = 0) -> None:
        super().__init__()
        self.objective, self.model, self.left = objective, objective.model, after

    def initialise(self, x, c, n_data):
        self.objective.initialise(x, c, n_data)

    def forward(self, x, c, t):
        if self.training:
            self.left -= 1
            if self.left == 0:
                signal.raise_signal(signal.SIGINT)
        return self.objective(x, c, t)


def test_training_in_windows_resumes_bit_for_bit_and_leaves_no_thread(tmp_path, digits, small, monkeypatch):
    data, chosen = open_data(digits), settings(epochs=3)
    whole = tmp_path / "whole"
    assert run(whole, chosen, Stops(vae()), data).reason == "finished"
    for step in (2, 5, 8):  # inside a window, at an epoch's end, and inside one again: 5 steps an epoch
        path = tmp_path / str(step)
        assert run(path, chosen, Stops(vae(), step), data).steps == step
        assert run(path, chosen, Stops(vae()), open_data(digits), resume=True).reason == "finished"
        same(left(path), left(whole))
    assert not any(t.name.startswith("vaekit-reader") for t in threading.enumerate())
    monkeypatch.setattr(Batches, "follow", lambda self, rows: None)
    run(tmp_path / "without", chosen, Stops(vae()), data)
    same(left(tmp_path / "without"), left(whole))


def test_a_file_cut_short_under_a_run_ends_it_in_one_line(tmp_path, digits, small):
    class Cuts(Stops):
        def forward(self, x, c, t):
            if self.training and (tmp_path / "run" / "last.ckpt").exists():
                with digits.open("r+b") as file:
                    file.truncate(200)
            return super().forward(x, c, t)

    with pytest.raises(VaekitError, match=r"digits\.npy has become shorter while it was in use") as told:
        run(tmp_path / "run", settings(checkpoint_every=1), Cuts(vae()), open_data(digits))
    assert "\n" not in str(told.value)
    assert not any(t.name.startswith("vaekit-reader") for t in threading.enumerate())
