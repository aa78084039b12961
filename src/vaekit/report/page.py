"""One HTML page that needs nothing but itself: style, script and pictures are in it, and all text is escaped.

A block is `Markup`. Plain strings are text: where a block takes text, `code`, **strong** and [a link](https://...) are
understood, and everything else appears as it is written.
"""

from __future__ import annotations

import base64
import html
import io
import json
import re
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaekit.errors import VaekitError
from vaekit.files import write_text

if TYPE_CHECKING:
    from PIL.Image import Image

LIMIT = 5_000_000  # bytes of a page: it is mailed, and opened on phones


class Markup(str):
    """HTML that is safe to put in a page as it is."""


def escape(text: Any) -> Markup:
    """Any value as text in HTML; Markup stays what it is."""
    return text if isinstance(text, Markup) else Markup(html.escape(str(text)))


def element(tag: str, *children: Any, **attributes: Any) -> Markup:
    """`<tag attributes>children</tag>`. None leaves an attribute out, True gives it no value; `class_` is class, and
    an underscore elsewhere a hyphen."""
    shown = "".join(
        f" {name.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(value)}"')
        for name, value in attributes.items()
        if value is not None and value is not False
    )
    if tag in ("img", "br", "i") and not children:
        return Markup(f"<{tag}{shown}>" + ("</i>" if tag == "i" else ""))
    return Markup(f"<{tag}{shown}>{''.join(map(escape, children))}</{tag}>")


def inline(text: Any) -> Markup:
    """Text with `code`, **strong** and [links](https://...)."""
    if isinstance(text, Markup):
        return text
    safe = html.escape(str(text))
    safe = re.sub(r"\[([^\]]+)\]\((https?://[^\s)]+)\)", r'<a href="\2">\1</a>', safe)
    safe = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", safe)
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", safe))


def text(words: str, class_: str | None = None) -> Markup:
    """Paragraphs, an empty line between two."""
    parts = [part for part in re.split(r"\n\s*\n", words.strip()) if part]
    return joined(element("p", inline(part), class_=class_) for part in parts)


def joined(blocks: Iterable[Any]) -> Markup:
    """Blocks one after another."""
    return Markup("\n".join(escape(block) for block in blocks))


def heading(words: str) -> Markup:
    """A heading inside a section."""
    return element("h3", inline(words))


def table(head: Sequence[Any], rows: Iterable[Sequence[Any]], numbers: Iterable[int] | None = None) -> Markup:
    """Rows under a head; the first cell of a row names it. `numbers`: the columns set as numbers, by default all but
    the first. A wide table scrolls in its own box."""
    right = set(range(1, len(head)) if numbers is None else numbers)
    top = [
        element("th", inline(cell), scope="col", class_="n" if i in right else None)
        for i, cell in enumerate(head)
    ]
    body = []
    for row in rows:
        first, *rest = row
        cells = [element("td", inline(c), class_="n" if i in right else None) for i, c in enumerate(rest, 1)]
        body.append(element("tr", element("th", inline(first), scope="row"), *cells))
    whole = element("table", element("thead", element("tr", *top)), element("tbody", *body))
    return element("div", whole, class_="scroll")


def facts(pairs: Iterable[tuple[Any, Any]]) -> Markup:
    """Names with what belongs to them."""
    return element(
        "dl",
        *[
            part
            for name, value in pairs
            for part in (element("dt", inline(name)), element("dd", inline(value)))
        ],
    )


def tiles(numbers: Iterable[tuple[Any, Any]]) -> Markup:
    """The few numbers that a page is about: (number, what it is)."""
    cells = [
        element("div", element("b", n), element("small", inline(what)), class_="tile") for n, what in numbers
    ]
    return element("div", *cells, class_="tiles")


def stack(parts: Iterable[tuple[str, float, str]]) -> Markup:
    """Parts of a whole as one bar, each as wide as its share: (name, value, what stands for the value)."""
    found = list(parts)
    whole = sum(max(value, 0.0) for _, value, _ in found) or 1.0
    cells = [
        element(
            "div",
            element("strong", shown),
            " ",
            name,
            style=f"flex:{max(value, 0.0) / whole:.4f};--shade:var(--c{i})",
        )
        for i, (name, value, shown) in enumerate(found)
    ]
    return element("div", *cells, class_="stack")


def note(words: str, kind: str = "plain") -> Markup:
    """A paragraph set apart: plain, warn or good."""
    return element("div", text(words), class_="note" if kind == "plain" else f"note {kind}")


def details(summary: str, *blocks: Any) -> Markup:
    """What is folded away until it is asked for."""
    return element("details", element("summary", inline(summary)), *blocks)


def code(words: str) -> Markup:
    """Lines to be copied."""
    return element("pre", element("code", words))


