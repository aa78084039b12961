"""From the records of cells to one table: a dictionary that JSON holds, which the pages are written from."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
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
    evaluations, trainings = [c["evaluation"] for c in ordered], [c["training"] for c in ordered]
    evaluation, bounded = evaluations[0], bool(evaluations[0]["nll"])
    values = {seed: _best(cells[seed]["evaluation"], "value") for seed in sorted(cells)}
    diverged = [seed for seed, value in values.items() if bounded and value is None]
    sound = bounded and not diverged
    found = {
        "nll": _spread(list(values.values())) | {"k": _best(evaluation, "k")} if sound else None,
        "diverged": diverged,  # seeds whose NLL is infinite
        "reason": evaluation["reason"],
        "standard_error": _mean(_best(one, "standard_error") for one in evaluations),
        "trusted": all(_best(one, "trusted") for one in evaluations) if bounded else None,
        "bounds": _bounds(evaluations),
        "effective_sample_size": {
            name: _mean(_best(one, "effective_sample_size", name) for one in evaluations)
            for name in ("median", "p01")
        },
        **{
            name: _mean(one[name] for one in evaluations)
            for name in ("elbo", "rate", "distortion", "active_units")
        },
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
            "value": _mean(_best(c["train_evaluation"], "value") for c in ordered),
        },
        **{
            name: _distinct(one[name] for one in trainings)
            for name in ("parameters", "images_seen", "epochs", "precision", "compiled", "threads")
        },
        "evaluation_threads": _distinct(one["threads"] for one in evaluations),
        "device": _distinct(_device(one) for one in trainings),
        "torch": _distinct(one["machine"]["torch"] for one in trainings),
        "training_minutes": _spread([trained_seconds(c) / 60 for c in ordered]),
        "refit_minutes": _mean(one.get("refit_seconds", 0.0) / 60 for one in trainings),
        "evaluation_minutes": _mean(one["seconds"] / 60 for one in evaluations),
        "code": _distinct(code for c in ordered for code in c["code"]),
        "dates": _distinct(one["date"] for one in evaluations),
        "cells": [{"seed": seed, "nll": value} for seed, value in values.items()],
    }
    passed, undecided = _passed(row, asked | found)
    return asked | found | {"passed": passed, "undecided": undecided}


def _passed(row: Row, found: Mapping[str, Any]) -> tuple[bool | None, str | None]:
    """Whether the mean over seeds is below the published figure; else None, and in words why it cannot be said."""
    anchor = row.anchor
    if anchor is None or not found["bounds"]:
        return None, None
    if not anchor.data:
        return None, "not comparable: the published figure names no rows"
    if found["data_name"] != anchor.data or row.limit is not None or row.split != "test":
        return None, "not comparable: other rows"
    if found["decoder"] != anchor.decoder:
        return None, f"not comparable: its decoder is {anchor.decoder}"
    if found["diverged"]:
        return False, None
    if found["missing"]:
        return None, f"{len(row.seeds) - len(found['missing'])} of {len(row.seeds)} seeds"
    return bool(found["nll"]["mean"] < anchor.value), None


def _best(evaluation: Record, *keys: str) -> Any:
    """What stands under these keys of the bound with the most draws; None of a model that has no bound."""
    found = evaluation["nll"][-1] if evaluation["nll"] else None
    for key in keys:
        found = None if found is None else found[key]
    return found


def _bounds(evaluations: list[Record]) -> list[dict[str, Any]]:
    """L_k, as an NLL, at each k."""
    return [
        {"k": bound["k"], "value": _mean(one["nll"][at]["value"] for one in evaluations)}
        for at, bound in enumerate(evaluations[0]["nll"] or [])
    ]


def _mean(values: Iterable[float | None]) -> float | None:
    """The mean over seeds; None where any of them has no number."""
    known = list(values)
    return None if None in known else statistics.fmean(value for value in known if value is not None)


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
