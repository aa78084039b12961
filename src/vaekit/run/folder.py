"""The folder of a run: made once, filled by training, read by everything that looks at it."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import shlex
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from vaekit._version import __version__
from vaekit.data import Contract
from vaekit.errors import VaekitError
from vaekit.files import write_text
from vaekit.recipe import Recipe, from_toml, to_toml
from vaekit.run import weights
from vaekit.run.environment import environment


class RunFolder:
    """`runs/NAME`: recipe, data contract, environment, metrics, pictures, frames, best weights, last checkpoint."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.recipe, self.contract = self.path / "recipe.toml", self.path / "data.json"
        self.environment, self.metrics = self.path / "environment.json", self.path / "metrics.jsonl"
        self.pictures, self.weights = self.path / "pictures", self.path / "model.safetensors"
        self.frames = self.path / "frames"  # of the film that a report shows: epoch-0001.npz, ...
        self.checkpoint = self.path / "last.ckpt"
        self.start = self.path / "start.safetensors"  # of a run that began with weights of another
        self.members = self.path / "members.toml"  # of a folder that holds several runs, and is none

    # -- making and opening

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str] | None = None,
        name: str = "run",
        root: str | os.PathLike[str] = "runs",
        several: bool = False,
    ) -> RunFolder:
        """A new folder: `path`, which must not exist (or be empty), else root/name, root/name-2, ...

        `several`: it will hold the folders of several runs. Of several processes that want the same folder one gets
        it. Raises VaekitError.
        """
        if path is None:
            return cls._next(Path(root), re.sub(r"[^\w.+-]+", "-", name).strip("-.") or "run", several)
        folder = cls(Path(path).expanduser())
        if not folder._take(several):
            raise folder._taken()
        return folder

    @classmethod
    def refuse_taken(cls, path: str | os.PathLike[str]) -> None:
        """Raise the VaekitError that `create` would raise for a path that is somebody's, and make nothing."""
        folder = cls(Path(path).expanduser())
        if folder.path.exists() and (not folder.path.is_dir() or any(folder.path.iterdir())):
            raise folder._taken()

    def _taken(self) -> VaekitError:
        ours = self.recipe.exists() or self.members.exists()
        how = f"go on with it (vaekit train --resume {self.path}), or " if ours else ""
        return VaekitError(f"{self.path} exists already; {how}choose another -o")

    @classmethod
    def _next(cls, root: Path, name: str, several: bool) -> RunFolder:
        for number in itertools.count(1):
            folder = cls(root / (name if number == 1 else f"{name}-{number}"))
            if not folder.path.exists() and folder._take(several):
                return folder
        raise AssertionError("unreachable")

    def _take(self, several: bool) -> bool:
        """Make the folder ours; False if it is somebody's. A file is the mark: one process makes it."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if any(self.path.iterdir()):
                return False
            mark = self.members if several else self.metrics
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except FileExistsError:
            return False
        except OSError as error:
            raise VaekitError(
                f"cannot make the run folder {self.path}: {error.strerror}; choose another -o"
            ) from error
        return True

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> RunFolder:
        """A folder that is there. Raises VaekitError if it holds no run."""
        folder = cls(Path(path).expanduser())
        if not folder.path.exists():
            raise VaekitError(f"there is no run at {folder.path}")
        if folder.members.is_file() and not folder.recipe.is_file():
            runs = sorted(place.parent.name for place in folder.path.glob("*/recipe.toml"))
            raise VaekitError(
                f"{folder.path} holds several runs, and is none itself: take one of them, such as "
                f"{folder.path / (runs[0] if runs else 'NAME')}"
            )
        if not folder.recipe.is_file():
            raise VaekitError(f"{folder.path} is no run of vaekit: it holds no recipe.toml")
        return folder

    # -- facts

    def write_recipe(self, recipe: Recipe, command: str | None = None) -> None:
        """recipe.toml, headed by the version and the command that made it (by default this process's)."""
        made = _command() if command is None else command
        shown = "".join(character if character.isprintable() else " " for character in made)
        write_text(self.recipe, f"# vaekit {__version__}\n# {shown}\n\n{to_toml(recipe)}")

    def read_recipe(self, allow: Collection[str] = ()) -> Recipe:
        return from_toml(self._read(self.recipe), str(self.recipe), allow)

    def write_contract(self, contract: Contract) -> None:
        write_text(self.contract, json.dumps(contract.to_dict(), indent=2) + "\n")

    def read_contract(self) -> Contract:
        return weights.contract_of(self._read(self.contract), str(self.contract))

    def write_environment(self) -> None:
        """environment.json: versions, processor, threads, GPU, commit; nothing that names a person."""
        write_text(self.environment, json.dumps(environment(), indent=2) + "\n")

    def write_model(self, state: Mapping[str, Tensor]) -> None:
        """model.safetensors, whole or not at all, with this folder's recipe and contract in its metadata."""
        self._write_weights(self.weights, state)

    def write_start(self, state: Mapping[str, Tensor]) -> None:
        """start.safetensors: the weights before step 0, so that the run depends on no other folder."""
        self._write_weights(self.start, state)

    def _write_weights(self, path: Path, state: Mapping[str, Tensor]) -> None:
        weights.write(path, state, self.read_recipe_text(), self.read_contract())

    def read_recipe_text(self) -> str:
        """recipe.toml with the data's name for its path: weights travel, and paths say who trained them."""
        return weights.without_path(self._read(self.recipe), self.read_contract())

    def _read(self, path: Path) -> str:
        try:
            return path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise VaekitError(f"{path} is missing: {self.path} is no complete run") from None
        except (OSError, UnicodeDecodeError) as error:
            raise VaekitError(f"{path} cannot be read: {error}") from error

    # -- metrics

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """A line of metrics.jsonl, on the disk when this returns. Numbers that are not finite become null."""
        left = memoryview((json.dumps({k: _plain(v) for k, v in line.items()}) + "\n").encode())
        try:
            file = os.open(self.metrics, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                before = os.fstat(file).st_size
                try:
                    while left:
                        left = left[os.write(file, left) :]
                    os.fsync(file)
                except OSError:
                    os.ftruncate(file, before)  # no half line
                    raise
            finally:
                os.close(file)
        except OSError as error:
            raise VaekitError(
                f"cannot write {self.metrics}: {error.strerror}; free some space and resume"
            ) from error

    def read_metrics(self) -> list[dict[str, Any]]:
        """The lines so far, without a last one that was cut short. Raises VaekitError for other damage."""
        lines = self._read(self.metrics).splitlines() if self.metrics.exists() else []
        read = []
        for number, line in enumerate(lines, 1):
            try:
                read.append(json.loads(line))
            except json.JSONDecodeError as error:
                if number < len(lines):
                    raise VaekitError(f"{self.metrics} line {number} is not JSON: {error}") from error
        return read

    def drop_metrics_after(self, epoch: int) -> None:
        """Keep the lines up to and with `epoch`: those after a checkpoint are written again by a resume."""
        kept = [line for line in self.read_metrics() if line.get("epoch", 0) <= epoch]
        write_text(self.metrics, "".join(json.dumps(line) + "\n" for line in kept))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _command() -> str:
    name = Path(sys.argv[0]).name
    if name in ("vaekit", "__main__.py"):
        return shlex.join(["vaekit", *sys.argv[1:]])
    return "made in Python"
