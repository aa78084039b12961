"""Several runs from one recipe, a folder each, and the page that sets them side by side.

`fit_members` trains the `[members]` of a recipe, `sweep` one recipe over the values of one setting; `resume_members`
goes on with either. RUN/members.toml holds the recipe of every member before the first is trained.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaekit.errors import VaekitError
from vaekit.files import write_text

if TYPE_CHECKING:
    from vaekit.data import Data
    from vaekit.recipe import Recipe
    from vaekit.run import Run, RunFolder

Place = str | os.PathLike[str]


@dataclass(frozen=True)
class Plan:
    """What is to be trained: recipes by member, and of a sweep the setting it is over and its page's language."""

    name: str
    members: Mapping[str, Recipe]
    over: str = ""
    lang: str = "en"


def fit_members(
    data: Any = None,
    *,
    recipe: Place,
    output: Place | None = None,
    latent: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    set: Iterable[str] = (),
    allow: Collection[str] = (),
    progress: bool | None = None,
    **data_options: Any,
) -> dict[str, Run]:
    """Train every member of a recipe with `[members]`: runs by name, RUN/NAME each, and RUN/compare.html.

    The arguments are those of `vaekit.fit` (`data_options`: size, grey, binarize, limit, key, labels, kind) and go to
    every member; the data are opened once for all members that prepare them alike. A member that fails is told in
    one warning and left out. Raises VaekitError for bad input or where no member could be trained, and
    InterruptedRun (a KeyboardInterrupt) once Ctrl-C has saved what there is.

    >>> runs = fit_members("mnist", recipe="ae-versus-vae", set=["train.epochs=2"])    # doctest: +SKIP
    """
    from vaekit import recipe as room

    changes = [*set, *_overrides(latent, seed, device)]
    members = room.members(recipe, changes)
    if not members:
        raise VaekitError(f"recipe {recipe} has no [members]; train it with vaekit.fit, or vaekit train")
    plan = Plan(Path(recipe).stem, members)
    return _start(plan, data, data_options, output, allow, progress)


def sweep(
    data: Any = None,
    *,
    over: str,
    recipe: Place | None = None,
    output: Place | None = None,
    latent: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    set: Iterable[str] = (),
    allow: Collection[str] = (),
    lang: str = "en",
    progress: bool | None = None,
    **data_options: Any,
) -> dict[str, Run]:
    """Train one recipe with each value of one setting, `over="objective.beta=0.1,1,10"`: runs by value.

    Writes RUN/VALUE each, and RUN/sweep.html, sweep.png and sweep.csv: rate against distortion, reconstructions and
    samples along the values (`lang` "ko": sweep.ko.html). The other arguments, and what is raised, as for
    `fit_members`; without `recipe` one is chosen from the data.

    >>> runs = sweep("mnist", recipe="beta-vae", over="objective.beta=0.5,1,2,4")      # doctest: +SKIP
    """
    from vaekit import recipe as room
    from vaekit.recipe.several import named, values_over
    from vaekit.report.words import Words
    from vaekit.train.given import opened, without_none

    Words(lang)  # whether there is such a language
    key, values = values_over(over)
    changes = [*set, *_overrides(latent, seed, device)]
    room.load(recipe or room.DEFAULT, changes)
    if recipe is None:
        found = opened("digits" if data is None else data, without_none(**data_options))
        recipe = room.for_contract(found.contract)[0]
        data = "digits" if data is None else data
    members: dict[str, Recipe] = {}
    for value in values:
        member = room.load(recipe, [*changes, f"{key}={value}"])
        members[named(value, members)] = member.updated({"recipe": {"name": f"{member.name}/{key}={value}"}})
    plan = Plan(f"{Path(recipe).stem}-sweep", members, key, lang)
    return _start(plan, data, data_options, output, allow, progress)


