"""The faces recipe on whatever holds faces: a folder of colour photographs of any size, an array like Frey's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

import vaekit
from commands_kit import ask


def faces(n: int, height: int, width: int) -> np.ndarray:
    """Ovals with two eyes on a dark ground, uint8 [n, H, W]."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    drawn = []
    for _ in range(n):
        across, down, turn = 0.6 + 0.2 * random.random(), 0.8, 0.2 * random.normal()
        face = 150.0 * ((x / across) ** 2 + (y / down) ** 2 < 1)
        for side in (-0.3, 0.3):
            face[(x - side - turn) ** 2 + (y + 0.2) ** 2 < 0.015] = 20
        drawn.append(face + 20 + 10 * random.random(face.shape))
    return np.stack(drawn).clip(0, 255).astype(np.uint8)


@pytest.fixture
def photographs(tmp_path):
    """A folder of colour photographs, tall and wide, in a folder a person."""
    folder = tmp_path / "people"
    for i, face in enumerate(faces(40, 60, 50)):
        person = folder / f"person {i % 4}"
        person.mkdir(parents=True, exist_ok=True)
        tinted = np.stack((face, face // 2, face // 3), -1)
        Image.fromarray(tinted[:, : 50 - i % 5]).save(person / f"{i}.jpg")
    return folder


def test_a_folder_of_any_faces_trains_and_is_looked_at(capsys, photographs, tmp_path):
    run = tmp_path / "run"
    command = ["train", photographs, "--recipe", "faces", "--size", 24, "-o", run, "--set", "train.epochs=1"]
    code, _, err = ask(capsys, *command)
    assert code == 0 and "mirrored" in err, err
    opened = vaekit.load(run)
    likelihood = opened.recipe.likelihood
    assert opened.contract.shape == (3, 24, 24) and likelihood.kind == "GaussianLikelihood"
    assert likelihood.arguments["variance"] == "learned"
    result = opened.evaluate(k=(1, 5))
    # a density of grey levels: nats, and no bits a dimension, which are for probabilities
    assert math.isfinite(result["nll"][-1]["value"]) and result["bits_per_dimension"] is None
    moved = ["arithmetic", run, "--plus", "person 1", "--minus", "person 2", "--to", "person 3", "-n", 2]
    assert ask(capsys, *moved, "-o", tmp_path / "moved.npz")[0] == 0
    assert set(np.load(tmp_path / "moved.npz")["item"][16:]) <= {f"person 3/{i}.jpg" for i in range(40)}
    ends = ["--from", photographs / "person 0" / "0.jpg", "--to", 1]
    assert ask(capsys, "interpolate", run, *ends, "-o", tmp_path / "walk.png")[0] == 0


def test_an_array_of_small_frames_trains(tmp_path):
    np.save(tmp_path / "frames.npy", faces(120, 28, 20))
    run = vaekit.fit(tmp_path / "frames.npy", recipe="faces", output=tmp_path / "run", set=["train.epochs=1"])
    assert run.contract.shape == (1, 28, 20) and run.sample(3, seed=0).shape == (3, 1, 28, 20)
    assert np.isfinite(run.metrics()[-1]["valid_loss"])
