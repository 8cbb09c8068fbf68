"""The report as GitHub's step summary: Markdown, with tables of the checks, the findings and the ignores."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from drydock.render import text
from drydock.report import Comparison, Disposition, Drift, Image, JudgedFinding, Report, Verdict, units

MARK = {Verdict.PASS: "✅", Verdict.WARN: "⚠️", Verdict.FAIL: "❌", Verdict.SKIP: "⏭️", Verdict.NOT_RUN: "⚪"}
# GitHub takes a summary of 1 MiB or none of it; what is ignored was written by hand, and is always here.
FINDINGS_SHOWN = 25
PACKAGES_SHOWN = 5
# What GitHub makes links of, up to the next space: https://github.github.com/gfm/#autolinks-extension- and
# https://docs.github.com/en/get-started/writing-on-github/working-with-advanced-formatting/autolinked-references-and-urls
LINKED = re.compile(r"@|#|:(?=//)|(?i:\bwww(?=\.)|\b(?:mailto|xmpp):|\bgh(?=-\d))")
NO_SPACE = "&#8203;"
# As registries write a reference: no backtick, and nothing that ends a table's cell.
REFERENCE = re.compile(r"[A-Za-z0-9./:@_-]+")


def render(report: Report) -> str:
    """Title, verdict, checks, failures, findings, ignores, and the contents of the image."""
    lines = [f"## {_cell(report.image_name)}", "", _verdict(report)]
    if report.publication:
        lines += ["", f"Tags: {_cell(', '.join(report.publication.tags))}."]
    lines += _table(("verdict", "check", "measured", "limit"), _checks(report))
    if report.drift:
        lines += _drift(report.drift)
    for failure in report.failures:
        lines += ["", f"**{failure.stage} broke:** {_cell(failure.message)}", "", f"Next: {_cell(failure.next_step)}"]
    lines += _table(("findings", "severity", "id", "package", "fixed in", "age", "why"), _findings(report.findings))
    ignores = ([ignore.subject, ignore.state, ignore.owner, ignore.expires, ignore.reason] for ignore in report.ignores)
    lines += _table(("ignore", "state", "owner", "last day", "reason"), [list(map(_cell, each)) for each in ignores])
    if report.image:
        lines += _bytes(report.image)
    if report.comparison:
        lines += ["", _changes(report.comparison)]
    if consequence := text.local_consequence(report):
        lines += ["", f"Built on base images made on this machine; {consequence}."]
    return "\n".join([*lines, ""])


def _drift(drift: Drift) -> list[str]:
    """The image before, what its checks do not say, and the rows that both were asked."""
    facts = units.list_drift_facts(drift)
    titles = ("rows", "asked", "changed", "mean shift", "99 %", "largest")
    rows = (
        [
            units.ROW_ORIGINS[group.origin],
            f"{group.rows:,}",
            "" if group.labels_changed is None else f"{group.labels_changed:,}",
            *(
                [f"{value:.2g}" for value in (group.shift.mean, group.shift.percentile_99, group.shift.max)]
                if group.shift
                else [""] * 3
            ),
        ]
        for group in drift.groups
    )
    return ["", f"Beside {_code(drift.image)}: {'; '.join(facts)}.", *_table(titles, rows)] if facts else []


def _verdict(report: Report) -> str:
    if report.publication:
        return f"**published** {_code(report.publication.reference)}"
    return f"**{_cell(text.verdict(report))}**"


def _table(titles: tuple[str, ...], rows: Iterable[list[str]]) -> list[str]:
    """A Markdown table after an empty line; nothing if it has no rows. Cells are Markdown already."""
    body = [f"| {' | '.join(row)} |" for row in rows]
    return ["", f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}", *body] if body else []


def _checks(report: Report) -> Iterator[list[str]]:
    for row in report.checks:
        why = "".join(f"<br>{_cell(detail)}" for detail in units.shorten_details(row.details))
        yield [f"{MARK[row.verdict]} {row.verdict}", f"{row.name}{why}", _cell(row.measured), _cell(row.limit)]


def _findings(findings: tuple[JudgedFinding, ...]) -> Iterator[list[str]]:
    """The findings that matter for the verdict, and the number of the others of each kind."""
    for disposition in Disposition:
        judged = [each for each in findings if each.disposition is disposition]
        shown = {Disposition.IGNORED: len(judged), Disposition.LISTED: 0}.get(disposition, FINDINGS_SHOWN)
        for each in judged[:shown]:
            found = each.finding
            package = f"{found.package} {found.installed_version}"
            age = units.format_age(each)
            cells = (disposition, found.severity, found.id, package, found.fixed_version, age, each.note)
            yield list(map(_cell, cells))
        if more := len(judged[shown:]):
            yield [disposition, "", f"{more} {'more ' if shown else ''}in report.json", "", "", "", ""]


def _bytes(image: Image) -> list[str]:
    """How large the image is, how much of that is of use, and the packages that weigh most."""
    size = f"{units.format_size(image.size_bytes)}, pulled as {units.format_size(image.compressed_bytes)}"
    waste = f"efficiency {image.efficiency:.1%}, {units.format_size(image.wasted_bytes)} are stored for nothing"
    packages = sorted(image.packages, key=lambda package: package.size_bytes, reverse=True)[:PACKAGES_SHOWN]
    rows = (
        [_cell(package.name), _cell(package.version), units.format_size(package.size_bytes)] for package in packages
    )
    return ["", f"Where the bytes are: {size}; {waste}.", *_table(("largest packages", "version", "size"), rows)]


def _changes(comparison: Comparison) -> str:
    change_bytes = comparison.difference_bytes
    direction = "more" if change_bytes >= 0 else "less"
    count = len(comparison.changes)
    packages = f"{count} package{'' if count == 1 else 's'} changed"
    return f"{units.format_size(abs(change_bytes))} {direction} than {_code(comparison.image)}; {packages}."


def _cell(said: str) -> str:
    """Words from an image or a commit, harmless in a Markdown table: no cell, tag, link or code span of their own.

    Nor does GitHub make an address, a mention or a reference of them: a space of no width keeps their parts apart.
    """
    folded = units.sanitize(" ".join(said.split()))
    escaped = folded.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for character in "\\|`*_[]":
        escaped = escaped.replace(character, f"\\{character}")
    return LINKED.sub(rf"\g<0>{NO_SPACE}", escaped)


def _code(reference: str) -> str:
    """An image's reference as a code span, in which nothing is a link and from which it can be copied."""
    return f"`{reference}`" if REFERENCE.fullmatch(reference) else _cell(reference)
