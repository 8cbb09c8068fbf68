from __future__ import annotations

from render import summary
from report import Failure, Row, Verdict
from tests.ci import examples


def test_a_published_image() -> None:
    assert (
        summary.render(examples.report())
        == f"""\
## iris-classifier

**published 127.0.0.1:5000/iris-classifier:1.2.3@{examples.MANIFEST_DIGEST}**

| | check | measured | limit |
|---|---|---|---|
| ✅ PASS | runs as non-root | USER 10001:10001, uid 10001 | not 0 |
| ✅ PASS | image size | 270 MB | 500 MB |
"""
    )


def test_what_an_image_says_is_harmless_in_markdown() -> None:
    rows = (
        Row(
            name="largest layer",
            verdict=Verdict.FAIL,
            measured="231 MB",
            limit="200 MB",
            details=("RUN echo `id` | <script>\n[x](y) & *b*_",),
        ),
    )
    failure = Failure(stage="scan", exit_code=5, what="a | b", usually="", next_step="do `this`", log="")
    report = examples.report(rows=rows, publication=None, failures=(failure,), images=examples.STAND_IN)
    assert (
        summary.render(report)
        == """\
## iris-classifier

**rejected 1 of 1 checks failed; nothing was pushed**

| | check | measured | limit |
|---|---|---|---|
| ❌ FAIL | largest layer<br>RUN echo \\`id\\` \\| &lt;script&gt; \\[x\\](y) &amp; \\*b\\*\\_ | 231 MB | 200 MB |

**scan broke:** a \\| b

Next: do \\`this\\`

Built on stand-in base images; the result is no release.
"""
    )
