"""The report as a terminal shows it, in plain text: colour only echoes the words. The last line is the one to quote."""

from __future__ import annotations

from report import MB, Report, Verdict

LABEL = " {verdict:<7} {name:<28} {measured:<28} {limit}"
DETAIL_INDENT = " " * 9


def render(report: Report) -> str:
    """The table of a run, what broke in it, and its verdict."""
    lines = [_header(report), ""]
    for row in report.rows:
        limit = f"limit {row.limit}" if row.limit else ""
        # What was not measured has its reason where the measurement would stand.
        measured, details = (row.measured, row.details) if row.measured else (row.details[0], row.details[1:])
        lines.append(LABEL.format(verdict=row.verdict, name=row.name, measured=measured, limit=limit).rstrip())
        lines += [f"{DETAIL_INDENT}{'→ ' if number == 0 else '  '}{detail}" for number, detail in enumerate(details)]
    for failure in report.failures:
        lines += ["", f"{failure.stage} broke: {failure.what}"]
        lines += [f"  {line}" for line in failure.log.splitlines()]
        if failure.usually:
            lines.append(f"  usually   {failure.usually}")
        lines.append(f"  next      {failure.next_step}")
    if report.images.world == "stand-in":
        lines += ["", "stand-in   base images and advisories are this machine's own; the result is no release"]
    return "\n".join([*lines, "", verdict(report), ""])


def verdict(report: Report) -> str:
    """The one line to quote: published, approved, rejected or no verdict."""
    if report.publication:
        return f"published  {report.publication.reference}"
    if any(row.verdict is Verdict.FAIL for row in report.rows):
        failed = sum(row.verdict is Verdict.FAIL for row in report.rows)
        return f"rejected   {failed} of {len(report.rows)} checks failed; nothing was pushed"
    if report.failures:
        return f"no verdict {report.failures[0].stage} broke (exit code {report.exit_code}); nothing was pushed"
    if report.exit_code == 0:
        digest = report.image.manifest_digest if report.image else ""
        return f"approved   {report.image_name}@{digest}; not pushed, as asked"
    return "rejected   no check passed; nothing was pushed"


def _commit(report: Report) -> str:
    return report.revision.commit[:12] + ("-dirty" if report.revision.dirty else "")


def _header(report: Report) -> str:
    durations = {stage.name: stage.duration_seconds for stage in report.stages}
    took = [
        f"{name} {durations[name]:.0f} s"
        for name in ("train", "build", "smoke", "scan", "publish")
        if name in durations
    ]
    size = f"{round(report.image.size_bytes / MB)} MB" if report.image else "not built"
    return f"image      {report.image_name} {_commit(report)}   {size}   {', '.join(took)}".rstrip()
