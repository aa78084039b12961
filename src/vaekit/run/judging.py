"""What a run is worth and what it is: the evaluation, its table, and the facts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from vaekit.data import Contract
from vaekit.devices import chosen, cpu_bf16
from vaekit.errors import VaekitError
from vaekit.run import inputs

if TYPE_CHECKING:
    from vaekit.run.opened import Run


def evaluate(
    run: Run, data: Any, *, split: str, k: Sequence[int], binarize: str | None, limit: int | None, seed: int,
    device: str | None, progress: bool, label: Any = None,
) -> dict[str, Any]:  # fmt: skip
    """As `Run.evaluate`. The run's own test split, judged whole, leaves evaluation.json in the run."""
    from vaekit.metrics.evaluate import evaluate as judge

    contract = run.contract if binarize is None else _on_bits(run, binarize)
    own = data is None or inputs.is_own(run, data)
    if own:
        found = inputs.own_data(run, contract) if binarize is not None else run.data()
    else:
        found = inputs.opened(data, contract)
    rows = found.split(split) if split != "all" else inputs.part(found, "all")
    rows = inputs.labelled(run, rows, label)
    if limit is not None and limit < len(rows):
        if limit < 1:
            raise VaekitError(f"limit is {limit}; give at least 1")
        # frozen first, so that their bits are those of the whole split; drawn, for rows often stand by class
        some = np.sort(np.random.default_rng(0).permutation(len(rows))[:limit])
        rows = inputs.subset(rows.frozen(contract), some)
    whole = own and split == "test" and limit is None and binarize is None and label is None
    keep = run.folder is not None and whole and os.access(run.folder.path, os.W_OK)
    return judge(
        run.model, rows, contract, k=k, seed=seed, condition=run.condition, device=device,
        precision=precision(run, device), progress=progress,
        save=run.folder.path if keep and run.folder is not None else None,
    )  # fmt: skip


def precision(run: Run, device: str | None = None) -> Literal["fp32", "bf16"]:
    """What the run was trained in, unless this machine would only emulate it."""
    place = torch.device(chosen(device)) if device is not None else run.device
    slow = place.type == "mps" or (place.type == "cpu" and not cpu_bf16())
    return "bf16" if run.recipe.train.precision == "bf16" and not slow else "fp32"


def latents(run: Run, data: Any, *, split: str, seed: int, progress: bool) -> dict[str, Any]:
    """As `Run.latents`. The run's own test split leaves latents.json in the run."""
    from vaekit.metrics.latents import latents as judge

    own = data is None or inputs.is_own(run, data)
    rows = inputs.labelled(run, run.rows(data, split), None)
    keep = own and split == "test" and run.folder is not None and os.access(run.folder.path, os.W_OK)
    return judge(
        run.model, rows, run.data().train, run.contract, seed=seed, condition=run.condition, progress=progress,
        save=run.folder.path if keep and run.folder is not None else None,
    )  # fmt: skip


def _on_bits(run: Run, binarize: str) -> Contract:
    """The contract with its grey values binarised, for a likelihood that is a density of bits."""
    contract, likelihood = run.contract, run.model.likelihood
    if contract.kind == "binary":
        if contract.binarize in (None, binarize):
            return contract
        raise VaekitError(f"this run was trained with binarize={contract.binarize}; leave --binarize out")
    asked = getattr(likelihood, "gives_density", None)
    if asked is None or asked(contract.kind) or not asked("binary"):
        raise VaekitError(
            f"{type(likelihood).__name__} is a density of {contract.kind} values as they are; "
            "leave --binarize out"
        )
    return replace(contract, kind="binary", levels=1, binarize=binarize)


def table(evaluation: Mapping[str, Any]) -> str:
    """An evaluation as lines for a person, nats."""
    what = f"{evaluation['split']} split, {evaluation['images']:,} rows, {evaluation['units']}"
    lines = [what]
    for name in ("elbo", "rate", "distortion"):
        value = evaluation[name]
        error = evaluation.get(f"{name}_standard_error")
        shown = "-" if value is None else f"{value:.2f}" + (f" +- {error:.2f}" if error is not None else "")
        lines.append(f"{name:<14} {shown}")
    for bound in evaluation["nll"] or []:
        size, value, error = bound["effective_sample_size"], bound["value"], bound["standard_error"]
        shown = "-" if value is None else f"{value:.2f}" + (f" +- {error:.2f}" if error is not None else "")
        sizes = ", ".join(
            f"{name} {size[name]:.1f}" for name in ("median", "p01") if size.get(name) is not None
        )
        lines.append(f"{'nll, k ' + str(bound['k']):<14} {shown}   effective sample size {sizes}")
    if evaluation.get("bits_per_dimension") is not None:
        lines.append(f"{'bits/dim':<14} {evaluation['bits_per_dimension']:.3f}")
    lines.append(f"{'active units':<14} {evaluation['active_units']} of {evaluation['latent']}")
    if evaluation.get("reason"):
        lines.append(f"note: {evaluation['reason']}")
    title = evaluation.get("data_name")
    lines.append(f"{'data':<14} {title + ', ' if title else ''}sha256 {evaluation['data_hash']}")
    return "\n".join(lines)


def info(run: Run) -> dict[str, Any]:
    """Facts that JSON can hold, in the order a person reads them."""
    recipe, model = run.recipe, run.model
    facts: dict[str, Any] = {
        "run": str(run.path),
        "recipe": recipe.name,
        "data": run.contract.line(),
        "latent": model.latent,
        "condition": recipe.model.condition,
        "prior": type(model.prior).__name__,
        "posterior": _with_net(model.posterior),
        "likelihood": _with_net(model.likelihood),
        "objective": type(run.objective).__name__,
        "parameters": sum(p.numel() for p in model.parameters()),
        "notes": "; ".join(recipe.notes),
    }
    lines = run.metrics() if run.folder is not None else []
    if lines:
        last = lines[-1]
        facts["epochs"], facts["planned"] = last["epoch"], recipe.train.epochs
        facts["steps"] = last["step"]
        judged = [line for line in lines if line.get("valid_loss") is not None]
        if judged:
            best = min(judged, key=lambda line: line["valid_loss"])
            facts["best"] = {"validation_loss": best["valid_loss"], "epoch": best["epoch"]}
        facts["skipped"] = sum(line.get("skipped") or 0 for line in lines)
        said = [(line["epoch"], finding["text"]) for line in lines for finding in line.get("doctor", ())]
        if said:
            facts["doctor"] = [f"epoch {epoch:,}: {text}" for epoch, text in said]
    return {name: value for name, value in facts.items() if value != ""}


def lines(info: Mapping[str, Any]) -> str:
    """The facts as lines for a person."""
    shown = {name: f"{value:,}" if type(value) is int else value for name, value in info.items()}
    if "epochs" in shown:
        shown["epochs"] = f"{shown['epochs']} of {shown.pop('planned')}"
    if "best" in shown:
        best = info["best"]
        shown["best"] = f"validation loss {best['validation_loss']:,.2f} nats at epoch {best['epoch']:,}"
    if "doctor" in shown:
        shown["doctor"] = f"\n{'':<13}".join(info["doctor"])
    return "\n".join(f"{name:<12} {value}" for name, value in shown.items())


def _with_net(part: Any) -> str:
    net = getattr(part, "net", None)
    return type(part).__name__ + (f" on {type(net).__name__}" if net is not None else "")
