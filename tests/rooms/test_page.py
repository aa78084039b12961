"""The toolkit of pages: text is text, charts stand where their numbers say, a page stays small."""

from __future__ import annotations

import html
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from browser_kit import assert_healthy
from vaekit import VaekitError
from vaekit.report import charts, page
from vaekit.report.axes import Axis, Frame

EVIL = "<script>alert(1)</script> \"{}\" '|' & `code`"


def test_text_is_text_wherever_it_is_put(browser, tmp_path):
    made = page.Page(EVIL, lead=EVIL, foot=EVIL)
    points = np.random.default_rng(0).normal(size=(30, 2))
    made.section(
        "a", EVIL, page.text(EVIL), page.heading(EVIL), page.table([EVIL, "b"], [[EVIL, 1]]), page.facts([(EVIL, EVIL)]),
        page.tiles([(EVIL, EVIL)]), page.note(EVIL), page.details(EVIL, page.code(EVIL)),
        page.stack([(EVIL, 1.0, EVIL)]), page.rows([(EVIL, EVIL), None]),
        page.figure(page.picture(Image.new("L", (8, 8)), EVIL, tips=[EVIL] * 4, columns=2), title=EVIL, caption=EVIL),
        charts.scatter(points, title=EVIL, label=np.zeros(30, int), names=[EVIL], axes=(EVIL, EVIL)),
        charts.lines([charts.Series(EVIL, [1, 2], [1, 2]), charts.Series("b", [1, 2], [2, 1])], title=EVIL),
        charts.bars([1, 2], title=EVIL, names=[EVIL, EVIL], line=(1, EVIL)),
        charts.histogram(points, title=EVIL, names=(EVIL, EVIL), heading=EVIL),
    )  # fmt: skip
    target = made.save(tmp_path / "page.html")
    assert "<script>alert" not in target.read_text(encoding="utf-8")
    tab = browser.open(target)
    assert_healthy(tab)
    assert tab.evaluate("document.querySelector('#a p').textContent") == EVIL.replace("`", "")
    assert tab.evaluate("document.querySelector('#a pre').textContent") == EVIL
    tab.close()


def test_links_and_emphasis_are_understood():
    assert page.inline("a **b** `c` [d](https://e.org/f?g&h)") == (
        'a <strong>b</strong> <code>c</code> <a href="https://e.org/f?g&amp;h">d</a>'
    )
    assert "<a" not in page.inline("[d](javascript:alert)")


def test_a_page_that_would_be_too_large_is_refused_and_not_written(tmp_path):
    made = page.Page("large")
    made.section("a", "a", "x" * (page.LIMIT + 1))
    with pytest.raises(VaekitError, match=r"5\.0 MB; a page is at most 5 MB"):
        made.save(tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


def test_dots_are_few_bytes_and_stand_where_they_are():
    points = np.random.default_rng(0).normal(size=(5000, 2))
    drawn = charts.scatter(points, title="t", label=np.arange(5000) % 10)
    assert len(drawn) < 25 * len(points)
    at = np.array(re.findall(r"M([\d.]+) ([\d.]+)h0", drawn), float)
    rows = [
        int(r) for each in re.findall(r'data-each="([^"]*)"', drawn) for r in html.unescape(each).split("|")
    ]
    back = points[rows]
    for axis in (0, 1):
        slope, offset = np.polyfit(back[:, axis], at[:, axis], 1)
        assert at[:, axis] == pytest.approx(slope * back[:, axis] + offset, abs=0.06)
    across, up = (np.polyfit(back[:, a], at[:, a], 1)[0] for a in (0, 1))
    assert across == pytest.approx(-up, rel=1e-3)  # one scale for both axes


def test_more_kinds_of_label_than_colours_are_numbers():
    points = np.random.default_rng(0).normal(size=(100, 2))
    assert "bar-of-colours" in charts.scatter(points, title="t", label=np.arange(100))
    assert "bar-of-colours" not in charts.scatter(points, title="t", label=np.arange(100) % charts.KINDS)


@given(low=st.floats(-1e6, 1e6), span=st.floats(1e-3, 1e6), most=st.integers(2, 9))
def test_ticks_are_few_round_and_inside(low, span, most):
    axis = Axis(low, low + span)
    ticks = axis.ticks(most)
    assert len(ticks) <= most + 1
    assert all(low - 1e-5 * span <= t <= low + span + 1e-5 * span for t in ticks)
    steps = np.diff(ticks)
    assert len(steps) == 0 or steps == pytest.approx(np.full(len(steps), steps[0]))
    assert len(set(axis.words(ticks))) == len(ticks) or span < 1e-6 * abs(low)


@given(low=st.floats(1e-6, 1e3), times=st.floats(1.5, 1e9))
def test_logarithmic_ticks_are_inside(low, times):
    ticks = Axis(low, low * times, log=True).ticks()
    assert 1 <= len(ticks) <= 12 or times < 2
    assert all(low * (1 - 1e-6) <= t <= low * times * (1 + 1e-6) for t in ticks)


def test_epochs_have_no_halves():
    drawn = charts.lines([charts.Series("a", [1, 2], [3.0, 4.0])], title="t")
    assert not re.search(r">1\.5<", drawn) and ">1<" in drawn and ">2<" in drawn


def test_nothing_finite_is_said_and_not_drawn():
    nothing = np.full((3, 2), np.nan)
    for draw in (
        lambda: charts.scatter(nothing, title="t"), lambda: charts.bars(nothing[0], title="t"),
        lambda: charts.histogram(nothing, title="t"),
        lambda: charts.lines([charts.Series("a", [1, 2, 3], nothing[:, 0])], title="t"),
    ):  # fmt: skip
        with pytest.raises(VaekitError, match="nothing to draw"):
            draw()
    whole = charts.scatter(np.vstack([nothing, np.eye(2)]), title="t")
    assert whole.count("h0") == 2


def test_a_frame_of_no_width_has_some():
    frame = Frame.around(100, 100, np.zeros((1, 2)))
    assert frame.x.high > frame.x.low and frame.y.high > frame.y.low
