"""model.safetensors: weights with recipe and data contract in the metadata. No pickle, no code, one file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import tomli_w
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from vaekit._version import __version__
from vaekit.data import Contract
from vaekit.errors import VaekitError
from vaekit.files import atomic
from vaekit.recipe.sections import parsed

SCHEMA = 1  # of the metadata; raised when an older vaekit could no longer read it
MOST_HEADER = (
    64 << 20
)  # bytes of names, shapes and metadata; the contract of a wide table is the largest part


def write(path: Path, state: Mapping[str, Tensor], recipe: str, contract: Contract) -> None:
    """The weights, whole or not at all. `recipe` is TOML. Raises VaekitError where the disk refuses."""
    metadata = {
        "format": "vaekit",
        "schema": str(SCHEMA),
        "vaekit": __version__,
        "recipe": recipe,
        "contract": json.dumps(contract.to_dict()),
    }
    # a copy each: safetensors refuses tensors that share memory, as tied weights do
    tensors = {k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in state.items()}
    data = save(tensors, metadata)
    with atomic(path) as temporary:
        temporary.write_bytes(data)


def read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and weights. Raises VaekitError for a file that is missing, cut short, foreign or too new."""
    damaged = f"{path} is cut short, damaged or no file of vaekit"
    try:
        with path.open("rb") as file:
            header = int.from_bytes(file.read(8), "little")
            size = os.fstat(file.fileno()).st_size
        if size < 10 or header > min(size, MOST_HEADER):
            raise VaekitError(f"{damaged}: take another copy, or train again")
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            _check_schema(path, metadata)
            return metadata, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise VaekitError(f"{damaged} ({error}): take another copy, or train again") from error
    except OSError as error:
        raise VaekitError(f"{path} cannot be read: {error.strerror or error}") from error


def _check_schema(path: Path, metadata: Mapping[str, str]) -> None:
    if metadata.get("format") != "vaekit":
        raise VaekitError(f"{path} is a safetensors file, but not of a vaekit run: it holds no recipe")
    schema = metadata.get("schema", "")
    if schema != str(SCHEMA):
        made = metadata.get("vaekit")
        raise VaekitError(
            f"{path} was made by vaekit {made} (schema {schema}); this is vaekit {__version__}, which reads "
            f"schema {SCHEMA}: use a vaekit that fits, pip install vaekit=={made}"
        )


def contract_of(text: str, what: str) -> Contract:
    """A contract from JSON. Raises VaekitError."""
    try:
        return Contract.from_dict(json.loads(text))
    except VaekitError as error:
        raise VaekitError(f"{what}: {error}") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise VaekitError(f"{what} is damaged: {error}") from error


def without_path(recipe: str, contract: Contract) -> str:
    """A recipe's TOML with the data's name where it has a path, and without that of the run it started from."""
    tree = parsed(recipe, "recipe.toml")
    tree.get("train", {}).pop("start", None)
    source = tree.get("data", {}).get("source")
    if isinstance(source, str) and source != contract.source:
        tree["data"]["source"] = contract.source
    return tomli_w.dumps(tree)


def put(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load weights into a model of the same recipe. Raises VaekitError where names or shapes differ."""
    check(model, state, path)
    model.load_state_dict(state)


def check(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Raises VaekitError where the names or shapes of weights are not the model's, which may be on "meta"."""
    own = model.state_dict()
    problems = [f"{name} is missing" for name in own if name not in state]
    problems += [f"{name} is not in the model" for name in state if name not in own]
    problems += [
        f"{name} is {list(state[name].shape)}, the model has {list(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    if problems:
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise VaekitError(f"the weights in {path} do not fit the recipe: {problems[0]}{more}")
