"""The HTML report as people see it, in a real browser: on a desk and on a phone, by day and by night."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page

from drydock.render import html
from drydock.report import Report
from tests.support import examples, sample_reports
from tests.unit.render.test_html import hostile

Open = Callable[..., Page]

DESK, TABLET, PHONE, SMALL_PHONE = (1280, 800), (800, 1100), (390, 844), (320, 568)
SIZES = (DESK, TABLET, PHONE, SMALL_PHONE)
REPORTS: dict[str, Callable[[], Report]] = {
    "published": sample_reports.report,
    "rejected": sample_reports.rejected,
    "interrupted": sample_reports.interrupted,
    "without a verdict": sample_reports.no_verdict,
    "small": examples.report,
    "hostile": hostile,
}

OVERFLOWING = """() => [...document.querySelectorAll('body *')]
  .filter(element => element.checkVisibility() && !element.closest('pre, svg, thead'))
  .filter(element => element.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5)
  .map(element => `${element.tagName} ${element.className} ${element.textContent.slice(0, 40)}`)"""

# Every text that is seen, with its contrast against what lies behind it: https://www.w3.org/TR/WCAG22/#contrast-minimum
CONTRASTS = """() => {
  const channels = colour => colour.match(/[\\d.]+/g).map(Number);
  const luminance = colour => channels(colour).slice(0, 3).map(value => value / 255)
    .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
    .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = element => {
    const tile = element.closest('.treemap svg, .matrix svg');
    if (tile) return getComputedStyle(tile.querySelector('rect')).fill;
    for (let each = element; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if ((channels(colour)[3] ?? 1) > 0) return colour;
    }
  };
  const seen = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].filter(node => node.nodeType === 3).map(node => node.data).join('').trim();
    if (!own || !element.checkVisibility() || element.tagName === 'title') continue;
    const style = getComputedStyle(element);
    const [light, dark] = [luminance(style[element.tagName === 'text' ? 'fill' : 'color']), luminance(behind(element))]
      .sort((one, other) => other - one);
    seen.push([own.slice(0, 40), (light + 0.05) / (dark + 0.05)]);
  }
  return seen;
}"""

TILES = """() => {
  const box = element => {
    const {left, top, right, bottom} = element.getBoundingClientRect();
    return {left, top, right, bottom};
  };
  const [picture, ...others] = [...document.querySelectorAll('.treemap')].filter(each => each.checkVisibility());
  return {
    others: others.length,
    picture: box(picture),
    tiles: [...picture.querySelectorAll('svg')].map(tile => ({
      title: tile.querySelector('title').textContent,
      box: box(tile.querySelector('rect')),
      clipped: getComputedStyle(tile).overflow,
      labels: [...tile.querySelectorAll('text')].map(box),
    })),
  };
}"""


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    """Opens a report; at the end, the browser has asked for nothing else and complained of nothing."""
    path = tmp_path / "report.html"
    requests: list[str] = []
    complaints: list[str] = []
    contexts = []

    def open_(
        report: Report,
        size: tuple[int, int] = DESK,
        scheme: Literal["light", "dark"] = "light",
        *,
        scripts: bool = True,
    ) -> Page:
        path.write_text(html.render(report), encoding="utf-8")
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, java_script_enabled=scripts
        )
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path.as_uri())
        return page

    yield open_
    for context in contexts:
        context.close()
    assert set(requests) == {path.as_uri()}
    assert complaints == []


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("made", REPORTS.values(), ids=REPORTS)
def test_a_page_is_no_wider_than_its_window(opened: Open, made: Callable[[], Report], size: tuple[int, int]) -> None:
    page = opened(made(), size)
    for folded in page.locator("details:not([open]) > summary").all():
        folded.click()
    width, scrolled = page.evaluate("[document.documentElement.clientWidth, document.documentElement.scrollWidth]")
    assert scrolled <= width
    assert page.evaluate(OVERFLOWING) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("made", REPORTS.values(), ids=REPORTS)
def test_text_stands_out_by_day_and_by_night(
    opened: Open, made: Callable[[], Report], scheme: Literal["light", "dark"]
) -> None:
    contrasts = opened(made(), DESK, scheme).evaluate(CONTRASTS)
    assert len(contrasts) > 30
    assert [(words, round(contrast, 2)) for words, contrast in contrasts if contrast < 4.5] == []


def test_day_and_night_differ(opened: Open) -> None:
    paper = "getComputedStyle(document.documentElement).backgroundColor"
    assert opened(sample_reports.report(), DESK, "light").evaluate(paper) == "rgb(253, 252, 250)"
    assert opened(sample_reports.report(), DESK, "dark").evaluate(paper) == "rgb(22, 22, 20)"


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_check_is_seen_with_all_its_words(opened: Open, size: tuple[int, int]) -> None:
    report = sample_reports.rejected()
    page = opened(report, size)
    shown = page.locator(".checks tbody tr").all()
    assert len(shown) == len(report.checks)
    for line, row in zip(shown, report.checks, strict=True):
        words = " ".join(line.inner_text().split())
        for word in (row.verdict, row.name, row.measured, row.limit, *row.details):
            assert word in words
        assert line.locator("svg.mark").bounding_box()


def test_a_mark_says_a_verdict_without_its_colour(opened: Open) -> None:
    page = opened(sample_reports.rejected())
    shapes = {
        line.locator(".word").inner_text(): line.locator("svg.mark").inner_html()
        for line in page.locator(".checks tbody tr").all()
    }
    assert shapes.keys() == {"PASS", "WARN", "FAIL", "SKIP"}
    assert len(set(shapes.values())) == len(shapes)


@pytest.mark.parametrize("made", [sample_reports.report, hostile], ids=["published", "hostile"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_tiles_lie_side_by_side_in_their_picture(
    opened: Open, size: tuple[int, int], made: Callable[[], Report]
) -> None:
    seen = opened(made(), size).evaluate(TILES)
    assert seen["others"] == 0
    tiles, picture = seen["tiles"], seen["picture"]
    assert len(tiles) > 10
    for tile in tiles:
        assert tile["title"].endswith(" bytes")
        assert _holds(picture, tile["box"]), tile
        # A name of wide letters may be longer than its room was reckoned.
        assert tile["clipped"] == "hidden"
    for number, tile in enumerate(tiles):
        for other in tiles[number + 1 :]:
            assert not _overlap(tile["box"], other["box"]), (tile, other)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_large_tiles_have_their_names_and_there_is_room_for_them(opened: Open, size: tuple[int, int]) -> None:
    page = opened(sample_reports.report(), size)
    names = page.locator(".treemap:visible text.name").all_text_contents()
    assert {"scipy", "scikit-learn", "numpy", "/usr/local/lib"} <= set(names)
    for tile in page.evaluate(TILES)["tiles"]:
        for label in tile["labels"]:
            assert _holds(tile["box"], label), tile


def test_pictures_are_described_to_those_who_do_not_see_them(opened: Open) -> None:
    page = opened(sample_reports.report())
    described = page.locator("[role=img]:visible").evaluate_all("pictures => pictures.map(each => each.ariaLabel)")
    assert described[0].startswith("Labels of 38 held-out rows: setosa → setosa 13; ")
    assert described[3] == "Layer 3: 48 MB unpacked, 12 MB compressed, 14 MB stored for nothing, of 120 MB allowed"
    assert described[9] == "Treemap: Python packages 177 MB; Debian packages 65 MB; folders of no package 63 MB"
    assert described[12] == "build took 41.4 seconds"


def test_all_of_it_works_without_scripts(opened: Open) -> None:
    page = opened(sample_reports.rejected(), scripts=False)
    folded = page.get_by_text("CVE-2011-3013")
    assert not folded.is_visible()
    page.get_by_text("listed only").click()
    assert folded.is_visible()


def _holds(outer: dict[str, float], inner: dict[str, float]) -> bool:
    return (
        outer["left"] - 0.5 <= inner["left"]
        and inner["right"] <= outer["right"] + 0.5
        and outer["top"] - 0.5 <= inner["top"]
        and inner["bottom"] <= outer["bottom"] + 0.5
    )


def _overlap(one: dict[str, float], other: dict[str, float]) -> bool:
    wide = min(one["right"], other["right"]) - max(one["left"], other["left"])
    high = min(one["bottom"], other["bottom"]) - max(one["top"], other["top"])
    return wide > 0.5 and high > 0.5
