"""The app that the commands are put on, and the types of the options they share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter, validators

from vaekit._version import __version__

app = App(
    name="vaekit",
    help="Variational autoencoders: train on a path, look at the latent space, publish the likelihood.",
    version=__version__,
    version_flags=["--version"],
    help_flags=["--help", "-h"],
    suppress_keyboard_interrupt=False,  # the door says what was saved and how to go on
)

Out = Annotated[Path | None, Parameter(name=["--output", "-o"])]
Seed = Annotated[int, Parameter(validator=validators.Number(gte=0, lte=2**63 - 1))]
Count = Annotated[int, Parameter(validator=validators.Number(gte=1))]
# a latent point may start with a minus
Point = Annotated[str, Parameter(allow_leading_hyphen=True)]
Points = Annotated[
    list[str] | None, Parameter(consume_multiple=False, negative=(), allow_leading_hyphen=True)
]
Set = Annotated[list[str] | None, Parameter(name="--set", negative=())]
Allow = Annotated[
    list[str] | None,
    Parameter(
        name="--allow",
        negative=(),
        help="A module whose classes a recipe may name by import path; repeatable.",
    ),
]
Split = Literal["train", "valid", "test"]
Engine = Literal["local", "ray"] | None
PICTURED = 400  # items that a picture of decoded points shows
