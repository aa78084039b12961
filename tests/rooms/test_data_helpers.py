"""Many small images are decoded by processes: the same rows, whatever becomes of these."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from data_kit import encoded, paint, write

from vaekit.data import helpers, images, open_data
from vaekit.errors import VaekitError


@pytest.fixture
def helped(tmp_path, monkeypatch):
    """Open a folder afresh with helpers, and count the processes that were started."""
    started: list[subprocess.Popen[bytes]] = []
    monkeypatch.setattr(images.devices, "cores", lambda: 2)
    start = helpers._start

    def counted():
        child = start()
        started.append(child)
        return child

    monkeypatch.setattr(helpers, "_start", counted)

    def opened(folder, number, **options):
        monkeypatch.setenv("VAEKIT_CACHE", str(tmp_path / f"cache-{number}"))
        monkeypatch.setattr(images, "_HELPED", 0 if number else 10**9)
        return open_data(folder, **options)

    return opened, started


def pictures(n: int = 600, mode: str = "RGB") -> dict[str, bytes]:
    return {f"{i % 3}/{i:03}.jpg": encoded(paint(i, (9, 7), mode), "JPEG") for i in range(n)}


def test_rows_remarks_and_labels_are_those_of_one_process(tmp_path, helped):
    opened, started = helped
    files = pictures()
    files["1/250.jpg"] = b"\xff\xd8 no picture"
    files["2/401.jpg"] = encoded(paint(0, (9, 7), "RGB"), "PNG")  # by another name
    folder = write(tmp_path / "a", files)
    alone = opened(folder, 0)
    assert not started
    together = opened(folder, 1)
    assert len(started) == 2 and all(child.poll() is not None for child in started)
    assert together.contract == alone.contract and len(together.contract.preparation) > 0
    for name, split in alone.splits.items():
        assert np.array_equal(together.split(name).rows(slice(None)), split.rows(slice(None)))
        assert np.array_equal(together.split(name).label, split.label)
    assert any("1/250.jpg" in note for note in together.contract.preparation)


def test_an_image_unlike_the_sample_is_found_by_a_helper_too(tmp_path, helped):
    opened, started = helped
    files = pictures(mode="L") | {"1/250.jpg": encoded(paint(1, (9, 7), "RGB"), "JPEG")}
    data = opened(write(tmp_path / "a", files), 1)
    assert data.contract.shape == (3, 7, 9) and all(child.poll() is not None for child in started)


def test_without_helpers_it_is_done_here(tmp_path, helped, monkeypatch):
    opened, started = helped
    folder = write(tmp_path / "a", pictures())
    alone = opened(folder, 0)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))
    assert opened(folder, 1).contract.hash == alone.contract.hash and started == [None, None]
    monkeypatch.undo()
    (tmp_path / "dies").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "dies").chmod(0o755)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", str(tmp_path / "dies"))
        patched.setattr(images.devices, "cores", lambda: 2)
        patched.setattr(images, "_HELPED", 0)
        patched.setenv("VAEKIT_CACHE", str(tmp_path / "cache-2"))
        assert open_data(folder).contract.hash == alone.contract.hash


def test_what_a_helper_refuses_ends_the_opening_as_ever(tmp_path, helped):
    opened, started = helped
    files = pictures() | {f"0/{i:03}.jpg": b"\xff\xd8 no picture" for i in range(0, 120, 3)}
    with pytest.raises(VaekitError, match="40 of 600 images cannot be read"):
        opened(write(tmp_path / "a", files), 1)
    assert started and all(child.poll() is not None for child in started)
