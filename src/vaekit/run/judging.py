"""What a run is worth and what it is: the evaluation and the facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from vaekit.data import Contract, Split
from vaekit.devices import chosen, cpu_bf16
from vaekit.errors import VaekitError
from vaekit.run import inputs
from vaekit.run.readings import kept

if TYPE_CHECKING:
    from vaekit.run.opened import Run


def evaluate(
    run: Run, data: Any, *, split: str, k: Sequence[int], binarize: str | None, limit: int | None, seed: int,
    device: str | None, progress: bool, label: Any = None, ais: int | Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """As `Run.evaluate`. The run's own test split, judged whole, leaves evaluation.json in the run."""
    from vaekit.metrics.ais import Annealing
    from vaekit.metrics.evaluate import evaluate as judge

    annealing = None if ais is None else Annealing.of(ais)
    contract, rows = rows_of(run, data, split, binarize, limit, label)
    whole = limit is None and binarize is None and label is None
    return judge(
        run.model, rows, contract, k=k, seed=seed, condition=run.condition, device=device,
        precision=precision(run, device), progress=progress, save=kept(run, data, split) if whole else None,
        about=about(run), ais=annealing,
    )  # fmt: skip


def rows_of(
    run: Run, data: Any, split: str, binarize: str | None, limit: int | None, label: Any
) -> tuple[Contract, Split]:
    """The rows that are judged, and their contract. Raises VaekitError for what does not fit the run."""
    contract = run.contract if binarize is None else _on_bits(run, binarize)
    if data is None or inputs.is_own(run, data):
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
    return contract, rows


def about(run: Run) -> dict[str, Any]:
    """What an evaluation says of the run: what it was trained on, and by what its encoder was."""
    train, lines = run.recipe.train, run.metrics() if run.folder is not None else []
    rows = run.contract.rows.get("train")
    epochs = lines[-1]["epoch"] if lines else None
    seen = None
    if epochs and rows and isinstance(train.batch_size, int):
        a_step = train.batch_size * train.gradient_accumulation_steps * train.devices * train.nodes
        seen = min(lines[-1]["step"] * a_step, epochs * rows)  # the last batch of an epoch may be short
    encoder = "trained with the decoder"
    if {"prior", "likelihood"} <= set(train.frozen):
        k = run.recipe.objective.arguments.get("draws", 1)
        encoder = f"refitted on train with {run.recipe.objective.kind}, k={k}, epochs={epochs}"
    return {"encoder": encoder, "trained_on": {"rows": rows, "epochs": epochs, "rows_seen": seen}}


def precision(run: Run, device: str | None = None) -> Literal["fp32", "bf16"]:
    """What the run was trained in, unless this machine would only emulate it."""
    place = torch.device(chosen(device)) if device is not None else run.device
    slow = place.type == "mps" or (place.type == "cpu" and not cpu_bf16())
    return "bf16" if run.recipe.train.precision == "bf16" and not slow else "fp32"


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


def info(run: Run) -> dict[str, Any]:
    """Facts that JSON can hold, in the order a person reads them."""
    recipe, model = run.recipe, run.model
    facts: dict[str, Any] = {
        "run": str(run.path),
        "recipe": recipe.name,
        "data": run.contract.line(),
        "latent": model.latent,
        "condition": recipe.model.condition,
        "prior": prior(run),
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


def prior(run: Run) -> str:
    """Its name, and if it was fitted afterwards what was there before."""
    name, trained = type(run.model.prior).__name__, run.recipe.prior.trained
    return name if trained is None else f"{name}, fitted to codes after training with {trained.kind}"


def _with_net(part: Any) -> str:
    net = getattr(part, "net", None)
    return type(part).__name__ + (f" on {type(net).__name__}" if net is not None else "")
