from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser

import pytest

from drydock.render import html
from drydock.report import (
    CheckResult,
    Contributor,
    Disposition,
    Drift,
    Failure,
    Feature,
    Finding,
    Holdout,
    Ignore,
    IgnoreState,
    JudgedFinding,
    Layer,
    Package,
    Report,
    Stage,
    Updates,
    Verdict,
    Waste,
)
from drydock.report.drift import LabelChange, LabelPair
from tests.support import examples, sample_reports

HOSTILE = (
    "</title></style><script>alert(1)</script>\"'><img src=https://evil.example/x onerror=alert(1)>\u202e\x00"
    + "W" * 150
)
REPORTS: dict[str, Callable[[], Report]] = {
    "published": sample_reports.report,
    "rejected": sample_reports.rejected,
    "interrupted": sample_reports.interrupted,
    "without a verdict": sample_reports.no_verdict,
    "small": examples.report,
    "hostile": lambda: hostile(),
}
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """A page as its elements, with their attributes, and the words of each section."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.sections: dict[str, str] = {}
        self.open: list[str] = []
        self._section = "header"
        self._style = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.elements.append((tag, attributes))
        if tag == "section":
            self._section = attributes["id"]
        if tag == "footer":
            self._section = "footer"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "head" not in self.open:
            self.sections[self._section] = f"{self.sections.get(self._section, '')} {data}"

    def words(self, section: str) -> str:
        return " ".join(self.sections[section].split())

    def links(self) -> list[str]:
        return [attributes["href"] for tag, attributes in self.elements if tag == "a"]


def page(report: Report) -> Page:
    return Page(html.render(report))


def hostile() -> Report:
    """A report all of whose words are an attack."""
    report = sample_reports.rejected()
    finding = Finding(
        id=HOSTILE,
        package=HOSTILE,
        installed_version=HOSTILE,
        fixed_version=HOSTILE,
        severity=HOSTILE,
        title=HOSTILE,
        url="javascript:alert(1)",
    )
    layer = Layer(
        digest=HOSTILE,
        created_by=HOSTILE,
        compressed_bytes=1_000_000,
        size_bytes=90_000_000,
        largest=(Contributor(name=HOSTILE, size_bytes=9_000_000),),
    )
    assert report.image and report.contract and report.scan and report.comparison and report.smoke
    image = report.image.model_copy(
        update={
            "layers": (layer,),
            "packages": tuple(package.model_copy(update={"name": HOSTILE}) for package in report.image.packages),
            "other_folders": (Contributor(name=f"/{HOSTILE}", size_bytes=50_000_000),),
            "files": tuple(file.model_copy(update={"path": HOSTILE}) for file in report.image.files),
            "waste": (Waste(path=HOSTILE, size_bytes=5_000_000, layer=1, why="removed"),),
        }
    )
    failure = Failure(stage=HOSTILE, exit_code=5, message=HOSTILE, likely_cause=HOSTILE, next_step=HOSTILE, log=HOSTILE)
    words = {"measured": HOSTILE, "limit": HOSTILE, "details": (HOSTILE, HOSTILE)}
    changes = tuple(change.model_copy(update={"name": HOSTILE}) for change in report.comparison.changes)
    drift = sample_reports.drift()
    schema = drift.schema_changes
    assert schema
    judged = drift.groups[0].model_copy(
        update={
            "label_pairs": (LabelPair(before=HOSTILE, after="a", rows=1), LabelPair(before="a", after=None, rows=2)),
            "label_changes": (LabelChange(row=1, before=HOSTILE, after=(HOSTILE, 1)),),
        }
    )
    return report.model_copy(
        update={
            "image_name": HOSTILE,
            "tag": HOSTILE,
            "revision": report.revision.model_copy(update={"commit": HOSTILE, "source_url": "javascript:alert(1)"}),
            "image": image,
            "contract": report.contract.model_copy(
                update={
                    "name": HOSTILE,
                    "features": (Feature(name=HOSTILE, type="category", values=(HOSTILE,)),),
                    "labels": (HOSTILE,),
                    "holdout": Holdout(rows=1, scores={HOSTILE: 1.0}),
                }
            ),
            "drift": drift.model_copy(
                update={
                    "image": HOSTILE,
                    "groups": (judged,),
                    "notes": (HOSTILE,),
                    "schema_changes": schema.model_copy(update={"features_added": (HOSTILE,)}),
                    "findings_new": (finding,),
                }
            ),
            "scan": report.scan.model_copy(update={"os_family": HOSTILE, "database_source": HOSTILE}),
            "updates": Updates(reason=HOSTILE),
            "comparison": report.comparison.model_copy(update={"image": HOSTILE, "changes": changes}),
            "findings": (JudgedFinding(finding=finding, disposition=Disposition.REJECTS, age_days=1, note=HOSTILE),),
            "ignores": (Ignore(id=HOSTILE, reason=HOSTILE, owner=HOSTILE, expires=HOSTILE, state=IgnoreState.EXPIRED),),
            "checks": tuple(row.model_copy(update=words) for row in report.checks),
            "stages": (Stage(name=HOSTILE, duration_seconds=1.0),),
            "failures": (failure,),
        }
    )


def test_the_words_above_the_fold_and_the_checks() -> None:
    rows = (
        CheckResult(name="image size", measured="270 MB", limit="500 MB", verdict=Verdict.PASS),
        CheckResult(
            name="answers in time", measured="180 ms", limit="100 ms", verdict=Verdict.WARN, details=("busy?",)
        ),
        CheckResult(
            name="secrets in the image", measured="", limit="", verdict=Verdict.NOT_RUN, details=("no", "more")
        ),
    )
    shown = page(examples.report(checks=rows))
    assert shown.words("header") == (
        f"iris-classifier commit 1f3c9e2ab0d1 tag 1.2.3 tag sha-{examples.COMMIT} tag 1.2 tag 1 "
        "2026-11-22 12:00 UTC source "
        f"published 127.0.0.1:5000/iris-classifier:1.2.3@{examples.MANIFEST_DIGEST} "
        f"digest to deploy {examples.MANIFEST_DIGEST}"
    )
    assert shown.words("checks") == (
        "Checks 1 PASS, 1 WARN, 1 NOT RUN verdict check measured limit "
        "PASS image size 270 MB 500 MB "
        "WARN answers in time busy? 180 ms 100 ms "
        "NOT RUN secrets in the image more no"
    )


def test_the_sections_of_a_published_image() -> None:
    shown = page(sample_reports.report())
    assert list(shown.sections) == [
        *("header", "checks", "before", "findings", "layers", "packages", "stages", "bytes"),
        *("golden", "scanner", "bases", "model", "footer"),
    ]
    assert shown.words("golden") == ("Golden rows 12 asked 6 ms median answer 143 ms slowest answer 1.2 s until ready")
    assert shown.words("stages").endswith(
        "build 41.4 s inspect 2.3 s pending-updates 4.9 s smoke 6.4 s scan 8.8 s tag 1.7 s"
    )
    assert "95.3 % efficiency 15 MB stored for nothing +12 MB since the release before" in shown.words("bytes")
    assert "scipy 1.15.0 → 1.16.0 +12 MB narwhals 2.14.0 is new +390 kB sniffio 1.3.1 is gone -60 kB" in shown.words(
        "bytes"
    )
    assert shown.words("scanner") == (
        "Scanner Trivy 0.74.0 advisories from mirror.gcr.io/aquasec/trivy-db:2 "
        "their age 12 h when used, version 2 of 2026-11-22 00:00 UTC their digest sha256:db canary 2 of 2 found "
        "system debian 13.1, 78 packages Python packages 19 updates of the system 1 pending, 0 of them for security"
    )
    assert "accuracy 94.7 % on 38 rows that it had not seen" in shown.words("model")
    assert "runtime" not in shown.words("model")


def test_a_lean_model_is_said_to_be_equal() -> None:
    shown = page(examples.report(contract=examples.LEAN))
    assert (
        "runtime compiled, equivalent to the trained one on 11,083 rows: largest difference 3e-07, limit 1e-06"
        in shown.words("model")
    )


def test_a_regression_has_its_scores_and_no_labels() -> None:
    shown = page(examples.report(contract=examples.REGRESSION)).words("model")
    assert shown == (
        "Model name house-prices, regression r2 0.451 (0.310 to 0.550) on 111 rows that it had not seen "
        "mean absolute error 44.1 (39.2 to 49.7) on 111 rows that it had not seen features width, height "
        f"file model.pkl, 42 bytes sha256 {examples.MODEL_SHA256}"
    )


def test_features_that_are_no_numbers_say_their_type() -> None:
    shown = page(examples.report(contract=examples.MIXED)).words("model")
    assert shown == (
        "Model name ticket-router, classification accuracy 90.0 % (75.0 % to 100.0 %) on 20 rows that it had not seen "
        "features state (category), age, text (string) labels urgent, later "
        f"file model.pkl, 42 bytes sha256 {examples.MODEL_SHA256}"
    )


def test_findings_come_by_what_they_mean_and_ignores_are_all_there() -> None:
    words = page(sample_reports.rejected()).words("findings")
    head = "severity id package installed → fixed age"
    assert words.startswith(
        "Findings 20 in 97 packages "
        f"rejects the image 1 {head} HIGH GHSA-7f5h-v6xp-fcq8 starlette Range header merging is quadratic "
        "0.48.0 → 0.49.1 28 days "
        f"ignored 1 {head} HIGH CVE-2025-45582 tar Files are written beside the target "
        "nothing in the image unpacks a tar (ana@example.com, until 2026-12-31) 1.35+dfsg-3.1 → 1.35+dfsg-4 134 days "
        f"no fix yet 3 {head} CRITICAL CVE-2026-0861 libc6 Overflow in memalign 2.41-12 → no fix yet 1 day "
        "HIGH CVE-2025-6297 dpkg 1.22.21 → no fix yet 143 days "
        "HIGH CVE-2025-7458 libsqlite3-0 Integer overflow 3.46.1-7 → no fix yet not known listed only 15"
    )
    assert words.endswith(
        "Ignores state id reason owner last day "
        "active CVE-2025-45582 nothing in the image unpacks a tar ana@example.com 2026-12-31 "
        "expired GHSA-7f5h-v6xp-fcq8 the server sends no files ben@example.com 2026-11-01 "
        "unused CVE-2024-47874 forms are never parsed ana@example.com 2027-01-15"
    )


def test_only_a_long_list_of_what_rejects_nothing_begins_folded() -> None:
    groups = [attributes for tag, attributes in page(sample_reports.rejected()).elements if tag == "details"]
    assert ["open" in group for group in groups] == [True, True, True, False]
    rejecting = page(examples.report(findings=(sample_reports.FINDINGS[0],) * 20))
    assert ["open" in attributes for tag, attributes in rejecting.elements if tag == "details"] == [True]


@pytest.mark.parametrize(
    ("report", "word", "words"),
    [
        (sample_reports.rejected(), "rejected", "2 of 13 checks failed; nothing was pushed"),
        (sample_reports.interrupted(), "no verdict", "build broke (exit code 130); nothing was pushed"),
        (sample_reports.no_verdict(), "no verdict", "scan broke (exit code 5); nothing was pushed"),
        (
            examples.report(publication=None, push=False),
            "approved",
            f"iris-classifier@{examples.MANIFEST_DIGEST}; not pushed, as asked",
        ),
    ],
)
def test_the_verdict_has_the_words_of_the_terminal(report: Report, word: str, words: str) -> None:
    shown = page(report)
    assert f" {word} {words}" in shown.words("header")
    assert "digest to deploy" not in shown.words("header")


def test_the_page_names_local_base_images_and_a_dirty_tree() -> None:
    words = page(sample_reports.rejected()).words("header")
    assert "commit 1f3c9e2ab0d1 with uncommitted changes" in words
    assert words.endswith("Local. Base images and advisories were made on this machine; the result cannot be released.")
    assert "Stand-in" not in html.render(sample_reports.report())


def test_what_broke_has_its_next_step_and_its_log() -> None:
    assert page(sample_reports.no_verdict()).words("broke") == (
        "What broke scan broke: Trivy stopped without a report (exit code 1) "
        "usually its database is damaged, or was written by another version "
        "next fetch the database anew: drydock bootstrap clean, then make run exit code 5 log, 2 lines "
        "2026-11-22T12:00:41Z INFO [vuln] Vulnerability scanning is enabled "
        "2026-11-22T12:00:42Z FATAL Fatal error run error: init error: DB error: failed to open bolt: invalid"
    )
    assert 'id="broke"' not in html.render(sample_reports.report())


def test_the_image_before_has_a_picture_of_the_labels() -> None:
    shown = page(sample_reports.report())
    matrix = "setosa versicolor virginica setosa versicolor virginica"
    assert shown.words("before") == (
        f"Beside the image before {examples.REPOSITORY}:1.2.2@sha256:{'b7' * 32} "
        "2 of 38 rows with another label 0.021 mean shift, in probabilities 2.4 ms median answer, 2.1 ms before "
        "90 MB to pull, 84 MB before 0 new findings, 1 gone "
        f"Labels before, downwards, and now, to the right {matrix} {CELLS} 1 2 3 1 setosa 2 versicolor 3 virginica "
        f"{CELLS} Rows that both were asked; the first are judged rows asked changed mean shift 99 % largest "
        "held-out 38 2 0.021 0.3 0.31 golden 2 0 - - - between 39 3 - - - "
        "Rows with another label line of reference.jsonl before → now 17 versicolor → virginica "
        "31 virginica → versicolor Findings that are gone id package severity CVE-2025-1 libc6 2.41 CRITICAL "
        "What a client has to change feature petal width (cm): number → integer "
        "2 of 81 rows were not asked: time was up"
    )
    labels = [
        attributes["aria-label"] for tag, attributes in shown.elements if attributes.get("class") == "matrix desk"
    ]
    assert labels == [
        "Labels of 38 held-out rows: setosa → setosa 13; versicolor → versicolor 11; versicolor → virginica 1; "
        "virginica → versicolor 1; virginica → virginica 12"
    ]


CELLS = (
    "setosa → setosa: 13 rows 13 setosa → versicolor: 0 rows setosa → virginica: 0 rows "
    "versicolor → setosa: 0 rows versicolor → versicolor: 11 rows 11 versicolor → virginica: 1 rows 1 "
    "virginica → setosa: 0 rows virginica → versicolor: 1 rows 1 virginica → virginica: 12 rows 12"
)


def test_values_have_a_picture_of_their_shift() -> None:
    moved = (
        examples.drift().groups[0].model_copy(update={"labels_changed": None, "label_pairs": (), "label_changes": ()})
    )
    words = page(examples.report(drift=examples.drift(groups=(moved,)))).words("before")
    assert "Rows by their shift, from 0 to 0.31 from 0 to 0.031: 36 rows 36 from 0.031 to 0.062: 2 rows 2" in words
    assert "another label" not in words


def test_an_image_that_was_not_compared_says_why() -> None:
    assert page(examples.report(drift=Drift(reason="it is the first one"))).words("before") == (
        "Beside the image before not compared: it is the first one"
    )
    silent = examples.drift(reason="the image before answered HTTP 500", groups=(), median_seconds=None)
    assert (
        page(examples.report(drift=silent))
        .words("before")
        .startswith(
            f"Beside the image before {silent.image} not compared: the image before answered HTTP 500 90 MB to pull"
        )
    )
    assert page(sample_reports.interrupted()).words("before") == (
        "Beside the image before not known: build broke before it"
    )


def test_what_is_missing_says_why() -> None:
    report = sample_reports.interrupted().model_copy(update={"contract": None, "stages": ()})
    shown = page(report)
    assert shown.words("layers") == "Layers not known: stopped by a signal"
    assert shown.words("golden") == "Golden rows not known: build broke before it"
    assert shown.words("findings") == (
        "Findings not known: build broke before it Ignores not known: build broke before it"
    )
    assert shown.words("model") == "Model not known: build broke before it"
    assert not {"packages", "stages"} & shown.sections.keys()
    nothing = page(report.model_copy(update={"checks": (), "failures": ()}))
    assert nothing.words("checks") == "Checks not known: the run ended before it"


def test_what_never_got_ready_was_not_asked() -> None:
    shown = page(examples.report(smoke=examples.smoke(ready_seconds=None, not_ready="it ended at once")))
    assert shown.words("golden") == "Golden rows not known: the image never became ready: it ended at once"


def test_an_image_without_findings_and_a_policy_without_ignores() -> None:
    assert page(examples.report()).words("findings") == (
        "Findings 0 in 80 packages No advisory names any of the 80 packages. Ignores The policy ignores nothing."
    )


@pytest.mark.parametrize("made", REPORTS.values(), ids=REPORTS)
def test_nothing_runs_and_nothing_is_fetched(made: Callable[[], Report]) -> None:
    written = html.render(made())
    shown = Page(written)
    assert shown.open == []
    tags = {tag for tag, _ in shown.elements}
    assert not tags & {"script", "img", "link", "iframe", "object", "embed", "base", "form", "image", "foreignobject"}
    for tag, attributes in shown.elements:
        assert not [name for name in attributes if name.startswith("on")]
        assert not {"src", "srcset", "xlink:href", "action", "data", "poster", "background"} & attributes.keys()
        assert attributes.get("http-equiv") in (None, "Content-Security-Policy")
        if "href" in attributes:
            assert tag == "a"
            assert attributes["href"].startswith("https://")
            assert attributes["rel"] == "noopener noreferrer"
    assert set(re.findall(r"url\(([^)]*)\)", written)) <= {"#hatch"}
    assert "@import" not in written
    assert "default-src 'none'; style-src 'unsafe-inline'" in written


def test_words_of_an_image_stay_words() -> None:
    written = html.render(hostile())
    assert "<script" not in written
    assert "<img" not in written
    assert "\u202e" not in written
    assert "\x00" not in written
    shown = Page(written)
    assert "<script>alert(1)</script>" in shown.words("findings")
    assert shown.links() == []


@pytest.mark.parametrize(
    ("url", "linked"),
    [
        ("https://example.org/CVE-1?a=1&b=2", "https://example.org/CVE-1?a=1&b=2"),
        ("HTTPS://example.org", "HTTPS://example.org"),
        ("http://example.org", ""),
        ("javascript:alert(1)", ""),
        ("java\nscript:alert(1)", ""),
        ("https:alert(1)", ""),
        ("https://exa mple.org", ""),
        ("https:\\\\example.org", ""),
        ("https://[example.org", ""),
        ("//example.org", ""),
        ("data:text/html,x", ""),
        ("", ""),
    ],
)
def test_only_an_https_address_becomes_a_link(url: str, linked: str) -> None:
    assert html.link(url) == linked


def test_a_findings_address_and_the_commits_are_links() -> None:
    finding = JudgedFinding(finding=examples.HIGH, disposition=Disposition.REJECTS, age_days=None)
    assert page(examples.report(findings=(finding,))).links() == [
        "https://github.com/owner/name",
        "https://example.org/CVE-2024-24762",
    ]


def test_the_layers_bars_share_one_scale_with_the_limit() -> None:
    layers = (
        Layer(digest="a", created_by="", compressed_bytes=50_000_000, size_bytes=100_000_000),
        Layer(digest="b", created_by="", compressed_bytes=300, size_bytes=0),
    )
    waste = (Waste(path="x", size_bytes=10_000_000, layer=1, why="removed"),)
    image = examples.image(*layers).model_copy(update={"waste": waste})
    first, second = html.bars(image, 200_000_000)
    assert (first.length_percent, first.compressed_percent, first.waste_percent) == (50.0, 25.0, 5.0)
    assert (second.length_percent, second.compressed_percent, second.waste_percent) == (0.0, 0.0, 0.0)
    assert [bar.length_percent for bar in html.bars(image, 0)] == [100.0, 0.0]
    (empty,) = html.bars(examples.image(layers[1]), 0)
    assert (empty.length_percent, empty.compressed_percent) == (0.0, 0.0)


@pytest.mark.parametrize(("limit", "drawn"), [("200 MB", True), ("", False), ("3 layers", False)])
def test_the_limit_is_drawn_where_the_row_says_it(limit: str, *, drawn: bool) -> None:
    row = CheckResult(name="largest layer", measured="150 MB", limit=limit, verdict=Verdict.PASS)
    written = html.render(examples.report(checks=(row,)))
    assert ("MB allowed" in written) is drawn
    assert ('<line class="limit-line" x1="100.0%"' in written) is drawn


@pytest.mark.parametrize("canvas", html.CANVASES, ids=lambda canvas: canvas.name)
def test_the_treemaps_areas_are_bytes(canvas: html.Canvas) -> None:
    image = sample_reports.image()
    tiles = html.treemap(image, canvas)
    whole = sum(each.size_bytes for each in image.packages) + sum(each.size_bytes for each in image.other_folders)
    for tile in tiles:
        assert tile.width * tile.height / 100**2 == pytest.approx(tile.share.size_bytes / whole, rel=0.01)
        assert -0.01 <= tile.x <= tile.x + tile.width <= 100.01
        assert -0.01 <= tile.y <= tile.y + tile.height <= 100.01
    assert sum(tile.share.size_bytes for tile in tiles) == whole


def test_small_packages_are_one_tile_and_no_tile_is_less_than_an_eye_can_see() -> None:
    packages = [
        Package(name=f"p{size}", version="1", kind="python", size_bytes=size) for size in (900_000, 3_000, 2_000)
    ]
    packages.append(Package(name="alone", version="1", kind="debian", size_bytes=100))
    image = examples.image().model_copy(update={"packages": tuple(packages)})
    tiles = html.treemap(image, html.CANVASES[0])
    assert [(tile.share.words, tile.share.size_bytes) for tile in tiles] == [
        ("p900000 1", 900_000),
        ("2 more of the Python packages", 5_000),
    ]


def test_a_single_small_package_keeps_its_name() -> None:
    packages = [Package(name=f"p{size}", version="1", kind="python", size_bytes=size) for size in (900_000, 3_000)]
    image = examples.image().model_copy(update={"packages": tuple(packages)})
    assert [tile.share.words for tile in html.treemap(image, html.CANVASES[0])] == ["p900000 1", "p3000 1"]


def test_a_label_has_as_much_of_a_name_as_there_is_room_for() -> None:
    def labels(name: str, width: int) -> tuple[str, str]:
        package = Package(name=name, version="1", kind="python", size_bytes=9_000_000)
        image = examples.image().model_copy(update={"packages": (package,)})
        (tile,) = html.treemap(image, html.Canvas("test", width, width, 100))
        return tile.name, tile.size

    assert labels("scikit-learn", 300) == ("scikit-learn", "9 MB")
    assert labels("scikit-learn", 80) == ("scikit-…", "9 MB")
    assert labels("/usr/share/zoneinfo", 80) == ("…oneinfo", "9 MB")
    assert labels("scikit-learn", 46) == ("", "")


def test_an_image_of_unknown_contents_has_no_treemap() -> None:
    assert "packages" in page(sample_reports.report()).sections
    assert "packages" not in page(examples.report()).sections
