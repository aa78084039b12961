"""What a caller hands to a run: data and how to open them, and whether anyone listens."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaekit.errors import VaekitError

if TYPE_CHECKING:
    from vaekit.data import Data
    from vaekit.recipe import Recipe

Say = Callable[[str], None]


def voice(progress: bool | None) -> Say:
    """Say a line on stderr, where someone listens, and once even with several processes."""
    listening = sys.stderr.isatty() if progress is None else progress
    first = os.environ.get("LOCAL_RANK", "0") == "0" and os.environ.get("NODE_RANK", "0") == "0"
    return (
        (lambda text: print(text, file=sys.stderr, flush=True))
        if listening and first
        else (lambda text: None)
    )


def without_none(**values: Any) -> dict[str, Any]:
    """What was given, of options that may be left out."""
    return {name: value for name, value in values.items() if value is not None}


def opened(source: Any, options: Mapping[str, Any]) -> Data:
    """`vaekit.data.open_data`, imported when it is needed."""
    from vaekit.data import open_data

    return open_data(source, **options)


def data_options(recipe: Recipe) -> dict[str, Any]:
    """The recipe's [data] as `open_data` takes it, defaults left out."""
    section = recipe.data
    plain = section.model_dump(exclude={"source"}, exclude_defaults=True)
    return without_none(**plain)


def is_name(source: str) -> bool:
    """Whether it is the name of a data set rather than a path."""
    from vaekit.data import NAMES

    return source in NAMES


def kept_source(source: str | os.PathLike[str]) -> str:
    """A name as it is; a path made absolute, so that the run can be resumed from any folder."""
    text = os.fspath(source)
    return text if is_name(text) else str(Path(text).expanduser().resolve())


def refuse_beyond_train(changes: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise VaekitError where the changes for a resume reach beyond [train]."""
    refused = [f"{section}.{key}" for section, keys in changes.items() for key in keys if section != "train"]
    if refused:
        raise VaekitError(
            f"--resume cannot change {', '.join(refused)}: only [train] may change; start a new run"
        )


def introduction(data: Data, say: Say) -> None:
    """Say what the data are and how they came to be so."""
    say(data.contract.line())
    for sentence in data.contract.preparation:
        say(f"data: {sentence}")
