"""Collections shard by shard: what is written, what is taken up again, what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from data_kit import encoded, paint, write
from sklearn.datasets import load_digits

import vaekit
from commands_kit import ask, refused

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

DIGITS = load_digits()


def pixels(x: np.ndarray) -> arrow.Array:
    """A column of lists, a list a row."""
    return arrow.FixedSizeListArray.from_arrays(arrow.array(x.reshape(-1)), x.shape[1])


def shard(path: Path, at: slice, **columns) -> Path:
    """Rows of the digits as a parquet file, with their number, their label and a word."""
    x = DIGITS.data[at].astype(np.uint8)
    number = np.arange(len(DIGITS.data))[at]
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {"number": number, "label": DIGITS.target[at], "word": [f"digit {n}" for n in number]}
    parquet.write_table(arrow.table(told | {"pixels": pixels(x)} | columns), path, row_group_size=100)
    return path


@pytest.fixture
def digits(tmp_path) -> Path:
    """Three shards of the digits, one of them in a folder, among files that are none."""
    data = tmp_path / "data"
    shard(data / "part-0.parquet", slice(0, 250))
    shard(data / "part-1.parquet", slice(250, 600))
    shard(data / "day=2" / "part-2.parquet", slice(600, 700))
    write(data, {"_SUCCESS": b"", "notes.txt": b"of no interest"})
    return data


@pytest.fixture(scope="session")
def pictures_run(tmp_path_factory):
    """A run on small grey images that is given their label, a and b."""
    folder = tmp_path_factory.mktemp("pictured")
    files = {f"{'ab'[i % 2]}/{i:02d}.png": encoded(paint(i, (8, 8))) for i in range(40)}
    told = ["train.epochs=1", "model.condition=label"]
    vaekit.fit(str(write(folder / "images", files)), latent=2, output=folder / "run", seed=0, set=told)
    return folder / "run"


def columns(table: arrow.Table, name: str) -> np.ndarray:
    """The columns NAME_0, NAME_1, ... as [N, D]."""
    found = [column for column in table.column_names if column.rpartition("_")[0] == name]
    return np.stack([table.column(column).to_numpy() for column in found], 1)


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix == ".parquet" and not path.name.startswith(".")
    }


# -- what is written


def test_each_shard_becomes_a_file_of_its_codes_with_what_tells_the_rows(
    capsys, digits_run, digits, tmp_path
):
    code, out, err = ask(capsys, "encode", digits_run, digits, "--engine", "local", "-o", tmp_path / "codes")
    assert code == 0 and out.strip() == str(tmp_path / "codes") and "3 shards of 700 rows" in err
    assert list(files_of(tmp_path / "codes")) == ["day=2/part-2.parquet", "part-0.parquet", "part-1.parquet"]
    run = vaekit.load(digits_run)
    for name, first in (("part-0", 0), ("part-1", 250), ("day=2/part-2", 600)):
        table = parquet.read_table(tmp_path / "codes" / f"{name}.parquet", partitioning=None)
        assert (
            table.column_names[:4] == ["row", "number", "label", "word"]
            and "pixels" not in table.column_names
        )
        assert table["row"].to_pylist() == list(range(len(table)))
        assert table["number"].to_pylist() == list(range(first, first + len(table)))
        assert table["word"][0].as_py() == f"digit {first}"
        x = DIGITS.data[first : first + len(table)].astype(np.uint8)
        codes = run.encode(x)
        np.testing.assert_array_equal(columns(table, "mean"), codes.mean)
        np.testing.assert_array_equal(columns(table, "log_variance"), codes.log_variance)


def test_a_file_of_several_blocks_gives_what_it_gives_in_one_piece(capsys, digits_run, tmp_path):
    x = np.tile(DIGITS.images.astype(np.uint8), (5, 1, 1))[:8500]
    greys = x.astype(np.float32) / 16  # a first block of bits alone would be taken for other units
    data = tmp_path / "data"
    data.mkdir()
    np.save(data / "greys.npy", greys)
    parquet.write_table(arrow.table({"x": pixels(greys.reshape(-1, 64))}), data / "table.parquet")
    assert ask(capsys, "encode", digits_run, data, "--engine", "local", "-o", tmp_path / "codes")[0] == 0
    whole = vaekit.load(digits_run).encode(x)
    for name in ("greys.npy.parquet", "table.parquet"):
        table = parquet.read_table(tmp_path / "codes" / name)
        np.testing.assert_array_equal(table["row"].to_numpy(), np.arange(8500))
        np.testing.assert_allclose(columns(table, "mean"), whole.mean, rtol=0, atol=1e-5)


def test_bits_go_on_from_block_to_block(capsys, tmp_path):
    vaekit.fit(
        "digits", latent=2, binarize="dynamic", output=tmp_path / "run", seed=0, set=["train.epochs=1"]
    )
    x = np.tile(DIGITS.images.astype(np.uint8), (5, 1, 1))[:8500]
    np.save(tmp_path / "x.npy", x)
    assert (
        ask(
            capsys, "encode", tmp_path / "run", tmp_path / "x.npy", "--engine", "local", "-o", tmp_path / "o"
        )[0]
        == 0
    )
    mean = columns(parquet.read_table(tmp_path / "o" / "x.npy.parquet"), "mean")
    np.testing.assert_allclose(mean, vaekit.load(tmp_path / "run").encode(x).mean, rtol=0, atol=1e-5)


def test_images_come_from_folders_archives_and_parquet(capsys, pictures_run, tmp_path):
    data, run = tmp_path / "data", vaekit.load(pictures_run)
    images = {f"{i:02d}.png": encoded(paint(i, (8 + i % 3, 9))) for i in range(12)}
    write(data / "folder", {f"inner/{name}": file for name, file in images.items()})
    write(data, images)
    with zipfile.ZipFile(data / "some.zip", "w") as archive:
        for name, file in images.items():
            archive.writestr(name, file)
    cells = [{"bytes": file, "path": name} for name, file in images.items()]
    parquet.write_table(arrow.table({"image": cells, "key": list(images)}), data / "table.parquet")
    asked = ("encode", pictures_run, data, "--engine", "local", "--label", "a", "-o", tmp_path / "codes")
    assert ask(capsys, *asked)[0] == 0
    whole = run.encode(str(data / "some.zip"), label="a").mean
    for name in ("data.parquet", "folder.parquet", "some.zip.parquet", "table.parquet"):
        table = parquet.read_table(tmp_path / "codes" / name)
        np.testing.assert_array_equal(columns(table, "mean"), whole)
        told = table["key" if name == "table.parquet" else "file"].to_pylist()
        assert [Path(file).name for file in told] == list(images)


def test_a_conditional_run_takes_labels_from_columns_and_folders(capsys, pictures_run, tmp_path):
    data, run = tmp_path / "data", vaekit.load(pictures_run)
    write(data, {"a/0.png": encoded(paint(0, (8, 8))), "b/1.png": encoded(paint(1, (8, 8)))})
    x = np.stack([np.asarray(paint(i, (8, 8))) for i in range(2)])
    parquet.write_table(
        arrow.table({"pixels": pixels(x.reshape(2, 64)), "class": ["a", "b"]}), data / "table.parquet"
    )
    assert ask(capsys, "encode", pictures_run, data, "--engine", "local", "-o", tmp_path / "codes")[0] == 0
    whole = run.encode(x, label=["a", "b"]).mean
    read = {
        name: columns(parquet.read_table(tmp_path / "codes" / f"{name}.parquet"), "mean")
        for name in ("a", "b", "table")
    }
    np.testing.assert_allclose(np.concatenate([read["a"], read["b"]]), whole, rtol=0, atol=1e-6)
    np.testing.assert_allclose(read["table"], whole, rtol=0, atol=1e-6)


def test_scores_are_each_rows_own_and_do_not_depend_on_the_other_shards(capsys, digits_run, digits, tmp_path):
    asked = ("encode", digits_run, digits, "--engine", "local", "--scores", 20, "-o")
    assert ask(capsys, *asked, tmp_path / "a")[0] == 0
    table = parquet.read_table(tmp_path / "a" / "part-1.parquet")
    elbo, rate, distortion, nll = (table[name].to_numpy() for name in ("elbo", "rate", "distortion", "nll"))
    np.testing.assert_allclose(elbo, -(rate + distortion))
    assert (nll < -elbo).mean() > 0.9  # the bound of 20 draws is tighter
    run = vaekit.load(digits_run)
    judged = run.evaluate(DIGITS.data[250:600].astype(np.uint8), k=[20])
    assert rate.mean() == pytest.approx(judged["rate"], rel=1e-5)
    assert nll.mean() == pytest.approx(judged["nll"][0]["value"], rel=0.01)
    # alone, in another folder: the same file
    (tmp_path / "alone").mkdir()
    (digits / "part-1.parquet").rename(tmp_path / "alone" / "part-1.parquet")
    assert ask(capsys, *asked[:2], tmp_path / "alone", *asked[3:], tmp_path / "b")[0] == 0
    assert files_of(tmp_path / "b")["part-1.parquet"] == files_of(tmp_path / "a")["part-1.parquet"]
    assert ask(capsys, *asked[:2], tmp_path / "alone", *asked[3:], tmp_path / "c", "--seed", 1)[0] == 0
    other = parquet.read_table(tmp_path / "c" / "part-1.parquet")
    assert (other["nll"].to_numpy() != nll).any() and (other["rate"].to_numpy() == rate).all()


def test_one_file_of_codes_takes_scores_too(capsys, digits_run, tmp_path):
    assert (
        ask(capsys, "encode", digits_run, "--split", "test", "--scores", 2, "-o", tmp_path / "codes.npz")[0]
        == 0
    )
    found = np.load(tmp_path / "codes.npz")
    np.testing.assert_allclose(found["elbo"], -(found["rate"] + found["distortion"]))
    assert found["nll"].shape == (180,)
    assert "picture" in refused(capsys, "encode", digits_run, "--scores", 2, "-o", tmp_path / "map.png")


def test_samples_come_in_shards_and_more_of_them_go_on(capsys, digits_run, tmp_path):
    asked = ("sample", digits_run, "--engine", "local", "--seed", 3, "-o", tmp_path / "drawn", "-n")
    assert ask(capsys, *asked, 10_500)[0] == 0
    before = files_of(tmp_path / "drawn")
    assert list(before) == ["samples-000000.parquet", "samples-000001.parquet"]
    code, _, err = ask(capsys, *asked, 12_000)
    after = files_of(tmp_path / "drawn")
    assert code == 0 and "1 shard of 2,000 rows written" in err and "finished before: 1" in err
    assert after["samples-000000.parquet"] == before["samples-000000.parquet"]
    tables = [parquet.read_table(tmp_path / "drawn" / name) for name in after]
    assert [len(table) for table in tables] == [10_000, 2_000]
    x, z = columns(tables[1], "x"), columns(tables[1], "z")
    assert x.shape == (2_000, 64) and x.min() >= 0 and x.max() <= 16 and abs(z.mean()) < 0.1
    assert (z[:100] != columns(tables[0], "z")[:100]).all()


# -- taken up again


def test_a_second_call_makes_what_is_missing_or_outdated_and_nothing_else(
    capsys, digits_run, digits, tmp_path
):
    out = tmp_path / "codes"
    asked = ("encode", digits_run, digits, "--engine", "local", "-o", out)
    assert ask(capsys, *asked)[0] == 0
    before = {name: (out / name).stat().st_mtime_ns for name in files_of(out)}
    first = files_of(out)
    (out / "part-0.parquet").unlink()
    shard(digits / "day=2" / "part-2.parquet", slice(600, 760))
    code, _, err = ask(capsys, *asked)
    assert code == 0 and "2 shards of 410 rows written" in err and "finished before: 1" in err
    assert (out / "part-1.parquet").stat().st_mtime_ns == before["part-1.parquet"]
    assert files_of(out)["part-0.parquet"] == first["part-0.parquet"]
    assert len(parquet.read_table(out / "day=2" / "part-2.parquet", partitioning=None)) == 160
    assert "0 shards of 0 rows" in ask(capsys, *asked)[2]
    (digits / "part-1.parquet").unlink()
    assert "part-1.parquet, which this call does not make" in ask(capsys, *asked)[2]


def test_a_broken_shard_is_named_once_and_the_others_are_written(capsys, digits_run, digits, tmp_path):
    out = tmp_path / "codes"
    whole = (digits / "part-0.parquet").read_bytes()
    (digits / "part-0.parquet").write_bytes(whole[: len(whole) // 2])
    x = DIGITS.data[:9000].astype(np.float64)
    x[1700, 3] = 17.0  # the digits end at 16
    parquet.write_table(arrow.table({"pixels": pixels(np.tile(x, (6, 1)))}), digits / "wrong.parquet")
    parquet.write_table(arrow.table({"pixels": pixels(x[:0].reshape(0, 64))}), digits / "empty.parquet")
    asked = ("encode", digits_run, digits, "--engine", "local", "-o", out)
    code, stdout, err = ask(capsys, *asked)
    assert code == 2 and stdout == "" and "Traceback" not in err
    assert "vaekit: 2 of 5 shards failed: part-0.parquet, wrong.parquet" in err
    assert "note: part-0.parquet failed: part-0.parquet is not a readable parquet file" in err
    assert "note: wrong.parquet failed: wrong.parquet: values 0 to 17 outside 0..16" in err
    assert "note: empty.parquet is not written: its input has no rows" in err
    assert list(files_of(out)) == ["day=2/part-2.parquet", "part-1.parquet"]
    assert not list(out.rglob(".*"))
    (digits / "part-0.parquet").write_bytes(whole)
    (digits / "wrong.parquet").unlink()
    assert "2 shards of 250 rows written" in ask(capsys, *asked)[2]


def test_a_few_unreadable_images_are_left_out_and_named(capsys, pictures_run, tmp_path):
    images = {f"a/{i:02d}.png": encoded(paint(i, (8, 8))) for i in range(12)}
    images["a/05.png"] = images["a/05.png"][:40]
    asked = (
        "encode",
        pictures_run,
        write(tmp_path / "data", images),
        "--engine",
        "local",
        "-o",
        tmp_path / "codes",
    )
    code, _, err = ask(capsys, *asked)
    table = parquet.read_table(tmp_path / "codes" / "a.parquet")
    assert code == 0 and "a.parquet lacks 1 unreadable images: 05.png" in err
    assert "05.png" not in table["file"].to_pylist() and table["row"].to_pylist() == [
        *range(5),
        *range(6, 12),
    ]


def interrupted(data: Path, out: Path, run: Path, engine: str, meanwhile=lambda process: None) -> str:
    """What `vaekit encode` says when it is interrupted after its first shard."""
    asked = ["encode", str(run), str(data), "--engine", engine, "--scores", "60", "-o", str(out)]
    running = subprocess.Popen(
        [sys.executable, "-m", "vaekit", *asked], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not files_of(out) and time.monotonic() < deadline:
        time.sleep(0.02)
    meanwhile(running)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=120)
    assert running.returncode == 130 and "Traceback" not in err, err
    assert not [path for path in out.rglob(".*") if path.is_file()]
    return err


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="interrupts a process by its signal")
def test_ctrl_c_keeps_the_finished_shards_and_says_how_to_go_on(capsys, digits_run, tmp_path):
    data, out = tmp_path / "data", tmp_path / "codes"
    for i in range(20):
        shard(data / f"part-{i:02d}.parquet", slice(0, 1797))
    err = interrupted(data, out, digits_run, "local")
    done = files_of(out)
    assert 0 < len(done) < 20
    assert f"interrupted; {len(done)} of 20 shards are finished, and the same command goes on" in err
    assert len(set(done.values())) == len(done)  # the same rows in other shards: other noise
    asked = ("encode", digits_run, data, "--engine", "local", "--scores", 60, "-o", out)
    assert f"finished before: {len(done)}" in ask(capsys, *asked)[2] and done.items() <= files_of(out).items()


# -- refused


def test_another_model_or_other_settings_do_not_mix_in_one_folder(
    capsys, digits_run, pictures_run, digits, tmp_path
):
    out = tmp_path / "codes"
    asked = ("encode", digits_run, digits, "--engine", "local", "-o", out)
    assert ask(capsys, *asked)[0] == 0
    assert "draws None, not 5" in refused(capsys, *asked, "--scores", 5)
    assert "another model" in refused(capsys, "encode", pictures_run, digits, "--engine", "local", "-o", out)
    assert "command 'encode'" in refused(capsys, "sample", digits_run, "--engine", "local", "-o", out)
    other = write(tmp_path / "full", {"letter.txt": b"dear"})
    assert "no folder of results" in refused(capsys, *asked[:-1], other)
    assert json.loads((out / "manifest.json").read_text())["command"] == "encode"


def test_what_cannot_be_done_is_refused_in_one_line(capsys, digits_run, digits, tmp_path):
    local = ("--engine", "local")
    assert "give DATA" in refused(capsys, "encode", digits_run, *local)
    assert "--split" in refused(capsys, "encode", digits_run, digits, *local, "--split", "test")
    assert "codes.csv is a file" in refused(
        capsys, "encode", digits_run, digits, *local, "-o", tmp_path / "codes.csv"
    )
    assert "lies in the data" in refused(capsys, "encode", digits_run, digits, *local, "-o", digits / "codes")
    assert "at least 1" in refused(
        capsys, "encode", digits_run, digits, *local, "--scores", 0, "-o", tmp_path / "o"
    )
    assert "at least 1" in refused(capsys, "sample", digits_run, "-n", 0, *local, "-o", tmp_path / "o")
    assert "no such file" in refused(
        capsys, "encode", digits_run, tmp_path / "gone", *local, "-o", tmp_path / "o"
    )
    (tmp_path / "none").mkdir()
    assert "no shards" in refused(
        capsys, "encode", digits_run, tmp_path / "none", *local, "-o", tmp_path / "o"
    )
    write(digits, {"part-0/x.png": encoded(paint(0))})
    assert "rename one" in refused(capsys, "encode", digits_run, digits, *local, "-o", tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_a_column_that_is_called_like_a_result_is_no_silent_loss(capsys, digits_run, tmp_path):
    shard(tmp_path / "data" / "one.parquet", slice(0, 10), mean_0=np.zeros(10))
    _, _, err = ask(
        capsys, "encode", digits_run, tmp_path / "data", "--engine", "local", "-o", tmp_path / "o"
    )
    assert "its column 'mean_0' has the name of a result: rename it" in err


# -- by Ray


@pytest.fixture(scope="module")
def cluster():
    """A cluster of two workers on this machine, for the tests of this file."""
    ray = pytest.importorskip("ray")
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 << 20,
    )
    yield ray
    ray.shutdown()


def test_without_ray_or_its_cluster_one_line_says_so(capsys, monkeypatch, digits_run, digits, tmp_path):
    asked = ("encode", digits_run, digits, "--engine", "ray", "-o", tmp_path / "codes")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "ray", None)
        assert "pip install 'vaekit[ray]'" in refused(capsys, *asked)
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert "no Ray cluster at 127.0.0.1:1 (RAY_ADDRESS)" in refused(capsys, *asked)


@pytest.mark.long
def test_two_workers_of_ray_write_the_files_that_one_process_writes(
    capsys, cluster, digits_run, digits, tmp_path
):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    asked = ("encode", digits_run, digits, "--scores", 5, "--engine")
    assert ask(capsys, *asked, "local", "-o", ours)[0] == 0
    broken = write(digits, {"broken.parquet": b"PAR1 and no more"}) / "broken.parquet"
    code, out, err = ask(capsys, *asked, "ray", "-o", theirs)
    assert code == 2 and out == "" and "1 of 4 shards failed: broken.parquet" in err
    assert files_of(theirs) == files_of(ours)
    broken.unlink()
    (theirs / "part-1.parquet").unlink()
    before = {name: (theirs / name).stat().st_mtime_ns for name in files_of(theirs)}
    code, out, err = ask(capsys, *asked, "ray", "-o", theirs)
    assert code == 0 and out.strip() == str(theirs) and "1 shard of 350 rows written" in err
    assert files_of(theirs) == files_of(ours)
    assert all((theirs / name).stat().st_mtime_ns == when for name, when in before.items())


@pytest.mark.long
def test_two_workers_of_ray_draw_the_samples_that_one_process_draws(capsys, cluster, digits_run, tmp_path):
    for engine in ("local", "ray"):
        asked = ("sample", digits_run, "-n", 10_100, "--noise", "--engine", engine, "-o", tmp_path / engine)
        assert ask(capsys, *asked)[0] == 0
    assert len(files_of(tmp_path / "ray")) == 2 and files_of(tmp_path / "ray") == files_of(tmp_path / "local")


def listening(root: int) -> set[str]:
    """Addresses, as /proc has them, where a process or one below it waits for connections."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    family = {root}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    sockets = set()
    for pid in family:
        for file in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                sockets.add(os.readlink(file))
            except OSError:
                continue
    lines = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    return {line[1].split(":")[0] for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in sockets}


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_cluster_of_our_own_listens_to_this_machine_alone_and_ends_with_ctrl_c(
    capsys, digits_run, tmp_path
):
    pytest.importorskip("ray")
    data, out, heard = tmp_path / "data", tmp_path / "codes", set()
    for i in range(20):
        shard(data / f"part-{i:02d}.parquet", slice(0, 1797))
    err = interrupted(data, out, digits_run, "ray", lambda running: heard.update(listening(running.pid)))
    assert heard and heard <= {
        "0100007F",
        "0000000000000000FFFF00000100007F",
        "00000000000000000000000001000000",
    }
    done = files_of(out)
    assert len(done) < 20 and f"interrupted; {len(done)} of 20 shards are finished" in err
    asked = ("encode", digits_run, data, "--engine", "local", "--scores", 60, "-o")
    assert ask(capsys, *asked, out)[0] == ask(capsys, *asked, tmp_path / "whole")[0] == 0
    assert files_of(out) == files_of(tmp_path / "whole")
