"""The report as a page to look at: one file without a script, which asks for nothing over the network.

Whatever an image, a commit or an advisory says of itself is hostile here: the template escapes it, characters that
nobody sees are replaced, and only an https address becomes a link.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import squarify
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from drydock.render import drift, text
from drydock.report import MB, Disposition, Image, JudgedFinding, Report, Verdict, units
from drydock.report.drift import Shift

# The line to quote has its first word in a column of this width.
WORD_WIDTH = 11
# Which mark of a check echoes the verdict's word.
ECHOES = {"published": Verdict.PASS, "approved": Verdict.PASS, "rejected": Verdict.FAIL, "no verdict": Verdict.WARN}
# A Debian image has dozens of findings without a fix.
FINDINGS_UNFOLDED = 12
LARGEST_SHOWN = 10

KINDS = {"python": "Python packages", "debian": "Debian packages", "other": "folders of no package"}
# Shares of the whole picture: what is smaller goes into one tile a kind, and what no eye can see is left out.
SHARE_OF_ITS_OWN = 0.004
SHARE_SEEN = 0.0005
# A label's room in pixels, at the 12 px of the template's style sheet and with a face as wide as DejaVu Sans.
CHARACTER_WIDTH, LINE_HEIGHT, MARGIN = 7.5, 16, 7
FEWEST_CHARACTERS = 6


@dataclass(frozen=True)
class Bar:
    """A layer's bar; lengths are in percent of the picture's width, `waste_percent` of it at the bar's end."""

    number: int
    length_percent: float
    compressed_percent: float
    waste_percent: float
    wasted_bytes: int


@dataclass(frozen=True)
class Share:
    """Something of the finished file system that gets a tile."""

    kind: str
    name: str
    size_bytes: int
    words: str


@dataclass(frozen=True)
class Tile:
    """A share's place, in percent of the picture, and as much of its label as has room there."""

    share: Share
    x: float
    y: float
    width: float
    height: float
    name: str
    size: str


@dataclass(frozen=True)
class Canvas:
    """The size of a treemap in pixels: laid out for `width`, with labels that fit `narrowest`."""

    name: str
    width: int
    narrowest: int
    height: int


CANVASES = (
    Canvas("wide", 872, 872, 460),
    Canvas("medium", 720, 630, 460),
    Canvas("narrow", 350, 280, 620),
)


def render(report: Report) -> str:
    """The whole page, as the text of an HTML document."""
    line = text.verdict(report)
    word, words = line[:WORD_WIDTH].strip(), line[WORD_WIDTH:]
    image = report.image
    limit_bytes = _limit_bytes(report)
    return TEMPLATES.get_template("report.html.j2").render(
        report=report,
        started_at=_day_and_time(report.started_at),
        word=word,
        words=words,
        echo=ECHOES[word],
        local_consequence=text.local_consequence(report),
        counts=[(verdict, count) for verdict in Verdict if (count := _count(report, verdict))],
        findings=list(_group_findings(report.findings)),
        scale_bytes=scale_bytes(image, limit_bytes) if image else 0,
        limit_bytes=limit_bytes,
        bars=bars(image, limit_bytes) if image else (),
        treemaps=[(canvas, tiles) for canvas in CANVASES if image and (tiles := treemap(image, canvas))],
        kinds=list(_kinds(image)) if image else [],
        schema_changes=units.list_schema_changes(report.drift.schema_changes)
        if report.drift and report.drift.schema_changes
        else [],
        matrices=drift.matrices(report.drift.groups[0]) if report.drift and report.drift.groups else (),
        shift_bars=drift.bars(shift) if (shift := _judged_shift(report)) else (),
        longest_seconds=max((stage.duration_seconds for stage in report.stages), default=0.0),
        largest_shown=LARGEST_SHOWN,
        why=lambda *stages: _why(report, stages),
    )


def link(url: str) -> str:
    """The address if it may become a link, else nothing: https, and nothing that a browser reads in its own way."""
    if not url.isprintable() or re.search(r"[\s\\]", url):
        return ""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return url if parts.scheme == "https" and parts.hostname else ""


def bars(image: Image, limit_bytes: int) -> tuple[Bar, ...]:
    """A bar for each layer, all on one scale, with the limit on it; a limit of 0 is not known."""
    scale = scale_bytes(image, limit_bytes) or 1
    wasted = Counter[int]()
    for waste in image.waste:
        wasted[waste.layer] += waste.size_bytes
    return tuple(
        Bar(
            number=number,
            length_percent=_percent(layer.size_bytes, scale),
            compressed_percent=_percent(min(layer.compressed_bytes, layer.size_bytes), scale),
            waste_percent=_percent(min(wasted[number], layer.size_bytes), scale),
            wasted_bytes=wasted[number],
        )
        for number, layer in enumerate(image.layers, start=1)
    )


def scale_bytes(image: Image, limit_bytes: int) -> int:
    """What the full width of the layers' picture stands for."""
    return max([limit_bytes, *(layer.size_bytes for layer in image.layers)])


def treemap(image: Image, canvas: Canvas) -> tuple[Tile, ...]:
    """The finished file system as tiles of the area of their bytes, those of a kind side by side.

    The layout is "Squarified Treemaps" by Bruls, Huizing and van Wijk: kinds first, then shares within each.
    """
    shares = list(_shares(image))
    whole = sum(share.size_bytes for share in shares)
    by_kind = {
        kind: _visible_shares([share for share in shares if share.kind == kind and share.size_bytes], whole)
        for kind in KINDS
    }
    kinds = sorted((kind for kind in KINDS if by_kind[kind]), key=lambda kind: -_total(by_kind[kind]))
    areas = _areas([_total(by_kind[kind]) for kind in kinds], 0.0, 0.0, float(canvas.width), float(canvas.height))
    return tuple(
        _tile(share, area, canvas)
        for kind, within in zip(kinds, areas, strict=True)
        for share, area in zip(
            by_kind[kind], _areas([share.size_bytes for share in by_kind[kind]], *within), strict=True
        )
    )


