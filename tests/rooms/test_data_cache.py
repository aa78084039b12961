"""Decoded images are kept whole, out of the way, and only while they are true."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from data_kit import encoded, paint, write

from vaekit.data import open_data
from vaekit.errors import VaekitError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    where = tmp_path / "cache"
    monkeypatch.setenv("VAEKIT_CACHE", str(where))
    return where


def test_cache_is_used_again_until_something_changes(tmp_path, cache):
    source = write(tmp_path / "set", {f"{i}.png": encoded(paint(i)) for i in range(5)})
    before = open_data(source).contract.hash
    (entry,) = (cache / "images").iterdir()
    stamp = (entry / "pixels").stat().st_mtime_ns
    assert open_data(source).contract.hash == before
    assert (entry / "pixels").stat().st_mtime_ns == stamp
    assert not list(source.glob("*cache*"))
    (source / "0.png").write_bytes(encoded(paint(99)))
    assert open_data(source).contract.hash != before
    assert len(list((cache / "images").iterdir())) == 1  # the outdated entry is gone


def test_a_runs_own_images_are_not_decoded_again_under_its_contract(tmp_path, cache):
    source = write(tmp_path / "set", {f"{i}.png": encoded(paint(i, (20 + i, 30))) for i in range(6)})
    data = open_data(source)
    again = open_data(source, contract=data.contract)
    assert again.contract.hash == data.contract.hash and len(list((cache / "images").iterdir())) == 1
    smaller = open_data(source, size=8).contract
    assert open_data(source, contract=smaller, whole=True).train.x.shape == (6, 1, 8, 8)


def test_a_damaged_cache_entry_is_made_anew(tmp_path, cache):
    source = write(tmp_path / "set", {f"{i}.png": encoded(paint(i)) for i in range(5)})
    before = open_data(source).contract.hash
    (entry,) = (cache / "images").iterdir()
    (entry / "pixels").write_bytes(b"short")
    assert open_data(source).contract.hash == before


def test_two_openers_at_once_leave_one_good_entry(tmp_path, cache):
    source = write(tmp_path / "set", {f"{i}.png": encoded(paint(i)) for i in range(60)})
    code = f"from vaekit.data import open_data; print(open_data({str(source)!r}).contract.hash)"
    runs = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    hashes: list[str] = []
    threads = [
        threading.Thread(target=lambda: hashes.append(open_data(source).contract.hash)) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    hashes += [run.communicate()[0].strip() for run in runs]
    assert len(hashes) == 4 and len(set(hashes)) == 1
    assert len(list((cache / "images").iterdir())) == 1


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    source = write(tmp_path / "set", {f"{i}.png": encoded(paint(i)) for i in range(5)})
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("VAEKIT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(VaekitError, match="set VAEKIT_CACHE"):
        open_data(source)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full to act as a full disk")
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, cache, monkeypatch):
    source = write(tmp_path / "set", {f"{i}.png": encoded(paint(i)) for i in range(5)})
    real = Path.open

    def full(self, mode="r", *rest, **named):
        return real(
            Path("/dev/full") if self.name == "pixels" and "w" in mode else self, mode, *rest, **named
        )

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(VaekitError, match="No space left"):
        open_data(source)
    assert list((cache / "images").iterdir()) == []
