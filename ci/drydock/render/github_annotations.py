"""The report as GitHub's workflow commands, which a page of the run and of the pull request shows beside the code.

Escaped as GitHub's own toolkit does (actions/toolkit, packages/core/src/command.ts): a command ends with its line.
"""

from __future__ import annotations

from drydock.report import CheckResult, Report, Verdict, units


def render(report: Report) -> str:
    """An error per failed check and per broken stage, a warning per warned check, a notice of what was published.

    GitHub shows the first ten errors and the first ten warnings of a step, so what weighs most comes first.
    """
    by_verdict = {verdict: [row for row in report.checks if row.verdict is verdict] for verdict in Verdict}
    errors = by_verdict[Verdict.FAIL]
    # Where a stage broke, its own words say why the rest was not run.
    unmade = [] if report.failures else by_verdict[Verdict.NOT_RUN]
    commands = [_row("error", row, _against(row)) for row in errors]
    commands += [
        _command("error", f"{failure.stage} broke", failure.message, failure.likely_cause, f"next: {failure.next_step}")
        for failure in report.failures
    ]
    commands += [_row("error", row, "could not be made") for row in unmade]
    commands += [_row("warning", row, _against(row)) for row in by_verdict[Verdict.WARN]]
    if report.publication:
        commands.append(_command("notice", "published", report.publication.reference))
    return "".join(commands)


def _against(row: CheckResult) -> str:
    return f"{row.measured}, limit {row.limit}" if row.limit else row.measured


def _row(name: str, row: CheckResult, first: str) -> str:
    return _command(name, row.name, first, *units.shorten_details(row.details), location=row.location)


def _command(name: str, title: str, *lines: str, location: str = "") -> str:
    message = "\n".join(filter(None, lines))
    file, _, line = location.rpartition(":")
    position = f"file={_property(file)},line={_property(line)}," if location else ""
    return units.sanitize(f"::{name} {position}title={_property(title)}::{_data(message)}") + "\n"


def _data(words: str) -> str:
    # The percent sign first, or it would escape the escapes.
    return words.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(words: str) -> str:
    return _data(words).replace(":", "%3A").replace(",", "%2C")
