"""A table as Markdown: the whole page of a bench, and the short block that stands in a README."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vaekit.errors import VaekitError
from vaekit.files import write_text

MISSING = "not measured"
LOOSE = r"\*"  # marks a bound that more draws would tighten


def page(table: Mapping[str, Any]) -> str:
    """The whole table: what counts, then everything else, then the commands."""
    rows = table["rows"]
    made = [row for row in rows if "nll" in row]
    parts = [f"# {table['title'] or table['bench']}", table["description"], summary(table)]
    if made:
        parts += ["## Beside the figure", _details(made), "## How it was made", _origin(made)]
    parts += [
        "## Commands",
        "\n".join(f"- `{row['row']}`, the first seed: `{row['command']}`" for row in rows),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def summary(table: Mapping[str, Any]) -> str:
    """The rows with their figures beside the published ones, and what each number is."""
    rows = table["rows"]
    head = ["recipe", "rows", "NLL", "over seeds", "published", "passed", "training", "decoder"]
    body = [
        [
            f"`{row['row']}`", _rows_of(row), _value(row), _over_seeds(row), _published(row), _passed(row),
            _training(row), row.get("decoder") or "-",
        ]
        for row in rows
    ]  # fmt: skip
    return f"{_grid(head, body)}\n\n{_legend([row for row in rows if 'nll' in row])}".rstrip()


def put(table: Mapping[str, Any], file: Path) -> None:
    """Write the summary between the marks `<!-- bench: NAME -->` and `<!-- /bench: NAME -->` of a file.

    Raises VaekitError where the marks are not there.
    """
    name = table["bench"]
    start, end = f"<!-- bench: {name} -->", f"<!-- /bench: {name} -->"
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise VaekitError(f"{file} cannot be read: {error}") from error
    place = re.compile(f"{re.escape(start)}\n.*?{re.escape(end)}", re.DOTALL)
    if len(place.findall(text)) != 1:
        raise VaekitError(
            f"{file} has no place for the table: write {start} and, on a later line, {end}, once"
        )
    write_text(file, place.sub(lambda _: f"{start}\n{summary(table)}\n{end}", text))


def read(file: Path) -> dict[str, Any]:
    """A table that was written. Raises VaekitError."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise VaekitError(
            f"there is no table at {file}; run the bench first, or name its folder with -o"
        ) from None
    except (OSError, ValueError) as error:
        raise VaekitError(f"{file} cannot be read: {error}") from error
    if not isinstance(found, dict) or not isinstance(found.get("rows"), list):
        raise VaekitError(f"{file} is no table of a bench")
    return found


def _details(rows: Sequence[Mapping[str, Any]]) -> str:
    ks = sorted({bound["k"] for row in rows for bound in row["bounds"]})
    head = [
        "recipe", "-ELBO", "rate", "distortion", *(f"k = {k:,}" for k in ks), "sample size", "active", "train NLL",
        "parameters", "rows seen",
    ]  # fmt: skip
    body = []
    for row in rows:
        bounds, size, train = (
            {b["k"]: b["value"] for b in row["bounds"]},
            row["effective_sample_size"],
            row["train_nll"],
        )
        body.append(
            [
                f"`{row['row']}`", _number(None if row["elbo"] is None else -row["elbo"]), _number(row["rate"]),
                _number(row["distortion"]), *(_number(bounds.get(k)) for k in ks),
                f"{_number(size['median'], 1)} / {_number(size['p01'], 1)}",
                f"{_number(row['active_units'], 0)} of {row['latent']}",
                f"{_number(train['value'])} (k = {train['k']}, {train['images']:,} training rows)",
                _words(row["parameters"], "{:,}"), _words(row["images_seen"], "{:,}"),
            ]
        )  # fmt: skip
    note = (
        "Nats a row, means over seeds. Sample size: effective, of the importance weights at the largest k, median and "
        "1st percentile over rows. Active: latent dimensions whose posterior mean has a variance above 0.01."
    )
    return f"{_grid(head, body)}\n\n{note}"


