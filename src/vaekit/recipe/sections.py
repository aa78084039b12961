"""A recipe: the nouns of a run as sections, frozen; TOML to objects and back."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field

from vaekit.errors import VaekitError, nearest
from vaekit.recipe.checking import plain_section, read_all, read_section, settings_of, shown
from vaekit.recipe.parts import (
    DEFAULT_KIND,
    GIVEN,
    INJECTED,
    SLOTS,
    TRANSLATED,
    WITH_NET,
    is_import_path,
    part_class,
    settings_of_part,
)
from vaekit.recipe.settings import TrainSettings

Natural = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Heading(_Section):
    """`[recipe]`: its name, the `base` it inherits from, and in `notes` what `resolve` translated."""

    name: str = ""
    description: str = ""
    base: str | None = None
    notes: tuple[str, ...] = ()


class DataSection(_Section):
    """`[data]`: where the rows come from and how they are prepared, as `vaekit.open_data` takes it."""

    source: str | None = None
    size: Natural | str | None = None  # N, the short side, or "HxW"
    grey: bool = False
    binarize: Literal["dynamic", "static"] | None = None
    limit: Natural | None = None
    seed: Seed = 0
    key: str | None = None
    labels: str | None = None
    kind: Literal["binary", "levels", "8-bit", "colour", "real", "counts", "categories"] | None = None
    valid: Annotated[float, Field(gt=0)] | None = None  # below 1 a fraction, else rows
    scale_to: tuple[float, float] | None = None  # where a model sees grey values; by default [0, 1]
    mirror: bool = False  # training sees half of the images from right to left


class ModelSection(_Section):
    """`[model]`: D (0: no latent at all), and whether the three laws are given the label."""

    latent: Annotated[int, Field(ge=0)] | None = None
    condition: Literal["none", "label"] = "none"


class Part(_Section):
    """A part by name, its arguments as TOML holds them, and its net where it has one.

    `trained`: of a prior that was fitted after training, the one that the model was trained with.
    """

    kind: str | None = None
    arguments: dict[str, Any] = {}
    net: Part | None = None
    trained: Part | None = None

    def plain(self) -> dict[str, Any]:
        own: dict[str, Any] = {} if self.kind is None else {"kind": self.kind}
        inner = {"net": self.net, "trained": self.trained}
        return own | self.arguments | {name: part.plain() for name, part in inner.items() if part is not None}


class Recipe(_Section):
    """Everything a run needs to be made again. `load` reads one, `resolve` leaves nothing in it to choose."""

    heading: Heading = Heading()
    data: DataSection = DataSection()
    model: ModelSection = ModelSection()
    prior: Part = Part()
    posterior: Part = Part()
    likelihood: Part = Part()
    objective: Part = Part()
    train: TrainSettings = TrainSettings()

    @property
    def name(self) -> str:
        return self.heading.name

    @property
    def description(self) -> str:
        return self.heading.description

    @property
    def notes(self) -> tuple[str, ...]:
        """What was translated on the way, a sentence each, for the user."""
        return self.heading.notes

    def as_trained(self) -> Recipe:
        """The recipe with the prior that the model was trained with, where another was fitted afterwards."""
        return self.model_copy(update={"prior": self.prior.trained or self.prior})

    def updated(self, changes: Mapping[str, Mapping[str, Any]]) -> Recipe:
        """The recipe with keys changed, `{"train": {"epochs": 3}}`; a value of None takes a key back."""
        from vaekit.recipe.merging import merged

        return from_tree(merged(to_tree(self), changes), f"recipe {self.name or 'given'}")


def to_tree(recipe: Recipe) -> dict[str, Any]:
    """Plain values by section, as TOML holds them."""
    tree = {
        "recipe": {k: v for k, v in plain_section(recipe.heading).items() if v},
        "data": plain_section(recipe.data),
        "model": plain_section(recipe.model),
        **{slot: getattr(recipe, slot).plain() for slot in SLOTS},
        "train": plain_section(recipe.train),
    }
    return {name: section for name, section in tree.items() if section}


def to_toml(recipe: Recipe) -> str:
    """The recipe as TOML; `from_toml` gives it back."""
    return on_one_line(tomli_w.dumps(to_tree(recipe)))


def on_one_line(toml: str) -> str:
    """TOML with its lists of numbers on one line; a text cannot look like this, its line ends are escaped."""
    return re.sub(
        r"\[\n((?:    [\d.e+-]+,\n)+)\]", lambda m: f"[{', '.join(m[1].replace(',', '').split())}]", toml
    )


def from_toml(text: str, what: str = "recipe", allow: Collection[str] = ()) -> Recipe:
    """A recipe that stands by itself (no base). Raises VaekitError, all problems in one line."""
    return from_tree(parsed(text, what), what, allow)


def parsed(text: str, what: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise VaekitError(f"{what} is not TOML: {error}") from error


def from_tree(tree: Mapping[str, Any], what: str, allow: Collection[str] = ()) -> Recipe:
    """Sections of plain values -> Recipe. Raises VaekitError that gathers every problem in one line."""
    problems: list[str] = []
    known = ("recipe", "data", "model", *SLOTS, "train")
    problems += [f"unknown section [{name}]{nearest(name, known)}" for name in tree if name not in known]
    recipe = Recipe(
        heading=read_section(Heading, tree.get("recipe", {}), "recipe", problems),
        data=read_section(DataSection, tree.get("data", {}), "data", problems, homes()),
        model=read_section(ModelSection, tree.get("model", {}), "model", problems, homes()),
        **{slot: read_part(slot, tree.get(slot, {}), problems, allow) for slot in SLOTS},
        train=read_section(TrainSettings, tree.get("train", {}), "train", problems, homes()),
    )
    if problems:
        raise VaekitError(f"{what}: {'; '.join(problems)}")
    return recipe


def read_part(slot: str, given: Any, problems: list[str], allow: Collection[str] = ()) -> Part:
    """A part's section, checked against its constructor where its class may be looked at."""
    if not isinstance(given, Mapping):
        problems.append(f"{slot} is {shown(given)}; expected a section, [{slot}]")
        return Part()
    inner = ("kind", "net", "trained") if slot == "prior" else ("kind", "net")
    own = {name: value for name, value in given.items() if name not in inner}
    kind = given.get("kind", DEFAULT_KIND.get(slot))
    net = None
    if "net" in given and slot in WITH_NET:
        net = read_part(f"{slot}.net", given["net"], problems, allow)
    elif "net" in given:
        problems.append(f"unknown key {slot}.net: only {' and '.join(WITH_NET)} have a net")
    trained = None
    if slot == "prior" and "trained" in given:
        inside = given["trained"]
        if isinstance(inside, Mapping) and "trained" in inside:
            problems.append("prior.trained.trained is set; a model is trained with one prior")
        else:
            trained = read_part(slot, inside, problems, allow)
    if kind is not None and not isinstance(kind, str):
        problems.append(f"{slot}.kind is {shown(kind)}; expected the name of a part")
        return Part(net=net)
    if kind == GIVEN and not slot.endswith(".net"):
        problems.append(f"{slot}.kind is {GIVEN!r}, which only a net can be: nets={{{slot!r}: module}}")
    if kind is None or kind == GIVEN:
        problems += [
            f"{slot}.{name} is set, but {slot}.kind is not: name the part it belongs to" for name in own
        ]
        return Part(kind=kind, net=net)
    if is_import_path(kind) and not allow:
        return Part(
            kind=kind, arguments=dict(own), net=net
        )  # looked at by `resolve`, which knows what is allowed
    try:
        part = part_class(slot, kind, allow)
    except VaekitError as error:
        problems.append(str(error))
        return Part(net=net)
    settings = settings_of_part(part) | (TRANSLATED if slot == "objective" else {})
    for name in [name for name in own if name in INJECTED and name not in settings]:
        problems.append(f"{slot}.{name} is filled in by vaekit: leave it out ({INJECTED[name]})")
        del own[name]
    homes_here = homes() | ({name: f"{slot}.net.{name}" for name in net_keys(net)} if net else {})
    values = read_all(settings, own, slot, problems, homes_here)
    arguments = {n: settings[n].plain(v) for n, v in values.items()}
    return Part(kind=kind, arguments=arguments, net=net, trained=trained)


def homes() -> dict[str, str]:
    """Keys that only one of the fixed sections has -> their full names."""
    sections: dict[str, type[BaseModel]] = {
        "data": DataSection,
        "model": ModelSection,
        "train": TrainSettings,
    }
    full: dict[str, list[str]] = {}
    for section, model in sections.items():
        for key in settings_of(model):
            full.setdefault(key, []).append(f"{section}.{key}")
    return {key: names[0] for key, names in full.items() if len(names) == 1}


def net_keys(net: Part) -> list[str]:
    """What may be set on a net of vaekit's own."""
    if net.kind is None or net.kind == GIVEN or is_import_path(net.kind):
        return []
    return list(settings_of_part(part_class("posterior.net", net.kind)))
