from __future__ import annotations

import pytest

from drydock.render import markdown
from drydock.report import (
    MB,
    Change,
    CheckResult,
    Comparison,
    Disposition,
    Failure,
    Ignore,
    IgnoreState,
    JudgedFinding,
    Package,
    Verdict,
)
from tests.support import examples

LISTED = JudgedFinding(finding=examples.HIGH, disposition=Disposition.LISTED, age_days=None)


def test_a_published_image() -> None:
    assert (
        markdown.render(examples.report())
        == f"""\
## iris-classifier

**published** `127.0.0.1:5000/iris-classifier:1.2.3@{examples.MANIFEST_DIGEST}`

Tags: 1.2.3, sha-{examples.COMMIT}, 1.2, 1.

| verdict | check | measured | limit |
|---|---|---|---|
| ✅ PASS | runs as non-root | USER 10001:10001, uid 10001 | not 0 |
| ✅ PASS | image size | 270 MB | 500 MB |

Where the bytes are: 270 MB, pulled as 90 MB; efficiency 100.0%, 0 bytes are stored for nothing.
"""
    )


def test_the_image_before_has_a_line_and_a_table_of_the_rows() -> None:
    regression = examples.drift().groups[0].model_copy(update={"labels_changed": None})
    drift = examples.drift(groups=(*examples.drift().groups[:2], regression), findings_new=None)
    assert markdown.render(examples.report(drift=drift)).split("\n\n")[4:6] == [
        f"Beside `127.0.0.1:5000/iris-classifier:1.2.2@sha256:{'b2' * 32}`: 81 rows asked; "
        "median answer 2.1 → 2.4 ms (1.14 times); to pull 84 MB → 90 MB (1.07 times).",
        "| rows | asked | changed | mean shift | 99 % | largest |\n"
        "|---|---|---|---|---|---|\n"
        "| held-out | 40 | 2 | 0.021 | 0.3 | 0.31 |\n"
        "| golden | 2 | 0 |  |  |  |\n"
        "| held-out | 40 |  | 0.021 | 0.3 | 0.31 |",
    ]


def test_what_was_found_what_is_ignored_and_where_the_bytes_are() -> None:
    image = examples.image().model_copy(
        update={
            "packages": tuple(
                Package(name=name, version="1.0", kind="python", size_bytes=size_mb * MB)
                for name, size_mb in (("a", 1), ("scipy", 93), ("numpy", 40), ("b_c", 3), ("d", 2), ("e", 4))
            ),
            "wasted_bytes": 27 * MB,
        }
    )
    comparison = Comparison(
        image="127.0.0.1:5000/iris-classifier:1.2.2@sha256:99",
        size_before_bytes=275 * MB,
        size_after_bytes=270 * MB,
        changes=(
            Change(name="b", kind="python", version_before="1", version_after="", difference_bytes=-5 * MB),
            Change(name="d", kind="python", version_before="", version_after="1.0", difference_bytes=2 * MB),
        ),
    )
    ignore = Ignore(
        id="CVE-2024-24762",
        reason="no form is parsed",
        owner="ana@example.com",
        expires="2026-12-31",
        state=IgnoreState.ACTIVE,
    )
    row = CheckResult(
        name="answers in time", verdict=Verdict.WARN, measured="140 ms", limit="100 ms", details=("again",)
    )
    report = examples.report(
        checks=(row,),
        image=image,
        comparison=comparison,
        findings=(examples.IGNORED, examples.NO_FIX, LISTED, LISTED),
        ignores=(ignore,),
    )
    assert (
        markdown.render(report)
        == f"""\
## iris-classifier

**published** `127.0.0.1:5000/iris-classifier:1.2.3@{examples.MANIFEST_DIGEST}`

Tags: 1.2.3, sha-{examples.COMMIT}, 1.2, 1.

| verdict | check | measured | limit |
|---|---|---|---|
| ⚠️ WARN | answers in time<br>again | 140 ms | 100 ms |

| findings | severity | id | package | fixed in | age | why |
|---|---|---|---|---|---|---|
| ignored | HIGH | CVE-2024-24762 | python-multipart 0.0.6 | 0.0.7 | 1014 days old | no form is parsed (ana@&#8203;example.com, until 2026-12-31) |
| no fix yet | CRITICAL | CVE-2025-1 | libc6 2.41 |  |  |  |
| listed only |  | 2 in report.json |  |  |  |  |

| ignore | state | owner | last day | reason |
|---|---|---|---|---|
| CVE-2024-24762 | active | ana@&#8203;example.com | 2026-12-31 | no form is parsed |

Where the bytes are: 270 MB, pulled as 90 MB; efficiency 90.0%, 27 MB are stored for nothing.

| largest packages | version | size |
|---|---|---|
| scipy | 1.0 | 93 MB |
| numpy | 1.0 | 40 MB |
| e | 1.0 | 4 MB |
| b\\_c | 1.0 | 3 MB |
| d | 1.0 | 2 MB |

5 MB less than `127.0.0.1:5000/iris-classifier:1.2.2@sha256:99`; 2 packages changed.
"""  # noqa: E501
    )


