"""What a recipe leaves open, chosen from the data contract, so that a run's recipe says everything."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from vaekit.errors import VaekitError, nearest
from vaekit.recipe.checking import listed, read_all
from vaekit.recipe.parts import (
    DEFAULT_KIND,
    FOLDERS,
    GIVEN,
    SLOTS,
    TRANSLATED,
    WITH_NET,
    arguments_of,
    is_import_path,
    known,
    part_class,
    settings_of_part,
)
from vaekit.recipe.sections import Part, Recipe

if TYPE_CHECKING:
    from vaekit.data import Contract

# kind of data -> the likelihood that fits it, and what it is told
LIKELIHOODS: dict[str, tuple[str, dict[str, Any]]] = {
    "binary": ("BernoulliLikelihood", {}),
    "levels": ("BinomialLikelihood", {}),
    "8-bit": ("DiscretisedLogisticLikelihood", {}),
    "colour": ("DiscretisedLogisticLikelihood", {}),
    "real": ("GaussianLikelihood", {}),
    "counts": ("PoissonLikelihood", {}),
    "categories": ("CategoricalLikelihood", {"nominal": True}),
}
# sets with a recipe of their own -> its name and the shape it was made for, None where it fits any
NAMED: dict[str, tuple[str, tuple[int, ...] | None]] = {
    "digits": ("digits", (1, 8, 8)),
    "mnist": ("mnist", (1, 28, 28)),
    "fashion-mnist": ("mnist", (1, 28, 28)),
    "sprites": ("sprites", None),
    "static-mnist": ("mnist", (1, 28, 28)),
    "dna": ("binary-rows", (180,)),
    "mushrooms": ("binary-rows", (112,)),
}


def for_contract(contract: Contract) -> tuple[str, str]:
    """The recipe for this data, and one sentence that says why."""
    name, shape = NAMED.get(contract.source, ("", ()))
    if name and shape in (None, contract.shape):
        return name, f"it was made for {contract.source}"
    if not contract.is_image:
        return "vectors", f"the rows are vectors of {contract.shape[0]} values"
    channels, height, width = contract.shape
    size = f"{height}x{width}"
    if contract.kind == "categories":
        return "small-images", "dense nets take each category as its own input"
    if min(height, width) < 16:
        return "small-images", f"the images are {size}: too small for convolutions to help"
    if contract.kind == "binary" and channels * height * width <= 1024:
        return "small-images", f"the images are bits, {size}: dense nets are quick and good there"
    if height * width > 64 * 64:
        return (
            "large-images",
            f"the images are {size}: convolutional nets that stay narrow where maps are large",
        )
    return "images", f"the images are {size}: residual convolutional nets"


def resolve(
    recipe: Recipe,
    contract: Contract,
    *,
    nets: Mapping[str, Any] | None = None,
    allow: Collection[str] = (),
) -> Recipe:
    """The recipe with every choice made and every argument written out; resolving it again changes nothing.

    `nets`: the caller's own modules by slot, noted as "given". `allow`: modules that parts may come from.
    What was translated on the way is in `notes`. `train` is resolved by its own room.
    Raises VaekitError, all problems in one line.
    """
    problems: list[str] = []
    if recipe.model.condition == "label" and not contract.labels:
        problems.append(f"model.condition is 'label', but {contract.source} has no labels")
    latent = recipe.model.latent
    if latent is None:
        latent = max(2, min(32, math.prod(contract.shape) // 8))
    parts = {slot: getattr(recipe, slot) for slot in SLOTS}
    for slot in DEFAULT_KIND:
        if parts[slot].kind is None:
            parts[slot] = parts[slot].model_copy(update={"kind": DEFAULT_KIND[slot]})
    notes = [*recipe.notes, *_translate(parts, contract, problems)]
    parts["likelihood"] = _likelihood(parts["likelihood"], contract, allow, problems)
    for slot in nets or {}:
        if slot not in WITH_NET:
            problems.append(f"nets has {slot!r}, which is no slot for a net{nearest(slot, WITH_NET)}")
    for slot in WITH_NET:
        given = bool(nets) and slot in (nets or {})
        net = Part(kind=GIVEN) if given else parts[slot].net or Part()
        if net.kind is None:
            net = net.model_copy(update={"kind": _net(slot, contract)})
        parts[slot] = parts[slot].model_copy(update={"net": net})
    if latent == 0:
        notes += _without_latent(parts, recipe.model.condition == "label", allow, problems)
    parts = {slot: _complete(slot, part, allow, problems) for slot, part in parts.items()}
    if problems:
        raise VaekitError(f"recipe {recipe.name or 'given'}: {'; '.join(problems)}")
    return recipe.model_copy(
        update={
            "heading": recipe.heading.model_copy(update={"notes": tuple(dict.fromkeys(notes))}),
            "data": recipe.data.model_copy(update={"source": recipe.data.source or contract.source}),
            "model": recipe.model.model_copy(update={"latent": latent}),
            **parts,
        }
    )


def _translate(parts: dict[str, Part], contract: Contract, problems: list[str]) -> list[str]:
    """The tutorials' weights as the Gaussian they mean; the sentence for the user.

    `r_loss_factor` F on the mean squared error over D elements is -log N of variance D / (2 F), up to its
    constant; `kld_weight` w beside the mean squared error is the same loss divided by w, so F = 1 / w.
    """
    objective = parts["objective"]
    given = {name: objective.arguments[name] for name in TRANSLATED if name in objective.arguments}
    given = {name: value for name, value in given.items() if value != "none"}
    rest = {name: value for name, value in objective.arguments.items() if name not in TRANSLATED}
    parts["objective"] = objective.model_copy(update={"arguments": rest})
    if not given:
        return []
    if len(given) > 1:
        problems.append(
            "objective.r_loss_factor and objective.kld_weight say the same thing; give one of them"
        )
        return []
    likelihood = parts["likelihood"]
    (name, value), = given.items()  # fmt: skip
    if likelihood.kind not in (None, "GaussianLikelihood") or "variance" in likelihood.arguments:
        problems.append(
            f"objective.{name} means a GaussianLikelihood of a fixed variance, but the recipe has "
            f"{likelihood.kind} {likelihood.arguments or ''}".rstrip()
            + "; leave one of them out"
        )
        return []
    elements = math.prod(contract.shape)
    variance = elements / (2 * value) if name == "r_loss_factor" else elements * value / 2
    parts["likelihood"] = likelihood.model_copy(
        update={"kind": "GaussianLikelihood", "arguments": likelihood.arguments | {"variance": variance}}
    )
    units = (
        ", pixels in [0, 1]"
        if contract.is_image and contract.kind not in ("real", "counts")
        else ", in model units"
    )
    beta = f", and beta {rest['beta']:g}" if "beta" in rest else ", and beta 1"
    return [
        f"{name} {value:g} over {elements} elements means a Gaussian of variance {variance:.3g}{units}{beta}"
    ]


def _likelihood(part: Part, contract: Contract, allow: Collection[str], problems: list[str]) -> Part:
    """By kind of data where it is left open; by name, only one that can take such data."""
    kind, arguments = ("GaussianLikelihood", {}) if contract.rescaled else LIKELIHOODS[contract.kind]
    if part.kind is None or part.kind == kind:
        return part.model_copy(update={"kind": kind, "arguments": arguments | part.arguments})
    try:
        found = part_class("likelihood", part.kind, allow)
    except VaekitError:
        return part  # `_complete` says it
    kinds = getattr(found, "kinds", ())
    if contract.rescaled and not getattr(found, "continuous", True):
        low, high = (
            (end - contract.offset[0]) / contract.divisor[0] for end in (contract.low, contract.high)
        )
        problems.append(
            f"likelihood.kind is {part.kind}, which takes values in [0, 1], but data.scale_to puts them in "
            f"[{low:g}, {high:g}]; leave data.scale_to out, or use GaussianLikelihood"
        )
    if kinds and contract.kind not in kinds:
        problems.append(
            f"likelihood.kind is {part.kind}, which is for {listed(kinds)} data; {contract.source} holds "
            f"{contract.kind} data: use {kind}"
        )
    return part


def _without_latent(
    parts: dict[str, Part], condition: bool, allow: Collection[str], problems: list[str]
) -> list[str]:
    """D = 0: a likelihood that says something without a code, and nets of constants; the sentence for the user."""
    kind = parts["likelihood"].kind
    assert kind is not None
    with contextlib.suppress(VaekitError):  # of an unknown name; `_complete` says it
        if getattr(part_class("likelihood", kind, allow), "needs_latent", True):
            able = [name for name in known("likelihood") if not part_class("likelihood", name).needs_latent]
            problems.append(
                f"model.latent is 0, but {kind} says nothing of a row without its code; give at least 1, or set "
                f"likelihood.kind to {listed(able)}, for binary data"
            )
            return []
    replaced = []
    # of a condition the decoder's net may still make something
    for slot in WITH_NET[: 1 if condition else 2]:
        net = parts[slot].net
        if net is not None and net.kind not in ("Constant", GIVEN) and not is_import_path(net.kind or ""):
            parts[slot] = parts[slot].model_copy(update={"net": Part(kind="Constant")})
            replaced.append(f"{slot}.net")
    return [f"latent 0: {' and '.join(replaced)} became Constant, for there is no code"] if replaced else []


def _net(slot: str, contract: Contract) -> str:
    """A net for this shape."""
    if not contract.is_image or min(contract.shape[1:]) < 16 or contract.kind == "categories":
        return "MLP"
    return "ResNetEncoder" if slot == "posterior" else "ResNetDecoder"


def _complete(slot: str, part: Part, allow: Collection[str], problems: list[str]) -> Part:
    """The part with all its arguments checked and written out, and its net's."""
    net = _complete(f"{slot}.net", part.net, allow, problems) if part.net is not None else None
    if part.kind == GIVEN and slot in FOLDERS and slot.endswith(".net"):
        return part
    assert part.kind is not None
    try:
        found = part_class(slot, part.kind, allow)
    except VaekitError as error:
        problems.append(str(error))
        return part
    if net is not None and "net" not in arguments_of(found):
        if part.net is not None and part.net.arguments:
            problems.append(f"{slot}.net is set, but {part.kind} takes no net")
        net = None
    settings = settings_of_part(found)
    values = read_all(settings, part.arguments, slot, problems)
    filled = {name: values.get(name, setting.default) for name, setting in settings.items()}
    arguments = {
        name: settings[name].plain(value)
        for name, value in filled.items()
        if value is not None or settings[name].default is not None
    }
    return Part(kind=part.kind, arguments=arguments, net=net, trained=part.trained)