def _origin(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for row in rows:
        seeds = ", ".join(map(str, row["seeds"]))
        missing = f" (seeds {', '.join(map(str, row['missing']))}: {MISSING})" if row["missing"] else ""
        lines.append(
            f"- `{row['row']}`: seed{'s' * (len(row['seeds']) > 1)} {seeds}{missing}; {_words(row['epochs'])} epochs on "
            f"{_words(row['threads'])} thread{'s' * (row['threads'] != [1])}, {_words(row['precision'])}"
            f"{_compiled(row['compiled'])}{_refit(row)}; evaluation {_number(row['evaluation_minutes'], 1)} min on "
            f"{_words(row['evaluation_threads'])}, {row['evaluation_precision']}; {_words(row['device'])}; torch "
            f"{_words(row['torch'])}; code {_words(row['code'])}; {_words(row['dates'])}; {row['images']:,} rows of "
            f"{row['split']}, sha256 `{row['data_hash']}`{_anchor(row)}"
        )
    return "\n".join(lines)


def _refit(row: Mapping[str, Any]) -> str:
    """How the encoder was trained further, where it was."""
    return f"; encoder {row['encoder']}" if row["encoder"].startswith("refitted") else ""


def _compiled(seeds: Sequence[bool]) -> str:
    if not any(seeds):
        return ""
    return ", compiled" if all(seeds) else ", compiled for some seeds"


def _anchor(row: Mapping[str, Any]) -> str:
    published = row["published"]
    if published is None:
        return ""
    setting = f", {published['setting']}" if published["setting"] else ""
    return f". Published: {published['value']:.2f}, {published['what']} ({published['source']}){setting}"


def _legend(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line on what the numbers are and where they were measured."""
    if not rows:
        return ""
    ks = _words(sorted({row["bounds"][-1]["k"] for row in rows if row["bounds"]}), "{:,}")
    units = _words(dict.fromkeys(row["units"] for row in rows))
    machines = _words(dict.fromkeys(name for row in rows for name in row["device"]))
    torch = _words(dict.fromkeys(name for row in rows for name in row["torch"]))
    code = _words(dict.fromkeys(name for row in rows for name in row["code"]))
    dates = sorted({date for row in rows for date in row["dates"]})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    doubtful = any(row["nll"] and not row["trusted"] for row in rows)
    star = (
        f" {LOOSE}: at this k a row in a hundred rests on few draws; the truth may be lower."
        if doubtful
        else ""
    )
    return (
        f"NLL: {units}, importance-weighted bound at k = {ks}, +- its standard error over rows.{star} Training: minutes "
        "of one cell, everything included, and the threads it might use. "
        f"{machines}; torch {torch}; code {code}; {when}."
    )


def _rows_of(row: Mapping[str, Any]) -> str:
    if "nll" not in row:
        return row["data"] or "-"
    return row["data_name"] or f"{row['data'] or 'its own'}, {row['images']:,} rows"


def _value(row: Mapping[str, Any]) -> str:
    if "nll" not in row:
        return MISSING
    if row["nll"] is None:
        diverged = _words(row["diverged"])
        return f"infinite for seed {diverged}" if diverged else f"none: {row['reason']}"
    error = "" if row["standard_error"] is None else f" +- {row['standard_error']:.2f}"
    refitted = ", encoder refitted" if _refit(row) else ""
    return f"**{row['nll']['mean']:.2f}**{error}{'' if row['trusted'] else f' {LOOSE}'}{refitted}"


def _over_seeds(row: Mapping[str, Any]) -> str:
    if not row.get("nll"):
        return "-"
    nll = row["nll"]
    shown = (
        "one seed"
        if nll["n"] == 1
        else f"{nll['low']:.2f} to {nll['high']:.2f} ({nll['n']} seeds, s = {nll['deviation']:.2f})"
    )
    return f"{shown}, {len(row['missing'])} to come" if row["missing"] else shown


def _published(row: Mapping[str, Any]) -> str:
    published = row["published"]
    return (
        "-" if published is None else f"{published['value']:.2f}, {published['what']} ({published['source']})"
    )


def _passed(row: Mapping[str, Any]) -> str:
    return {True: "yes", False: "no", None: row.get("undecided") or "-"}[row.get("passed")]


def _training(row: Mapping[str, Any]) -> str:
    if "nll" not in row:
        return "-"
    minutes, threads = row["training_minutes"], row["threads"]
    refit = f", {row['refit_minutes']:.1f} of them the encoder's refit" if row["refit_minutes"] else ""
    return f"{minutes['mean']:.1f} min{refit}, {_words(threads)} thread{'s' * (threads != [1])}"


def _grid(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in body)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _words(values: Any, form: str = "{}") -> str:
    return ", ".join(form.format(value) for value in values)
