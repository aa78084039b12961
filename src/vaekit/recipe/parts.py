"""Parts by name: a class name is a recipe's `kind`, the constructor's signature is its config."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Collection
from typing import Annotated, Any, get_type_hints

from pydantic import Field

from vaekit.errors import VaekitError, nearest
from vaekit.recipe.checking import Setting

# slot -> the package whose `__all__` names its parts
FOLDERS = {
    "prior": "vaekit.priors",
    "posterior": "vaekit.posteriors",
    "likelihood": "vaekit.likelihoods",
    "objective": "vaekit.objectives",
    "posterior.net": "vaekit.nets",
    "likelihood.net": "vaekit.nets",
}
SLOTS = ("prior", "posterior", "likelihood", "objective")
WITH_NET = ("posterior", "likelihood")
DEFAULT_KIND = {"prior": "StandardPrior", "posterior": "GaussianPosterior", "objective": "ELBO"}
GIVEN = "given"  # the kind of a net that is an object of the caller's

# constructor arguments that wiring fills in -> where their values come from
INJECTED = {
    "latent": "set model.latent",
    "condition": "set model.condition",
    "net": "set its own section",
    "model": "it is the model",
    "posterior": "it is the model's",
    "shape": "it comes from the data",
    "in_shape": "it comes from the data",
    "out_shape": "it comes from the data",
    "levels": "it comes from the data",
    "offset": "it comes from the data",
    "divisor": "it comes from the data",
    "categories": "it comes from the data",
}
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
# the tutorials' weights, accepted beside an objective's own arguments and translated by `resolve`
TRANSLATED = {name: Setting(_Positive | None) for name in ("r_loss_factor", "kld_weight")}


def known(slot: str) -> list[str]:
    """The parts that vaekit has for a slot."""
    return sorted(importlib.import_module(FOLDERS[slot]).__all__)


def is_import_path(kind: str) -> bool:
    return "." in kind


def part_class(slot: str, kind: str, allow: Collection[str] = ()) -> type[Any]:
    """The class that `kind` names. Raises VaekitError for an unknown name, or a path that is not allowed."""
    if is_import_path(kind):
        return _imported(slot, kind, allow)
    names = known(slot)
    if kind not in names:
        raise VaekitError(
            f"{slot}.kind is {kind!r}, which is no {_noun(slot)} of vaekit{nearest(kind, names)}"
        )
    return getattr(importlib.import_module(FOLDERS[slot]), kind)


def _noun(slot: str) -> str:
    return "net" if slot.endswith(".net") else slot


def _imported(slot: str, kind: str, allow: Collection[str]) -> type[Any]:
    """package.module.Class, imported only where its module or a parent of it is in `allow`."""
    module_name, _, class_name = kind.rpartition(".")
    if not any(module_name == name or module_name.startswith(f"{name}.") for name in allow if name):
        package = module_name.partition(".")[0] or kind
        raise VaekitError(
            f"{slot}.kind is {kind!r}, code from outside vaekit; if you trust it, add --allow {package} "
            f"(in Python allow=[{package!r}])"
        )
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except Exception as error:
        raise VaekitError(
            f"{slot}.kind {kind!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    from torch import nn

    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise VaekitError(f"{slot}.kind {kind!r} is no class of torch.nn.Module")
    return found


def arguments_of(part: type[Any]) -> dict[str, Any]:
    """Constructor argument -> annotation (Any where it has none that can be read)."""
    try:
        hints = get_type_hints(part.__init__, include_extras=True)
    except Exception:
        hints = {}
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = list(inspect.signature(part).parameters.values())
    return {p.name: hints.get(p.name, Any) for p in parameters if p.kind in kinds}


def settings_of_part(part: type[Any]) -> dict[str, Setting]:
    """What a recipe may set on a part: its constructor's arguments, less those that wiring fills in."""
    parameters = inspect.signature(part).parameters
    settings = {}
    for name, annotation in arguments_of(part).items():
        if name not in INJECTED:
            required = parameters[name].default is inspect.Parameter.empty
            settings[name] = Setting(annotation, None if required else parameters[name].default, required)
    return settings
