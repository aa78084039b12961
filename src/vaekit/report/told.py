"""What a report tells in words and numbers: what was trained on what, the loss, the doctor, how to repeat it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vaekit.data import NAMES
from vaekit.report import page
from vaekit.report.gather import Gathered
from vaekit.report.page import Markup, element, number
from vaekit.report.words import Words


def lead(found: Gathered) -> Markup:
    """What this is, and whether the doctor found anything."""
    rows = f"{sum(found.contract.rows.values()):,}"
    said = found.words(f"lead.model{found.kind}", D=found.model.latent, data=found.contract.source, rows=rows)
    ill = element(
        "div", element("p", element("a", found.words("page.ill"), href="#doctor")), class_="note warn"
    )
    return page.joined([page.text(said, "lead"), *([ill] if findings(found) else [])])


def what(page_: page.Page, found: Gathered) -> None:
    """The data's contract, the parts, how far it trained."""
    words, run, info = found.words, found.run, found.run.info()
    contract = found.contract
    size, kind = "×".join(map(str, contract.shape)), kind_of(found)
    data = "what.data_image" if contract.is_image else "what.data_vector"
    described = f" – {run.recipe.description}" if run.recipe.description else ""
    rows = ", ".join(f"{words(f'split.{name}')} {n:,}" for name, n in contract.rows.items())
    pairs: list[tuple[str, Any]] = [
        (words("what.data"), words(data, source=contract.source, size=size, kind=kind)),
        (words("what.rows"), rows),
    ]  # fmt: skip
    if contract.labels:
        pairs.append((words("what.labels"), _few(contract.labels, words)))
    pairs += [
        (words("what.contract"), f"`{contract.line()}`"),
        (words("what.recipe"), f"`{run.recipe.name}`{described}"),
    ]  # fmt: skip
    if found.model.latent:
        pairs += [
            (words("what.prior"), f"`{info['prior']}`"),
            (words("what.posterior"), f"`{info['posterior']}`"),
        ]
    pairs += [
        (words("what.likelihood"), f"`{info['likelihood']}`"), (words("what.objective"), f"`{info['objective']}`"),
        (words("what.latent"), str(info["latent"]) + (f" ({words('what.conditional')})" if run.condition else "")),
        (words("what.parameters"), f"{info['parameters']:,}"),
    ]  # fmt: skip
    if "epochs" in info:
        seconds = sum((line.get("time") or {}).get("seconds") or 0.0 for line in found.history)
        steps, time = f"{info['steps']:,}", spent(seconds, words)
        pairs.append(
            (words("what.trained"), words("what.epochs", epochs=info["epochs"], steps=steps, time=time))
        )
    if "best" in info:
        epoch, best = info["best"]["epoch"], number(info["best"]["validation_loss"])
        pairs.append((words("what.best"), words("what.best_at", epoch=epoch, loss=best)))
    blocks = [page.text(words("what.see")), page.facts(pairs)]
    said = (*contract.preparation, *run.recipe.notes)
    if said:
        listed = element("ul", *[element("li", page.inline(line)) for line in said])
        blocks.append(page.details(words("what.preparation"), listed))
    if found.trouble:
        blocks.append(page.note(words("what.gone", trouble=found.trouble), "warn"))
    page_.section("what", words("what.heading"), *blocks)


def loss(page_: page.Page, found: Gathered) -> None:
    """The bound with its two terms, nats a row."""
    words, read = found.words, found.evaluation
    if found.unjudged:
        page_.section(
            "loss", words("loss.heading"), page.note(words("loss.broken", trouble=found.unjudged), "warn")
        )
    if read is None:
        return
    tiles: list[tuple[str, str]] = []
    blocks = [page.text(words(f"loss.see{found.kind}"))]
    latent = found.model.latent
    if read.get("elbo") is not None:
        what_it_is = words("loss.elbo" if latent else "loss.log_px")
        tiles.append((_nats(read["elbo"], read.get("elbo_standard_error")), what_it_is))
    if latent:
        tiles.append((_nats(read["distortion"]), words("loss.distortion")))
    if latent and read.get("rate") is not None:
        tiles.append((_nats(read["rate"]), words("loss.rate")))
    bounds = [bound for bound in read.get("nll") or () if bound["value"] is not None]
    if bounds and latent:
        last = bounds[-1]
        tiles.append((_nats(last["value"], last["standard_error"]), words("loss.nll", k=f"{last['k']:,}")))
    ais = read.get("ais")
    if ais is not None and "gap" in ais:
        tiles.append(
            (_nats(ais["gap"]["value"], ais["gap"]["standard_error"]), words("loss.ais", n=ais["images"]))
        )
    if read.get("bits_per_dimension") is not None:
        tiles.append((number(read["bits_per_dimension"], 3), words("loss.bits")))
    if latent and read["latent"]:
        tiles.append((f"{read['active_units']} / {read['latent']}", words("loss.active")))
    blocks.append(page.tiles(tiles))
    if latent and read.get("rate") is not None and read["distortion"] >= 0:
        blocks.append(page.stack([
            (words("loss.reconstruction"), read["distortion"], number(read["distortion"], 1)),
            (words("loss.kl"), read["rate"], number(read["rate"], 1)),
        ]))  # fmt: skip
    n, split = f"{read['images']:,}", words(f"split.{read['split']}")
    blocks.append(page.text(words("loss.judged", n=n, split=split, unit=found.unit), "lead"))
    if bounds and not bounds[-1].get("trusted", True):
        blocks.append(page.note(words("loss.few", k=f"{bounds[-1]['k']:,}", unit=found.unit)))
    if not found.has_density:
        blocks.append(page.note(words("loss.point"), "warn"))
    elif read.get("nll") is None:
        likelihood = type(found.model.likelihood).__name__
        blocks.append(
            page.note(words("loss.cross_entropy", likelihood=likelihood, kind=kind_of(found)), "warn")
        )
    page_.section("loss", words("loss.heading"), *blocks)