def picture(
    image: Image,
    alt: str,
    *,
    tips: Sequence[str] | None = None,
    columns: int | None = None,
    paper: bool = False,
    photograph: bool = False,
) -> Markup:
    """An image inlined: WebP without loss, or with `photograph` at quality 88.

    `tips` (with `columns`) are shown when a tile of a sheet is pointed at, row by row. `paper` lays a picture that was
    drawn on white on a white card, so that it looks right on a dark page.
    """
    into = io.BytesIO()
    how: dict[str, Any] = {"quality": 88} if photograph else {"lossless": True, "quality": 60}
    image.save(into, "WEBP", method=4, **how)
    found = element(
        "img", src="data:image/webp;base64," + base64.b64encode(into.getvalue()).decode(), alt=alt, width=image.width,
        height=image.height, data_tips=json.dumps(list(tips), ensure_ascii=False) if tips else None,
        data_columns=columns if tips else None, tabindex=0 if tips else None,
    )  # fmt: skip
    return element("div", found, class_="sheet") if paper else found


def figure(
    *blocks: Any, title: str | None = None, caption: str | None = None, most: int | None = None
) -> Markup:
    """Pictures or charts with a title above and a caption below; `most`: pixels that it grows to at most."""
    return element(
        "figure", *([element("b", inline(title))] if title else []), *blocks,
        *([element("figcaption", inline(caption))] if caption else []), class_="picture",
        style=f"max-width:{most}px" if most else None,
    )  # fmt: skip


def rows(named: Iterable[tuple[str, Any] | None]) -> Markup:
    """(name, picture) under one another, the name at the left; on a phone above it. None leaves a gap."""
    cells: list[Markup] = []
    for one in named:
        cells += [element("i")] if one is None else [element("span", inline(one[0])), element("div", one[1])]
    return element("div", *cells, class_="row")


def beside(*blocks: Any, least: str = "17rem") -> Markup:
    """Blocks side by side where each has `least` of room, else under one another."""
    return element("div", *blocks, class_="beside", style=f"--least:{least}")


def film(*blocks: Any, least: str = "12rem") -> Markup:
    """Blocks of one width in a strip that scrolls sideways."""
    return element("div", *blocks, class_="film", style=f"--least:{least}", tabindex=0)


class Page:
    """A page under construction: `section` after `section`, then `save`.

    >>> page = Page("A run", lang="en", lead="What it learned.")
    >>> page.section("loss", "The loss", text("Lower is better."))
    >>> page.save("/tmp/report.html")    # doctest: +SKIP
    """

    def __init__(
        self, title: str, *, lang: str = "en", lead: str | Markup = "", foot: str | Markup = ""
    ) -> None:
        self.title, self.lang, self.lead, self.foot = title, lang, lead, foot
        self._sections: list[tuple[str, str, Markup]] = []

    def section(self, id: str, heading: str, *blocks: Any) -> None:
        """A section under its heading; `id` is what the contents link to."""
        self._sections.append((id, heading, joined(blocks)))

    def html(self) -> str:
        """The whole page."""
        links = [element("a", inline(name), href=f"#{id}") for id, name, _ in self._sections]
        lead = self.lead if isinstance(self.lead, Markup) else text(self.lead, "lead")
        main = [
            element("section", element("h2", inline(name)), body, id=id) for id, name, body in self._sections
        ]
        body = [
            element(
                "header",
                element("h1", inline(self.title)),
                lead,
                element("nav", *links) if len(links) > 2 else "",
            ),
            element("main", *main),
            element("footer", inline(self.foot)) if self.foot else "",
            element("div", id="tip", role="status", hidden=True),
            element("script", _own("page.js")),
        ]
        head = [
            Markup('<meta charset="utf-8">'),
            Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            # what the page promises, the browser holds it to: nothing is loaded from anywhere
            Markup(
                '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
                "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">"
            ),
            Markup('<link rel="icon" href="data:,">'),
            element("title", re.sub(r"[`*]", "", self.title)),
            element("style", _own("page.css")),
        ]
        whole = element("html", element("head", *head), element("body", *body), lang=self.lang)
        return f"<!doctype html>\n{whole}\n"

    def save(self, path: str | Path) -> Path:
        """Write the page, whole or not at all. Raises VaekitError where it cannot be written, or is over 5 MB."""
        target, whole = Path(path), self.html()
        size = len(whole.encode())
        if size > LIMIT:
            raise VaekitError(
                f"{target} would be {size / 1e6:.1f} MB; a page is at most {LIMIT / 1e6:.0f} MB: show less"
            )
        write_text(target, whole)
        return target


def _own(name: str) -> Markup:
    """Style or script of every page."""
    return Markup(files("vaekit.report").joinpath(name).read_text(encoding="utf-8"))


def number(value: float | None, digits: int = 2) -> str:
    """A number as a page shows it: thousands apart, a true minus, a dash where there is none."""
    if value is None:
        return "–"
    shown = f"{value:,}" if isinstance(value, int) else f"{round(value, digits) + 0.0:,.{digits}f}"
    return shown.replace("-", "−")
