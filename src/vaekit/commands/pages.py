"""`report` and `compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from vaekit.commands.app import Allow, Out, Seed, app
from vaekit.commands.results import opened_run


@app.command
def report(
    run: Path, /, *, output: Out = None, lang: Literal["en", "ko"] = "en", seed: Seed = 0, allow: Allow = None
) -> None:
    """Everything about a run on one page for a person: losses, reconstructions, the latent space, training.

    One HTML file that loads nothing: it can be mailed, printed and read on a phone.

    Parameters
    ----------
    run
        A run folder, or its model.safetensors.
    output
        The page (HTML). Without it: RUN/report.html, in Korean RUN/report.ko.html.
    lang
        The language of the page.
    seed
        Chooses the rows shown, and the noise.
    """
    print(opened_run(run, allow).report(lang, output, seed=seed, progress=True))


@app.command
def compare(
    *runs: Path, output: Out = None, lang: Literal["en", "ko"] = "en", title: str | None = None, seed: Seed = 0,
    allow: Allow = None,
) -> None:  # fmt: skip
    """Set runs on the same data side by side on one page: numbers, paired differences, latent maps, samples.

    What a run lacks (its evaluation, its latent readings) is measured first and kept in it.

    Parameters
    ----------
    runs
        Two run folders or more, or their model.safetensors.
    output
        The page (HTML). Without it: compare.html in the current folder, in Korean compare.ko.html.
    lang
        The language of the page.
    title
        The page's title; without it the names of the runs.
    seed
        Chooses the rows shown, and the noise.
    """
    from vaekit.report import compare as written

    opened = [opened_run(run, allow) for run in runs]
    target = output or Path("compare.html" if lang == "en" else f"compare.{lang}.html")
    print(written(opened, target, lang=lang, title=title, seed=seed, progress=True))
