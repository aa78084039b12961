"""The pages: links lead somewhere, pictures stay small, commands and recipes exist, translations keep up."""

import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest

from vaekit import recipe
from vaekit.commands import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TRANSLATED = sorted((ROOT / "docs" / "ko").glob("*.md"))
LINK = re.compile(r"\]\(([^)\s]+)\)")


def commands(page: Path) -> list[list[str]]:
    """The lines of its code blocks, and the pieces of code in its text, that call vaekit."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^ *```\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`(vaekit [^`\n]*)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [shlex.split(line) for line in lines if line.startswith("vaekit ")]


def anchor(heading: str) -> str:
    """As GitHub makes it: lower case, punctuation dropped, spaces to hyphens."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for link in LINK.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        if link.startswith(("http://", "https://")):
            continue
        place, _, part = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), f"{link} leads nowhere"
        if part:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert part in map(anchor, headings), f"{link} names no heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_command_and_recipe_that_a_page_names_exists(page):
    for words in commands(page):
        if len(words) > 1 and not words[1].startswith("-") and words[1].islower():
            assert words[1] in app, f"there is no vaekit {words[1]}"
        for flag, value in pairwise(words):
            if flag == "--recipe" and value.islower():
                assert value in recipe.names(), f"there is no recipe {value}"


@pytest.mark.parametrize("page", TRANSLATED, ids=lambda p: p.name)
def test_a_translation_shows_the_same_commands_and_pictures(page):
    english = page.parents[1] / page.name

    def without_language(found: list[list[str]]) -> list[list[str]]:
        return sorted([[word for word in words if word not in ("--lang", "ko")] for words in found])

    def pictures(path: Path) -> list[str]:
        return [
            Path(link).name
            for link in LINK.findall(path.read_text(encoding="utf-8"))
            if link.endswith(".png")
        ]

    assert without_language(commands(page)) == without_language(commands(english))
    assert pictures(page) == pictures(english)


def test_pictures_are_small():
    heavy = {
        p.name: p.stat().st_size
        for p in (ROOT / "docs" / "images").rglob("*.png")
        if p.stat().st_size > 150_000
    }
    assert not heavy
