"""The report as GitHub's step summary: Markdown with one table."""

from __future__ import annotations

from render import text
from report import Report, Verdict

MARK = {Verdict.PASS: "✅", Verdict.FAIL: "❌", Verdict.SKIP: "⏭️", Verdict.NOT_RUN: "⚪"}


def render(report: Report) -> str:
    """Title, verdict, the table of the checks, and what broke."""
    lines = [
        f"## {report.image_name}",
        "",
        f"**{_cell(text.verdict(report))}**",
        "",
        "| | check | measured | limit |",
        "|---|---|---|---|",
    ]
    for row in report.rows:
        why = "".join(f"<br>{_cell(detail)}" for detail in row.details)
        lines.append(
            f"| {MARK[row.verdict]} {row.verdict} | {row.name}{why} | {_cell(row.measured)} | {_cell(row.limit)} |"
        )
    for failure in report.failures:
        lines += ["", f"**{failure.stage} broke:** {_cell(failure.what)}", "", f"Next: {_cell(failure.next_step)}"]
    if report.images.world == "stand-in":
        lines += ["", "Built on stand-in base images; the result is no release."]
    return "\n".join([*lines, ""])


def _cell(words: str) -> str:
    """Words from an image or a commit, harmless in a Markdown table: no cell, tag, link or code span of their own."""
    folded = " ".join(words.split())
    escaped = folded.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for character in "\\|`*_[]":
        escaped = escaped.replace(character, f"\\{character}")
    return escaped
