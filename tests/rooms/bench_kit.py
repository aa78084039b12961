"""A tiny bench on digits, and what it leaves."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file

import vaekit

TINY = """
title = "Two on digits"
description = "as small as a bench can be"
data = "digits"
k = [1, 5]
set = ["train.epochs=2", "train.pictures=false", "data.limit=64"]
[[row]]
name = "vae"
recipe = "digits"
seeds = [0, 1]
[row.anchor]
value = 1000.0
what = "a poor one"
source = "nobody"
data = "static MNIST test"
[[row]]
recipe = "iwae"
set = ["objective.draws=2", "model.latent=3"]
"""


def written(folder: Path, text: str = TINY, name: str = "tiny.toml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def record(folder: Path, cell: str) -> dict:
    return json.loads((folder / "cells" / f"{cell}.json").read_text())


def weights(folder: Path, cell: str) -> dict:
    return load_file(folder / "runs" / cell / "model.safetensors")


def change(folder: Path, cell: str, how) -> None:
    kept = record(folder, cell)
    how(kept)
    (folder / "cells" / f"{cell}.json").write_text(json.dumps(kept))


def make(home: Path) -> tuple[Path, Path, dict]:
    """The tiny bench, made: its file, its folder, its table."""
    path = written(home)
    return path, home / "b", vaekit.benchmark(path, output=home / "b")