def test_a_long_list_is_cut_and_what_is_ignored_never_is() -> None:
    rejecting = examples.IGNORED.model_copy(update={"disposition": Disposition.REJECTS})
    shown = markdown.render(examples.report(findings=(*[rejecting] * 27, *[examples.IGNORED] * 30)))
    assert shown.count("| rejects the image | HIGH |") == 25
    assert "| rejects the image |  | 2 more in report.json |" in shown
    assert shown.count("| ignored | HIGH |") == 30


def test_what_an_image_says_is_harmless_in_markdown() -> None:
    rows = (
        CheckResult(
            name="largest layer",
            verdict=Verdict.FAIL,
            measured="231 MB",
            limit="200 MB",
            details=("RUN echo `id` | <script>\n[x](y) & *b*_",),
        ),
    )
    failure = Failure(stage="scan", exit_code=5, message="a | b", likely_cause="", next_step="do `this`", log="")
    report = examples.report(checks=rows, publication=None, failures=(failure,), images=examples.LOCAL)
    assert (
        markdown.render(report)
        == """\
## iris-classifier

**rejected 1 of 1 checks failed; nothing was pushed**

| verdict | check | measured | limit |
|---|---|---|---|
| ❌ FAIL | largest layer<br>RUN echo \\`id\\` \\| &lt;script&gt; \\[x\\](y) &amp; \\*b\\*\\_ | 231 MB | 200 MB |

**scan broke:** a \\| b

Next: do \\`this\\`

Where the bytes are: 270 MB, pulled as 90 MB; efficiency 100.0%, 0 bytes are stored for nothing.

Built on base images made on this machine; the result cannot be released.
"""
    )


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("https://evil.example/a", "https:&#8203;//evil.example/a"),
        ("FTP://evil.example", "FTP:&#8203;//evil.example"),
        ("see WWW.evil.example", "see WWW&#8203;.evil.example"),
        ("mailto:a@evil.example", "mailto:&#8203;a@&#8203;evil.example"),
        ("XMPP:a@evil.example/room", "XMPP:&#8203;a@&#8203;evil.example/room"),
        ("ask @octocat or @owner/team", "ask @&#8203;octocat or @&#8203;owner/team"),
        ("fixes #1, owner/name#2, GH-3", "fixes #&#8203;1, owner/name#&#8203;2, GH&#8203;-3"),
        ("owner/name@0123456789abcdef", "owner/name@&#8203;0123456789abcdef"),
        ("&#64;octocat", "&amp;#&#8203;64;octocat"),
        # A space of no width that was there already is made visible, as all that nobody sees.
        ("@\u200boctocat", "@&#8203;\N{REPLACEMENT CHARACTER}octocat"),
        ("libc6 2:2.41-12+deb13u1, 4.6.0", "libc6 2:2.41-12+deb13u1, 4.6.0"),
    ],
)
def test_what_an_image_says_is_no_link_no_mention_and_no_reference(said: str, shown: str) -> None:
    row = CheckResult(name="largest layer", verdict=Verdict.FAIL, measured=said, limit="", details=())
    assert f"| {shown} |" in markdown.render(examples.report(checks=(row,)))


def test_a_reference_that_no_registry_would_write_is_no_code_span() -> None:
    publication = examples.publication().model_copy(update={"repository": "a`b"})
    assert "**published** a\\`b:1.2.3@&#8203;sha256:" in markdown.render(examples.report(publication=publication))


def test_a_long_reason_is_cut() -> None:
    details = tuple(f"CVE-{number}" for number in range(22))
    report = examples.report(
        checks=(CheckResult(name="HIGH", verdict=Verdict.FAIL, measured="22", limit="0", details=details),),
        publication=None,
    )
    expected = "CVE-18<br>CVE-19<br>2 more, in report.json |"
    assert expected in markdown.render(report)
