"""What pages say: a catalogue a language, `words_en.toml` and `words_ko.toml`, a section a page or part of one."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection
from importlib.resources import files
from typing import Any

from vaekit.errors import VaekitError, nearest

LANGUAGES = ("en", "ko")


class Words:
    """Texts by key: `words("curves.starts", value=5)` fills `{value}`.

    Raises VaekitError for a language there is no catalogue of, KeyError for a key that is not in it.
    """

    def __init__(self, lang: str = "en") -> None:
        if lang not in LANGUAGES:
            raise VaekitError(f"there are no texts in {lang!r}{nearest(lang, LANGUAGES)}")
        self.lang = lang
        text = files("vaekit.report").joinpath(f"words_{lang}.toml").read_text(encoding="utf-8")
        self._texts = flat(tomllib.loads(text))

    def __call__(self, key: str, **values: Any) -> str:
        return self._texts[key].format(**values).strip()

    def fits(self, key: str, values: Collection[str]) -> bool:
        """Whether there is such a text, and these are all it asks for."""
        return key in self._texts and placeholders(self._texts[key]) <= set(values)

    def texts(self) -> dict[str, str]:
        """Every text by its key."""
        return dict(self._texts)


def flat(tree: dict[str, Any], above: str = "") -> dict[str, str]:
    """A tree of texts by the names of its branches, joined with points."""
    found: dict[str, str] = {}
    for name, value in tree.items():
        found |= flat(value, f"{above}{name}.") if isinstance(value, dict) else {above + name: value}
    return found


def placeholders(text: str) -> set[str]:
    """The names in braces."""
    return set(re.findall(r"{(\w+)", text))
