"""Judges each finding of a scan by the policy: what rejects an image, what somebody answers for, what is listed."""

from __future__ import annotations

from datetime import datetime

from config import IgnoreEntry, Policy
from report import Finding, Ignore, IgnoreState, JudgedFinding, Scan, Treatment

SEVERITIES = ("CRITICAL", "HIGH", "MEDIUM", "LOW", "UNKNOWN")


def judge_ignores(scan: Scan, policy: Policy) -> tuple[Ignore, ...]:
    """Each ignore of the policy and how it stands: its last day is the one that `expires` names, in UTC."""
    today = datetime.fromisoformat(scan.scanned_at).date()
    found = {finding.id for finding in scan.findings}

    def state(entry: IgnoreEntry) -> IgnoreState:
        if entry.id not in found:
            return IgnoreState.DEAD
        return IgnoreState.EXPIRED if entry.expires < today else IgnoreState.ACTIVE

    return tuple(
        Ignore(
            id=entry.id, reason=entry.reason, owner=entry.owner, expires=entry.expires.isoformat(), state=state(entry)
        )
        for entry in policy.ignore
    )


def judge(scan: Scan, policy: Policy) -> tuple[JudgedFinding, ...]:
    """Each finding and what the policy makes of it: what rejects the image first, then by severity and name."""
    ignores = judge_ignores(scan, policy)

    def judged(found: Finding) -> JudgedFinding:
        matching = [ignore for ignore in ignores if ignore.id == found.id]
        active = [ignore for ignore in matching if ignore.state is IgnoreState.ACTIVE]
        note = f"its ignore expired on {matching[0].expires} ({matching[0].owner})" if matching else ""
        treatment = Treatment.REJECTS
        if active:
            treatment = Treatment.IGNORED
            note = f"{active[0].reason} ({active[0].owner}, until {active[0].expires})"
        elif found.severity not in policy.scan.severities:
            treatment = Treatment.LISTED
        elif not found.fixed_version and policy.scan.unfixed == "list":
            treatment = Treatment.UNFIXED
        return JudgedFinding(finding=found, treatment=treatment, age_days=_age_days(found, scan), note=note)

    return tuple(sorted(map(judged, scan.findings), key=_by_weight))


def in_words(judged: JudgedFinding) -> str:
    """A finding on one line: what it is, in what, what mends it, and why it is treated as it is."""
    found = judged.finding
    cure = f"fixed in {found.fixed_version}" if found.fixed_version else "no fix yet"
    note = f"; {judged.note}" if judged.note else ""
    return f"{found.id} {found.severity} {found.package} {found.installed_version}, {cure}{note}"


def _age_days(found: Finding, scan: Scan) -> int | None:
    if not found.published_at:
        return None
    return (datetime.fromisoformat(scan.scanned_at) - datetime.fromisoformat(found.published_at)).days


def _by_weight(judged: JudgedFinding) -> tuple[int, int, str, str]:
    found = judged.finding
    severity = SEVERITIES.index(found.severity) if found.severity in SEVERITIES else len(SEVERITIES)
    return (list(Treatment).index(judged.treatment), severity, found.package, found.id)
