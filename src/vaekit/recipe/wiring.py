"""The parts of a resolved recipe, built and put together: an objective that wraps a VAE."""

from __future__ import annotations

import inspect
import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from vaekit.errors import VaekitError
from vaekit.recipe.choosing import resolve
from vaekit.recipe.parts import GIVEN, arguments_of, part_class, settings_of_part
from vaekit.recipe.sections import Part, Recipe

if TYPE_CHECKING:
    from torch import nn

    from vaekit.data import Contract
    from vaekit.objectives.common import Objective


def build(
    recipe: Recipe,
    contract: Contract,
    *,
    nets: Mapping[str, nn.Module] | None = None,
    allow: Collection[str] = (),
) -> Objective:
    """The objective of a recipe on data of this contract, with its model inside, on the CPU.

    Parameters are drawn from `train.seed`; torch's global generators stay as they were. `nets`: the caller's
    own modules, {"posterior": module, "likelihood": module}, taken as they are. Raises VaekitError.
    """
    import torch

    from vaekit.model import VAE

    recipe = resolve(recipe, contract, nets=nets, allow=allow)
    latent = recipe.model.latent
    assert latent is not None
    injected: dict[str, Any] = {
        "latent": latent,
        "condition": len(contract.labels) if recipe.model.condition == "label" else 0,
        "shape": contract.shape,
        "levels": contract.levels,
        "offset": contract.offset,
        # bits are counted in bits, whatever grey level stands for one
        "divisor": contract.divisor if contract.binarize is None else (1.0,),
    }
    nets = nets or {}
    categories = contract.levels + 1 if contract.kind == "categories" else 0
    with torch.random.fork_rng(devices=[]):
        # the CPU's generator alone: torch.manual_seed would also touch the devices'
        torch.default_generator.manual_seed(recipe.train.seed)
        found = part_class("posterior", _kind(recipe.posterior), allow)
        codes = (getattr(found, "outputs_per_latent", 2) * latent,)
        shapes = {"in_shape": contract.shape, "out_shape": codes, "categories": categories}
        net = _net("posterior", recipe.posterior, injected | shapes, nets, allow)
        posterior = _part("posterior", recipe.posterior, injected | {"net": net}, allow)

        found = part_class("likelihood", _kind(recipe.likelihood), allow)
        count = found.outputs_per_element(contract.levels) if hasattr(found, "outputs_per_element") else 1
        outputs = (count * contract.shape[0], *contract.shape[1:])
        shapes = {"in_shape": (latent,), "out_shape": outputs, "categories": 0}
        net = _net("likelihood", recipe.likelihood, injected | shapes, nets, allow)
        likelihood = _part("likelihood", recipe.likelihood, injected | {"net": net}, allow)

        prior = _part("prior", recipe.prior, injected | {"posterior": posterior}, allow)
        model = VAE(prior, posterior, likelihood)
        return _part("objective", recipe.objective, injected | {"model": model}, allow)


def _kind(part: Part) -> str:
    assert part.kind is not None
    return part.kind


def _net(
    slot: str, part: Part, injected: dict[str, Any], nets: Mapping[str, nn.Module], allow: Collection[str]
) -> nn.Module | None:
    if part.net is None:
        return None
    if part.net.kind != GIVEN:
        net = _part(f"{slot}.net", part.net, injected, allow)
    elif slot in nets:
        net = nets[slot]
    else:
        raise VaekitError(
            f"{slot}.net is a module of your own, which no file holds: give it again, "
            f"nets={{{slot!r}: module}}"
        )
    if part.net.kind == GIVEN or "." in _kind(part.net):
        _try(slot, net, injected)
    return net


def _part(slot: str, part: Part, injected: Mapping[str, Any], allow: Collection[str]) -> Any:
    """One part from its class, the recipe's arguments and those that are injected."""
    found = part_class(slot, _kind(part), allow)
    settings, takes = settings_of_part(found), arguments_of(found)
    arguments = {name: settings[name].read(value) for name, value in part.arguments.items()}
    for name, value in injected.items():
        if name in takes:
            arguments[name] = _fitting(slot, _kind(part), name, value, takes[name])
    unmet = [
        name for name, parameter in inspect.signature(found).parameters.items()
        if parameter.default is inspect.Parameter.empty and name in takes and name not in arguments
    ]  # fmt: skip
    if unmet:
        raise VaekitError(f"{slot}.kind {part.kind} wants {', '.join(unmet)}, which a {slot} is not given")
    try:
        return found(**arguments)
    except VaekitError:
        raise
    except Exception as error:
        told = ", ".join(f"{name}={value!r}" for name, value in part.arguments.items())
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise VaekitError(f"{slot}: {part.kind}({told}) cannot be built: {reason}") from error


def _fitting(slot: str, kind: str, name: str, value: Any, annotation: Any) -> Any:
    """An injected value in the form the part takes: one divisor as a number, for images their shape."""
    if name == "divisor" and annotation is float:
        if len(set(value)) > 1:
            raise VaekitError(
                f"{slot}: {kind} takes data of one unit, but the columns here have units of their own"
            )
        return value[0]
    if name in ("in_shape", "out_shape", "shape") and annotation == tuple[int, int, int] and len(value) != 3:
        what = "takes" if name == "in_shape" else "gives"
        here = f"{value[0]} values" if len(value) == 1 else "x".join(map(str, value))
        raise VaekitError(f"{slot}: {kind} {what} images (C, H, W), here {here}; use MLP or ResidualMLP")
    return value


def _try(slot: str, net: nn.Module, injected: Mapping[str, Any]) -> None:
    """Run a net from outside vaekit once, so that a wrong shape is told before training."""
    import torch

    expected, condition = (2, *injected["out_shape"]), injected["condition"]
    first = next(net.parameters(), None)
    place: dict[str, Any] = {"device": first.device, "dtype": first.dtype} if first is not None else {}
    x = torch.zeros(2, *injected["in_shape"], **place)
    c = (torch.zeros(2, condition, **place),) if condition else ()
    modes = [(module, module.training) for module in net.modules()]
    try:
        with torch.no_grad():
            out = net.eval()(x, *c)
    except Exception as error:
        given = f"x {list(x.shape)}" + (f" and c {list(c[0].shape)}" if c else "")
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise VaekitError(f"{slot}.net {type(net).__name__} fails on {given}: {reason}") from error
    finally:
        for module, mode in modes:
            module.training = mode
    shape = tuple(getattr(out, "shape", ()))
    if shape != expected:
        what = f"{list(shape)}" if shape else f"a {type(out).__name__}"
        each = math.prod(expected[1:])
        raise VaekitError(
            f"{slot}.net {type(net).__name__} gives {what} for x {list(x.shape)}; expected {list(expected)} "
            f"({each} numbers a row)"
        )