Area = tuple[float, float, float, float]


def _areas(sizes_bytes: list[int], x: float, y: float, width: float, height: float) -> list[Area]:
    normal = squarify.normalize_sizes(sizes_bytes, width, height) if sizes_bytes else []
    return [(each["x"], each["y"], each["dx"], each["dy"]) for each in squarify.squarify(normal, x, y, width, height)]


def _shares(image: Image) -> Iterator[Share]:
    for package in image.packages:
        words = f"{package.name} {package.version}".strip()
        yield Share(package.kind, package.name, package.size_bytes, words)
    for folder in image.other_folders:
        yield Share("other", folder.name, folder.size_bytes, folder.name)


def _visible_shares(shares: list[Share], whole_bytes: int) -> list[Share]:
    """The shares of one kind that get a tile, largest first; the small ones are one together."""
    large = [share for share in shares if share.size_bytes >= SHARE_OF_ITS_OWN * whole_bytes]
    small = [share for share in shares if share.size_bytes < SHARE_OF_ITS_OWN * whole_bytes]
    if len(small) == 1:
        large, small = shares, []
    if small:
        more = f"{len(small)} more"
        large.append(Share(small[0].kind, more, _total(small), f"{more} of the {KINDS[small[0].kind]}"))
    seen = [share for share in large if share.size_bytes >= SHARE_SEEN * whole_bytes]
    return sorted(seen, key=lambda share: share.size_bytes, reverse=True)


def _tile(share: Share, area: Area, canvas: Canvas) -> Tile:
    x, y, width, height = area
    room_width = width * canvas.narrowest / canvas.width - 2 * MARGIN
    lines = int((height - MARGIN) / LINE_HEIGHT)
    name = _fitting(share.name, room_width) if lines else ""
    size = units.format_size(share.size_bytes)
    return Tile(
        share=share,
        x=_percent(x, canvas.width),
        y=_percent(y, canvas.height),
        width=_percent(width, canvas.width),
        height=_percent(height, canvas.height),
        name=name,
        size=size if name and lines > 1 and len(size) * CHARACTER_WIDTH <= room_width else "",
    )


def _fitting(name: str, room_width: float) -> str:
    room = int(room_width / CHARACTER_WIDTH)
    if len(name) <= room:
        return name
    if room < FEWEST_CHARACTERS:
        return ""
    # A path is known by its end.
    return f"…{name[1 - room :]}" if name.startswith("/") else f"{name[: room - 1]}…"


def _kinds(image: Image) -> Iterator[tuple[str, str, int]]:
    """Each kind that the treemap shows, in words, and its bytes."""
    total = Counter[str]()
    for share in _shares(image):
        total[share.kind] += share.size_bytes
    for kind, title in KINDS.items():
        if total[kind]:
            yield kind, title, total[kind]


def _group_findings(findings: Iterable[JudgedFinding]) -> Iterator[tuple[Disposition, list[JudgedFinding], bool]]:
    """The findings by what they mean, in their order; long lists of what rejects nothing begin folded."""
    for disposition, judged in itertools.groupby(findings, key=lambda each: each.disposition):
        group = list(judged)
        harmless = disposition in (Disposition.UNFIXED, Disposition.LISTED)
        yield disposition, group, not harmless or len(group) <= FINDINGS_UNFOLDED


def _limit_bytes(report: Report) -> int:
    """The limit of a layer, from the result of its check; 0 if it has none."""
    limits = [re.fullmatch(r"([0-9]+) MB", row.limit) for row in report.checks if row.name == "largest layer"]
    return int(limits[0][1]) * MB if limits and limits[0] else 0


def _judged_shift(report: Report) -> Shift | None:
    return report.drift.groups[0].shift if report.drift and report.drift.groups else None


def _why(report: Report, stages: tuple[str, ...]) -> str:
    """Why the facts of these stages are missing."""
    for failure in report.failures:
        if failure.stage in stages:
            return failure.message
    return f"{report.failures[0].stage} broke before it" if report.failures else "the run ended before it"


def _count(report: Report, verdict: Verdict) -> int:
    return sum(row.verdict is verdict for row in report.checks)


def _total(shares: Iterable[Share]) -> int:
    return sum(share.size_bytes for share in shares)


def _percent(part: float, whole: float) -> float:
    return round(100 * part / whole, 3)


def _day_and_time(moment: str) -> str:
    return f"{datetime.fromisoformat(moment).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _visible(value: object) -> object:
    """Nothing that reorders, hides or ends a page's text; what the template itself made stays as it is."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return "".join(
        character if character.isprintable() or character == "\n" else "\N{REPLACEMENT CHARACTER}"
        for character in value.expandtabs(8)
    )


TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    finalize=_visible,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.filters |= {
    "size": units.format_size,
    "difference": units.format_difference,
    "link": link,
    "moment": _day_and_time,
    "equivalence": units.describe_equivalence,
    "score": units.format_score,
    "features": units.list_features,
    "labels": units.format_labels,
    "origin": units.ROW_ORIGINS.get,
}