def resume_members(
    path: Place,
    *,
    set: Iterable[str] = (),
    data: Any = None,
    allow: Collection[str] = (),
    progress: bool | None = None,
) -> dict[str, Run]:
    """Go on where `fit_members` or `sweep` stopped: trained members are kept, the others go on exactly or start.

    set, data: as for `vaekit.resume`. Raises VaekitError and InterruptedRun as `fit_members` does.
    """
    from vaekit.recipe import overrides_tree
    from vaekit.run import RunFolder
    from vaekit.train.given import kept_source, refuse_beyond_train

    folder = RunFolder(Path(path).expanduser())
    plan, changes, moved = planned(folder.path), overrides_tree(set), data if _is_place(data) else None
    refuse_beyond_train(changes)
    if data is None and any(recipe.data.source is None for recipe in plan.members.values()):
        raise VaekitError(
            f"{folder.path} was made from an array, not from a path; give the data again: "
            "vaekit train DATA --resume RUN, or resume_members(run, data=...)"
        )
    if moved is not None:
        changes = changes | {"data": {"source": kept_source(moved)}}
    if changes:
        plan = replace(plan, members={name: each.updated(changes) for name, each in plan.members.items()})
        _write(plan, folder)
    opener = _Opener(None if moved is not None else data, {}, moved)
    return _train(plan, folder, opener, list(set), allow, progress)


def is_of_several(recipe: Place) -> bool:
    """Whether a recipe has `[members]`. Raises VaekitError where it cannot be read."""
    from vaekit import recipe as room

    return bool(room.members(recipe))


def has_several(path: Place) -> bool:
    """Whether a folder is what `fit_members` or `sweep` wrote."""
    from vaekit.run import RunFolder

    return RunFolder(Path(path).expanduser()).members.is_file()