def findings(found: Gathered) -> list[tuple[int, dict[str, Any]]]:
    """(epoch, finding) of everything the doctor said."""
    return [(line["epoch"], said) for line in found.history for said in line.get("doctor") or ()]


def doctor(page_: page.Page, found: Gathered) -> None:
    """What the doctor found, each with what it means."""
    words = found.words
    said = findings(found)
    blocks: list[Markup] = [page.text(words("doctor.see"))]
    for epoch, finding in said:
        key, values = f"doctor.{str(finding['code']).replace('-', '_')}", _shown(finding["values"])
        known = words(key, **values) + "\n\n" if words.fits(key, values) else ""
        told = finding["text"].replace("`", "")
        blocks.append(page.note(f"**{words('doctor.epoch', epoch=epoch)}** {known}`{told}`", "warn"))
    if not said:
        blocks.append(page.note(words("doctor.healthy"), "good"))
    page_.section("doctor", words("doctor.heading"), *blocks)


def again(page_: page.Page, found: Gathered) -> None:
    """The environment, and the command that repeats the run."""
    words, folder = found.words, found.run.folder
    if folder is None:
        return
    blocks = [page.text(words("again.see"))]
    head = folder.recipe.read_text(encoding="utf-8").splitlines()[:2]
    made = head[1].removeprefix("# ") if len(head) == 2 and head[1].startswith("# ") else ""
    if made.startswith("vaekit "):
        blocks += [page.text(words("again.made")), page.code(made)]
    else:
        blocks.append(page.text(words("again.python")))
    blocks += [page.text(words("again.recipe")), page.code(_command(found, folder.recipe))]
    try:
        facts = json.loads(folder.environment.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        facts = {}
    if facts:
        known = {name: value for name, value in facts.items() if value not in (None, [], "")}
        blocks.append(page.facts((f"`{name}`", _flat(value)) for name, value in known.items()))
    toml = folder.recipe.read_text(encoding="utf-8")
    blocks.append(page.details(words("again.toml"), page.code(toml)))
    page_.section("again", words("again.heading"), *blocks)


def kind_of(found: Gathered) -> str:
    """What the values of the data are, in the page's language."""
    return found.words(f"kind.{found.contract.kind.replace('-', '_')}")


def _nats(value: float, error: float | None = None) -> Markup:
    """As many digits as a tile has room for."""
    shown = page.escape(number(value, 2 if abs(value) < 1000 else 1 if abs(value) < 10_000 else 0))
    return shown if error is None else Markup(shown + element("small", f"± {number(error)}"))


def _few(names: tuple[str, ...], words: Words) -> str:
    shown = ", ".join(map(str, names[:12]))
    return shown if len(names) <= 12 else f"{shown} {words('what.more', n=len(names) - 12)}"


def spent(seconds: float, words: Words) -> str:
    if seconds < 90:
        return words("time.seconds", n=f"{seconds:.0f}")
    if seconds < 5400:
        return words("time.minutes", n=f"{seconds / 60:.0f}")
    return words("time.hours", n=f"{seconds / 3600:.1f}")


def _shown(values: Mapping[str, Any]) -> dict[str, Any]:
    """A finding's numbers as a sentence shows them."""
    plain = {name: "–" if value is None else value for name, value in values.items()}
    return {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in plain.items()}


def _command(found: Gathered, recipe: Path) -> str:
    """What trains the recipe of a run again; data that came as an array have to be given again."""
    source = found.run.recipe.data.source
    array = source is None or (source == found.contract.source and source not in NAMES)
    return shlex.join(["vaekit", "train", *["DATA"] * array, "--recipe", str(recipe), "-o", "NEW"])


def _flat(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_flat(v)}" for name, v in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else re.sub(r"`", "", str(value))
