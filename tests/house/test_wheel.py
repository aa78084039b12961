"""The wheel, installed elsewhere, holds the recipes and trains: an editable checkout can hide what is missing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the wheel unpacked by pip."""
    pytest.importorskip("hatchling", reason="building the wheel needs the dev extra")
    folder = tmp_path_factory.mktemp("wheel")
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        folder,
        ROOT,
    ]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("vaekit-*.whl")
    target = folder / "site"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", target, wheel]
    subprocess.run(install, check=True, capture_output=True)
    return target


def test_the_wheel_holds_what_the_package_needs(installed):
    package = installed / "vaekit"
    kinds = (".py", ".toml", ".typed", ".css", ".js")
    shipped = {p.relative_to(package) for p in package.rglob("*") if p.suffix in kinds}
    source = ROOT / "src" / "vaekit"
    assert shipped == {p.relative_to(source) for p in source.rglob("*") if p.suffix in kinds}


def test_the_wheel_trains_away_from_the_checkout(installed, tmp_path):
    script = (
        "import vaekit, sys; assert sys.argv[1] in vaekit.__file__, vaekit.__file__; "
        "run = vaekit.fit('digits', set=['train.epochs=1']); print(run.path)"
    )
    environment = os.environ | {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script, str(installed)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "digits" / "model.safetensors").is_file()
