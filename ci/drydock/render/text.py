"""The report as a terminal shows it, in plain text: colour only echoes the words. The last line is the one to quote."""

from __future__ import annotations

from collections.abc import Iterable

from drydock.errors import VersionTaken
from drydock.oci.tags import is_version
from drydock.render import layers
from drydock.report import Assessment, CheckResult, Disposition, Failure, Publication, Report, Verdict, units

LABEL = " {verdict:<7} {name:<28} {measured:<28} {limit}"
DETAIL_INDENT = " " * 9
BEFORE_INDENT = " " * 11
# A Debian image has dozens without a fix; report.json has all of them.
UNFIXED_SHOWN = 10


def render(report: Report) -> str:
    """The table of a run, what it let through, what broke in it, and its verdict."""
    lines = [_header(report), *_model(report), ""]
    # The terminal has the first details of a row, and report.json all of them.
    lines += _rows(row.model_copy(update={"details": units.shorten_details(row.details)}) for row in report.checks)
    lines += _drift(report)
    lines += _let_through(report)
    if report.image:
        lines += ["", *layers.section(report.image, report.comparison)]
    for failure in report.failures:
        lines += ["", f"{failure.stage} broke: {failure.message}"]
        lines += [f"  {line}" for line in failure.log.splitlines()]
        if failure.likely_cause:
            lines.append(f"  usually   {failure.likely_cause}")
        lines.append(f"  next      {failure.next_step}")
    if consequence := local_consequence(report):
        lines += ["", f"local      base images and advisories were made on this machine; {consequence}"]
    lines.append("")
    if report.publication:
        lines += _publication_lines(report.publication)
    if warned := sum(row.verdict is Verdict.WARN for row in report.checks):
        lines.append(f"warned     {warned} of {len(report.checks)} checks; read them above")
    return "\n".join([*map(units.sanitize, [*lines, verdict(report)]), ""])


def assessment(assessed: Assessment) -> str:
    """What was found about published images, in the same form and in full, and what to quote of it."""
    return "\n".join([*map(units.sanitize, [*_rows(assessed.checks), "", assessed.conclusion]), ""])


def verdict(report: Report) -> str:
    """The one line to quote: published, approved, rejected or no verdict."""
    counts = {verdict: sum(row.verdict is verdict for row in report.checks) for verdict in Verdict}
    if report.publication:
        return f"published  {report.publication.reference}"
    if failed := counts[Verdict.FAIL]:
        return f"rejected   {failed} of {len(report.checks)} checks failed; nothing was pushed"
    if report.failures:
        first = report.failures[0]
        return f"no verdict {first.stage} broke (exit code {report.exit_code}); {_push_outcome(first)}"
    if not_run := counts[Verdict.NOT_RUN]:
        return f"rejected   {not_run} of {len(report.checks)} checks could not be made; nothing was pushed"
    if report.exit_code == 0:
        digest = report.image.manifest_digest if report.image else ""
        return f"approved   {report.image_name}@{digest}; not pushed, as asked"
    return "rejected   no check passed; nothing was pushed"


def local_consequence(report: Report) -> str:
    """What follows for the image if its base images were made on this machine; empty if they were not."""
    if report.images.base_images == "official":
        return ""
    if report.publication and is_version(report.publication.tag):
        return "published for trying out, and verify warns of it"
    return "the result cannot be released"


def _publication_lines(publication: Publication) -> list[str]:
    """What a reader of the last line may want to know besides."""
    return [
        *(
            ["existed    it was there already under this tag, with this very digest"]
            if publication.already_published
            else []
        ),
        *(f"replaced   {tag} was {previous} before" for tag, previous in publication.previous_digests.items()),
        *([f"tags       {', '.join(publication.tags)}"] if len(publication.tags) > 1 else []),
    ]


def _push_outcome(failure: Failure) -> str:
    """What the registry may have of an image whose run broke: its tags come last of all."""
    if failure.exit_code == VersionTaken.exit_code or failure.stage not in ("push", "attest", "tag"):
        return "nothing was pushed"
    if failure.stage == "tag":
        return "the registry may serve what nobody confirmed"
    return "no tag leads to what was pushed"


def _rows(rows: Iterable[CheckResult]) -> list[str]:
    lines = []
    for row in rows:
        limit = f"limit {row.limit}" if row.limit else ""
        # What was not measured has its reason in the place of the measurement.
        measured, details = (row.measured, row.details) if row.measured else (row.details[0], row.details[1:])
        lines.append(LABEL.format(verdict=row.verdict, name=row.name, measured=measured, limit=limit).rstrip())
        lines += [f"{DETAIL_INDENT}{'→ ' if number == 0 else '  '}{detail}" for number, detail in enumerate(details)]
    return lines


def _let_through(report: Report) -> list[str]:
    """The ignored findings, each with its reason, owner and last day, and those without a fix."""
    ignored = [judged for judged in report.findings if judged.disposition is Disposition.IGNORED]
    unfixed = [judged for judged in report.findings if judged.disposition is Disposition.UNFIXED]
    lines = [""] if ignored or unfixed else []
    for judged in [*ignored, *unfixed[:UNFIXED_SHOWN]]:
        found = judged.finding
        about = ", ".join(filter(None, (f"{found.package} {found.installed_version}", units.format_age(judged))))
        lines.append(f"{judged.disposition:<10} {found.severity:<8} {found.id:<16} {about}")
        if judged.note:
            lines.append(f"{DETAIL_INDENT}  → {judged.note}")
    if more := len(unfixed[UNFIXED_SHOWN:]):
        lines.append(f"{Disposition.UNFIXED:<10} {more} more, in report.json")
    return lines


def _drift(report: Report) -> list[str]:
    """The image before, and what its checks do not say."""
    facts = units.list_drift_facts(report.drift) if report.drift else []
    if report.drift is None or not facts:
        return []
    return ["", f"before     {report.drift.image}", f"{BEFORE_INDENT}{'; '.join(facts)}"]


def _commit(report: Report) -> str:
    return report.revision.commit[:12] + ("-dirty" if report.revision.dirty else "")


def _model(report: Report) -> list[str]:
    equivalence = units.describe_equivalence(report.contract) if report.contract else ""
    return [f"model      {equivalence}"] if equivalence else []


def _header(report: Report) -> str:
    durations = {stage.name: stage.duration_seconds for stage in report.stages}
    took = [
        f"{name} {durations[name]:.0f} s" for name in ("train", "build", "smoke", "scan", "tag") if name in durations
    ]
    size = units.format_size(report.image.size_bytes) if report.image else "not built"
    return f"image      {report.image_name} {_commit(report)}   {size}   {', '.join(took)}".rstrip()
