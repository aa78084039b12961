"""`report`: a run becomes one HTML page for a person."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vaekit._version import __version__
from vaekit.errors import VaekitError
from vaekit.report import history, measured, shown, space, told
from vaekit.report.gather import gather
from vaekit.report.page import Page
from vaekit.report.words import Words

if TYPE_CHECKING:
    from vaekit.run import Run

# the order a reader wants; each leaves itself out where the run has no such thing
SECTIONS = (
    told.what, told.loss, shown.reconstructions, shown.extremes, shown.samples, measured.quality, measured.copies,
    space.latent_map, space.grid, space.traversals, space.units, measured.factors, space.against_prior,
    shown.interpolations, history.curves, history.film, told.doctor, told.again,
)  # fmt: skip


def report(
    run: Run,
    lang: str = "en",
    output: str | os.PathLike[str] | None = None,
    *,
    seed: int = 0,
    progress: bool = False,
) -> Path:
    """Write the page: RUN/report.html (RUN/report.ko.html in Korean), or `output`. Returns its path.

    An evaluation that is missing is made, with few draws. `seed` chooses rows and noise; the same seed gives the same
    page. Raises VaekitError for a language there are no texts in, an output that is no .html, and a weights file
    without its run where no output is given.
    """
    words = Words(lang)
    target = _target(run, lang, output)
    with _steps(progress, len(SECTIONS) + 2) as say:
        found = gather(run, words, seed, say, progress)
        title, foot = (
            words("page.title", name=run.path.resolve().name),
            words("page.foot", version=__version__),
        )
        page = Page(title, lang=lang, lead=told.lead(found), foot=foot)
        for section in SECTIONS:
            say(section.__name__.replace("_", " "))
            section(page, found)
        return page.save(target)


def _target(run: Run, lang: str, output: str | os.PathLike[str] | None) -> Path:
    if output is not None:
        target = Path(output).expanduser()
        if target.suffix.lower() not in (".html", ".htm"):
            raise VaekitError(f"cannot write {str(target)!r}: a report is a page, so end it in .html")
        return target
    if run.folder is None:
        raise VaekitError(
            f"{run.path} is a weights file alone, with no folder for its report; say where: -o report.html"
        )
    return run.folder.path / ("report.html" if lang == "en" else f"report.{lang}.html")


@contextlib.contextmanager
def _steps(shown: bool, total: int) -> Iterator[Callable[[str], None]]:
    """Say what is being done: a bar on a terminal's stderr, else nothing."""
    if not (shown and sys.stderr.isatty()):
        yield lambda name: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("report"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)

        def say(name: str) -> None:
            bar.update(task, description=name)
            bar.advance(task)

        yield say
