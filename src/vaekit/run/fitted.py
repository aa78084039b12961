"""What fitting a prior has brought, for a person."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vaekit.errors import VaekitError
from vaekit.run.folder import RunFolder


def facts(folder: RunFolder) -> dict[str, Any]:
    """prior.json. Raises VaekitError where it cannot be read."""
    path: Path = folder.path / "prior.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise VaekitError(f"{path} cannot be read: {error}") from error


def table(found: Mapping[str, Any]) -> str:
    """The facts as lines: the fit, log p(z) of held-out codes and the distance of samples, before and after."""
    what = ", ".join(f"{name} {value}" for name, value in found["arguments"].items())
    times = f"{found['draws']} draws each" if found["draws"] > 1 else "one code each"
    nats, items = found["log_density"], found["samples"]
    error = nats["gain_standard_error"]
    gained = f"{nats['gain']:+.2f}" + (f" +- {error:.2f}" if error is not None else "")
    lines = [
        f"{'prior':<14} {found['before']} -> {found['prior']} ({what})",
        f"{'fitted to':<14} codes of {found['rows']:,} training rows, {times}",
        f"{'log p(z)':<14} {nats['before']:.2f} -> {nats['after']:.2f} nats, {gained} (codes of {_rows(nats)})",
    ]
    if items is not None:
        for name, text in (("frechet", "Frechet"), ("precision", "precision"), ("recall", "recall")):
            one = items[name]
            lines.append(
                f"{text:<14} {one['before']:.3g} -> {one['after']:.3g}, training rows {one['floor']:.3g} ({items['n']:,} "
                f"samples against {items['split']} rows, features: {items['features']})"
            )
    return "\n".join(lines)


def _rows(nats: Mapping[str, Any]) -> str:
    """Of which rows the codes are: "90 valid rows; 90 others chose the prior"."""
    known = nats["split"] == "train"  # to the encoder, that is; no validation rows were kept
    held = (
        f"{nats['rows']:,} {'training' if known else nats['split']} rows"
        + ", held out from this fit alone" * known
    )
    chose = nats.get("choosing_rows")
    return held + (f"; {chose:,} others chose the prior" if chose else "")
