"""From the records of cells to one table: a dictionary that JSON holds, which the pages are written from."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from vaekit.bench import facts
from vaekit.bench.making import trained_seconds
from vaekit.bench.plan import Bench, Row

Record = Mapping[str, Any]


def table(bench: Bench, records: Mapping[str, Mapping[int, Record]]) -> dict[str, Any]:
    """The table of a bench: `records` are the finished cells, by row and seed. Numbers are means over seeds."""
    return {
        "bench": bench.name,
        "title": bench.title,
        "description": bench.description,
        "written": facts.today(),
        "rows": [_row(row, records.get(row.name, {})) for row in bench.rows],
    }


def _row(row: Row, cells: Mapping[int, Record]) -> dict[str, Any]:
    asked = {
        "row": row.name,
        "recipe": row.recipe,
        "data": row.data,
        "command": facts.command(row, row.seeds[0]),
        "published": None if row.anchor is None else row.anchor.model_dump(),
        "missing": [seed for seed in row.seeds if seed not in cells],
        "seeds": sorted(cells),
    }
    if not cells:
        return asked
    ordered = [cells[seed] for seed in sorted(cells)]
    first = ordered[0]
    evaluation, training = first["evaluation"], first["training"]
    values = [_nll(cell) for cell in ordered]
    known = [value for value in values if value is not None]
    found = {
        "nll": _spread(known) | {"k": evaluation["nll"][-1]["k"]} if known else None,
        "reason": evaluation["reason"],
        "standard_error": _mean(ordered, lambda c: _last(c)["standard_error"]),
        "trusted": all(_last(c)["trusted"] for c in ordered) if known else None,
        "bounds": _bounds(ordered),
        "effective_sample_size": {
            name: _mean(ordered, lambda c, name=name: _last(c)["effective_sample_size"][name])
            for name in ("median", "p01")
        },
        **{
            name: _mean(ordered, lambda c, name=name: c["evaluation"][name])
            for name in ("elbo", "rate", "distortion")
        },
        "active_units": _mean(ordered, lambda c: c["evaluation"]["active_units"]),
        "latent": evaluation["latent"],
        "split": evaluation["split"],
        "images": evaluation["images"],
        "units": evaluation["units"],
        "data_name": evaluation["data_name"],
        "data_hash": evaluation["data_hash"],
        "binarized": evaluation["binarized"],
        "decoder": evaluation["decoder"],
        "encoder": evaluation["encoder"],
        "evaluation_precision": evaluation["precision"],
        "train_nll": {
            "k": first["train_evaluation"]["draws"],
            "images": first["train_evaluation"]["images"],
            "value": _mean(ordered, lambda c: c["train_evaluation"]["nll"][-1]["value"]),
        },
        **{name: training[name] for name in ("parameters", "images_seen", "epochs", "precision", "compiled")},
        "threads": _distinct(c["training"]["threads"] for c in ordered),
        "evaluation_threads": _distinct(c["evaluation"]["threads"] for c in ordered),
        "device": _distinct(_device(c["training"]) for c in ordered),
        "torch": _distinct(c["training"]["machine"]["torch"] for c in ordered),
        "training_minutes": _spread([trained_seconds(c) / 60 for c in ordered]),
        "refit_minutes": _mean(ordered, lambda c: c["training"].get("refit_seconds", 0.0) / 60),
        "evaluation_minutes": _mean(ordered, lambda c: c["evaluation"]["seconds"] / 60),
        "code": _distinct(code for c in ordered for code in c["code"]),
        "dates": _distinct(c["evaluation"]["date"] for c in ordered),
        "cells": [{"seed": seed, "nll": value} for seed, value in zip(sorted(cells), values, strict=True)],
    }
    return asked | found | {"passed": _passed(row, found)}


def _passed(row: Row, found: Mapping[str, Any]) -> bool | None:
    """Whether the mean over seeds is below the published figure; None where the two are not of the same rows."""
    if row.anchor is None or found["nll"] is None or row.limit is not None or row.split != "test":
        return None
    if row.anchor.data and found["data_name"] != row.anchor.data:
        return None
    return bool(found["nll"]["mean"] < row.anchor.value)


def _last(cell: Record) -> Mapping[str, Any]:
    """The bound with the most draws."""
    bound: Mapping[str, Any] = cell["evaluation"]["nll"][-1]
    return bound


def _nll(cell: Record) -> float | None:
    bounds = cell["evaluation"]["nll"]
    return bounds[-1]["value"] if bounds else None


def _bounds(cells: list[Record]) -> list[dict[str, Any]]:
    """L_k, as an NLL, at each k."""
    return [
        {"k": bound["k"], "value": _mean(cells, lambda c, at=at: c["evaluation"]["nll"][at]["value"])}
        for at, bound in enumerate(cells[0]["evaluation"]["nll"] or [])
    ]


def _mean(cells: list[Record], of: Callable[..., Any]) -> float | None:
    """The mean of a number over cells; None where any of them has none."""
    try:
        values = [of(cell) for cell in cells]
    except TypeError:  # a model without density has no bounds
        return None
    return None if any(value is None for value in values) else statistics.fmean(values)


def _spread(values: list[float]) -> dict[str, Any]:
    """Mean, deviation over seeds (None for one), ends and how many."""
    return {
        "mean": statistics.fmean(values),
        "deviation": statistics.stdev(values) if len(values) > 1 else None,
        "low": min(values),
        "high": max(values),
        "n": len(values),
    }


def _device(training: Mapping[str, Any]) -> str:
    machine = training["machine"]
    named = machine["gpu"][0] if training["device"] == "cuda" and machine["gpu"] else machine["cpu"]
    return f"{training['device']}, {named}"


def _distinct(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))