def planned(path: Place) -> Plan:
    """What RUN/members.toml says. Raises VaekitError where there is none, or it is damaged."""
    from vaekit.recipe.sections import parsed
    from vaekit.recipe.several import split
    from vaekit.run import RunFolder

    file = RunFolder(path).members
    try:
        tree = parsed(file.read_text(encoding="utf-8"), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise VaekitError(f"{file} cannot be read: {error}") from error
    swept = {"over": "", "lang": "en"} | tree.pop("sweep", {})
    name, members = tree.get("recipe", {}).get("name", ""), split({"members": {}, **tree}, str(file))
    return Plan(name, members, swept["over"], swept["lang"])


def _write(plan: Plan, folder: RunFolder) -> None:
    """RUN/members.toml, which `planned` reads."""
    import tomli_w

    from vaekit.recipe.sections import on_one_line, to_tree

    tree: dict[str, Any] = {"recipe": {"name": plan.name}}
    if plan.over:
        tree["sweep"] = {"over": plan.over, "lang": plan.lang}
    tree["members"] = {name: to_tree(recipe) for name, recipe in plan.members.items()}
    write_text(folder.members, on_one_line(tomli_w.dumps(tree)))


def _start(
    plan: Plan, data: Any, options: Mapping[str, Any], output: Place | None, allow: Collection[str],
    progress: bool | None,
) -> dict[str, Run]:  # fmt: skip
    """Settle the data of every member, make the folder and train."""
    from vaekit.run import RunFolder
    from vaekit.train.given import introduction, kept_source, voice, without_none

    if output is not None:
        RunFolder.refuse_taken(output)
    options = without_none(**options)
    plain = {name: value for name, value in options.items() if isinstance(value, str | int | bool)}
    kept: dict[str, Any] = {} if data is None else {"source": kept_source(data) if _is_place(data) else None}
    members = {name: recipe.updated({"data": plain | kept}) for name, recipe in plan.members.items()}
    if data is None:
        members = {
            name: recipe.updated({"data": {"source": kept_source(recipe.data.source or "digits")}})
            for name, recipe in members.items()
        }
    plan = replace(plan, members=members)
    processes = max(recipe.train.devices * recipe.train.nodes for recipe in members.values())
    if processes > 1 or "TORCHELASTIC_RUN_ID" in os.environ:
        raise VaekitError(
            "members are trained one after another by one process; leave train.devices and torchrun out"
        )
    opener = _Opener(None if _is_place(data) else data, options)
    first = opener.of(next(iter(members.values())))  # data that cannot be opened leave no folder behind
    introduction(first, voice(progress))
    folder = RunFolder.create(output, f"{first.contract.source}-{plan.name}", several=True)
    _write(plan, folder)
    return _train(plan, folder, opener, [], allow, progress)


class _Opener:
    """The data of a member, opened once for all that prepare them alike."""

    def __init__(self, data: Any, options: Mapping[str, Any], moved: Place | None = None) -> None:
        self.data, self.options, self.moved = data, options, moved
        self.found: dict[str, Data] = {}

    def of(self, recipe: Recipe) -> Data:
        from vaekit.train.given import data_options, opened

        source, wanted = recipe.data.source, data_options(recipe) | dict(self.options)
        key = json.dumps([source, wanted], default=repr)
        if key not in self.found:
            self.found[key] = opened(source if self.data is None else self.data, wanted)
        return self.found[key]


def _train(
    plan: Plan, folder: RunFolder, opener: _Opener, changes: list[str], allow: Collection[str], progress: bool | None
) -> dict[str, Run]:  # fmt: skip
    """Train what is not trained yet, one member after another, and write the page."""
    from vaekit.train.given import voice
    from vaekit.train.running import InterruptedRun

    say, runs, refusals = voice(progress), {}, []
    where = "between members"
    try:
        for number, (name, recipe) in enumerate(plan.members.items(), 1):
            where = f"in member {name}, {number} of {len(plan.members)}"
            say(f"-- member {name}, {number} of {len(plan.members)}")
            try:
                runs[name] = _one(recipe, folder.path / name, opener, changes, allow, progress)
            except VaekitError as error:
                refusals.append(f"{name}: {error}")
                warnings.warn(f"member {name} failed, the others go on: {error}", stacklevel=3)
        if not runs:
            raise VaekitError(f"no member of {plan.name} could be trained; {refusals[0]}")
        where = "while the runs were compared"
        try:
            _page(plan, folder.path, runs, say, progress)
        except VaekitError as error:
            warnings.warn(f"the runs are trained, but no page shows them: {error}", stacklevel=3)
    except KeyboardInterrupt:
        raise InterruptedRun(
            f"interrupted {where}, all saved; go on with: vaekit train --resume {folder.path}"
        ) from None
    return runs


def _one(
    recipe: Recipe, path: Path, opener: _Opener, changes: list[str], allow: Collection[str], progress: bool | None
) -> Run:  # fmt: skip
    """A member's run."""
    from vaekit.train.given import voice
    from vaekit.train.onward import onward

    run = onward(
        recipe, path, lambda: opener.of(recipe), voice(progress), changes=changes, moved=opener.moved, allow=allow,
        progress=progress,
    )  # fmt: skip
    if opener.data is not None:
        run.own = opener.of(recipe)  # an array has no path to be opened from again
    return run


def _page(plan: Plan, folder: Path, runs: Mapping[str, Run], say: Any, progress: bool | None) -> None:
    """RUN/compare.html, or what a sweep shows."""
    if len(runs) < 2:
        return say("one run alone is left: there is nothing to compare")
    if plan.over:
        from vaekit.report.sweep import sweep as page

        written = page(runs, plan.over, folder, lang=plan.lang, say=say)
    else:
        from vaekit.report import compare

        shown = sys.stderr.isatty() if progress is None else progress
        written = compare(list(runs.values()), folder / "compare.html", title=plan.name, progress=shown)
    say(f"look at {written}")


def _overrides(latent: int | None, seed: int | None, device: str | None) -> list[str]:
    """Short options as overrides."""
    given = {"model.latent": latent, "train.seed": seed, "train.device": device}
    return [f"{key}={value}" for key, value in given.items() if value is not None]


def _is_place(data: Any) -> bool:
    return isinstance(data, str | os.PathLike)
