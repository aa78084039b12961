"""Commands asked in this process, as a person would ask them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from vaekit.__main__ import run


def ask(capsys, *arguments: object) -> tuple[int, str, str]:
    """Run a command in this process: exit code, stdout, stderr."""
    capsys.readouterr()
    code = run([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def shape_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        image.load()
        return image.size


def refused(capsys, *arguments: object) -> str:
    code, out, err = ask(capsys, *arguments)
    lines = [
        line
        for line in err.splitlines()
        if line.startswith("vaekit: ") and not line.startswith("vaekit: note")
    ]
    assert code == 2 and out == "" and len(lines) == 1 and "Traceback" not in err, err
    return lines[0]


def saved(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path
