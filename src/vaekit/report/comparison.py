"""`compare`: runs on the same data side by side, in one HTML page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vaekit._version import __version__
from vaekit.errors import VaekitError
from vaekit.report import contrasts, sides
from vaekit.report.numbers import bits, numbers
from vaekit.report.page import Markup, Page
from vaekit.report.pairs import standing
from vaekit.report.readings import Judged, judged
from vaekit.report.verdicts import short
from vaekit.report.words import Words

if TYPE_CHECKING:
    from vaekit.run import Run


def compare(
    runs: Sequence[Run | str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    lang: str = "en",
    title: str | None = None,
    seed: int = 0,
    progress: bool | None = False,
) -> Path:
    """Write a page that sets runs side by side: their numbers in one table, paired differences row by row with a 95 %
    confidence interval, latent maps on equal axes, samples, reconstructions, midpoints. Returns its path.

    Readings that a run lacks (`Run.evaluate` with at most 100 draws, `Run.latents`) are made, and kept in the run where
    it has a test split. `seed` chooses rows and noise. Raises VaekitError for fewer than two runs, runs of different
    data, data that have gone, a language there are no texts in, and an output that is no .html.
    """
    words, target = Words(lang), _target(output)
    named = _named(runs)
    found = judged(named, seed, bool(progress))
    bound = standing(found, lambda run: None if run.elbo is None else -run.elbo, bits)
    errors = standing(found, lambda run: run.squared_error, _judged_rows)
    made = Page(
        title or words("compare.title", names=", ".join(f"`{name}`" for name, _ in named)), lang=lang,
        lead=_lead(found, words), foot=words("compare.foot", version=__version__),
    )  # fmt: skip
    sections: list[tuple[str, list[Markup]]] = [
        ("short", short(found, bound, errors, words)),
        ("numbers", numbers(found, words)),
        ("bound", contrasts.bound(found, bound, words)),
        ("error", contrasts.error(found, errors, words, seed)),
        ("maps", sides.maps(found, words, seed)),
        ("holes", contrasts.holes(found, words)),
        ("samples", sides.samples(found, words, seed)),
        ("midpoints", sides.midpoints(found, words, seed)),
        ("smooth", contrasts.smooth(found, words, seed)),
    ]
    for name, blocks in sections:
        if blocks:
            made.section(
                name, words(f"compare.{name}.heading"), *blocks
            )  # of "compare.short.heading" and so on
    return made.save(target)


def _judged_rows(run: Judged) -> object:
    """What runs share whose errors compare: the rows, as they are judged."""
    return run.evaluation["data_hash"], run.index.tobytes()


def _lead(runs: Sequence[Judged], words: Words) -> str:
    first = runs[0]
    return words(
        "compare.lead", n=len(runs), data=first.run.contract.source, rows=f"{len(first.rows):,}",
        split=words(f"split.{first.rows.name}"),
    )  # fmt: skip


def _target(output: str | os.PathLike[str]) -> Path:
    target = Path(output).expanduser()
    if target.suffix.lower() not in (".html", ".htm"):
        raise VaekitError(f"cannot write {str(target)!r}: a comparison is a page, so end it in .html")
    return target


def _named(runs: Sequence[Run | str | os.PathLike[str]]) -> list[tuple[str, Run]]:
    """Runs, opened, each by as much of its path as tells it from the others. Raises VaekitError."""
    from vaekit.run import load

    if len(runs) < 2:
        raise VaekitError(
            f"{len(runs)} run{'s' * (len(runs) != 1)} came; a comparison takes two or more, such as "
            "vaekit compare RUN RUN -o F.html"
        )
    opened = [load(run) if isinstance(run, str | os.PathLike) else run for run in runs]
    parts = [(run.path if run.folder is None else run.folder.path).resolve().parts for run in opened]
    if len(set(parts)) < len(parts):
        twice = next(Path(*part) for part in parts if parts.count(part) > 1)
        raise VaekitError(f"{twice} came twice; give each run once")
    first = opened[0]
    for run in opened[1:]:
        if run.contract.hash != first.contract.hash or run.contract.shape != first.contract.shape:
            raise VaekitError(
                f"{first.path} was trained on {first.contract.line()}, {run.path} on {run.contract.line()}; give runs "
                "on the same data"
            )
    depth = next(
        n for n in range(1, 1 + max(map(len, parts))) if len({part[-n:] for part in parts}) == len(parts)
    )
    return [("/".join(part[-depth:]), run) for part, run in zip(parts, opened, strict=True)]
