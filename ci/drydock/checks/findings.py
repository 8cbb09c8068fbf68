"""Judges each finding of a scan by the policy: it rejects the image, is ignored, or is only listed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from packaging.utils import canonicalize_name

from drydock.policy import IgnoreEntry, Policy
from drydock.report import Disposition, Finding, Ignore, IgnoreState, JudgedFinding, Scan, Secret

SEVERITIES = ("CRITICAL", "HIGH", "MEDIUM", "LOW", "UNKNOWN")


class JudgedSecret(NamedTuple):
    """A secret and its disposition. `note` is the reason."""

    secret: Secret
    disposition: Disposition
    note: str


def judge_ignores(scan: Scan, policy: Policy) -> tuple[Ignore, ...]:
    """Each ignore of the policy with its state. It is active to the end of the day `expires`, in UTC."""
    today = datetime.fromisoformat(scan.scanned_at).date()
    everything: tuple[Finding | Secret, ...] = (*scan.findings, *scan.secrets)

    def judge_one(entry: IgnoreEntry) -> Ignore:
        ignore = Ignore(
            id=entry.id,
            package=entry.package,
            path=entry.path,
            reason=entry.reason,
            owner=entry.owner,
            expires=entry.expires.isoformat(),
            state=IgnoreState.EXPIRED if entry.expires < today else IgnoreState.ACTIVE,
        )
        is_used = any(_matches(ignore, found) for found in everything)
        return ignore if is_used else ignore.model_copy(update={"state": IgnoreState.UNUSED})

    return tuple(map(judge_one, policy.ignore))


def judge(scan: Scan, policy: Policy) -> tuple[JudgedFinding, ...]:
    """Judge each finding. Those that reject the image come first, then by severity and name."""
    ignores = judge_ignores(scan, policy)

    def judge_one(found: Finding) -> JudgedFinding:
        disposition, note = _apply_ignores(found, ignores)
        if disposition is not Disposition.IGNORED:
            if found.severity not in policy.scan.severities:
                disposition = Disposition.LISTED
            elif not found.fixed_version and policy.scan.unfixed == "list":
                disposition = Disposition.UNFIXED
        return JudgedFinding(finding=found, disposition=disposition, age_days=_age_days(found, scan), note=note)

    return tuple(sorted(map(judge_one, scan.findings), key=_sort_key))


def judge_secrets(scan: Scan, policy: Policy) -> tuple[JudgedSecret, ...]:
    """Judge each secret. Those that reject the image come first."""
    ignores = judge_ignores(scan, policy)
    judged = (JudgedSecret(secret, *_apply_ignores(secret, ignores)) for secret in scan.secrets)
    return tuple(sorted(judged, key=lambda each: list(Disposition).index(each.disposition)))


def _apply_ignores(found: Finding | Secret, ignores: Sequence[Ignore]) -> tuple[Disposition, str]:
    """The disposition of a finding by the ignores, with a note that says why."""
    matching = [ignore for ignore in ignores if _matches(ignore, found)]
    for ignore in matching:
        if ignore.state is IgnoreState.ACTIVE:
            return Disposition.IGNORED, f"{ignore.reason} ({ignore.owner}, until {ignore.expires})"
    note = f"its ignore expired on {matching[0].expires} ({matching[0].owner})" if matching else ""
    return Disposition.REJECTS, note


def _matches(ignore: Ignore, found: Finding | Secret) -> bool:
    """Whether an ignore names this finding. Only the ignore of a secret has a path, and it must match."""
    if isinstance(found, Secret):
        return (ignore.id, ignore.path) == (found.rule, found.target)
    if ignore.path or ignore.id != found.id:
        return False
    return not ignore.package or canonicalize_name(ignore.package) == canonicalize_name(found.package)


def describe_finding(judged: JudgedFinding) -> str:
    """A finding on one line: its id, its package, the version that fixes it, and its note."""
    found = judged.finding
    cure = f"fixed in {found.fixed_version}" if found.fixed_version else "no fix yet"
    note = f"; {judged.note}" if judged.note else ""
    return f"{found.id} {found.severity} {found.package} {found.installed_version}, {cure}{note}"


def describe_secret(judged: JudgedSecret) -> str:
    """A secret on one line: its rule, its location and its note."""
    words = f"{judged.secret.rule} in {judged.secret.target}"
    if judged.disposition is Disposition.IGNORED:
        return f"{words}, ignored: {judged.note}"
    return f"{words}; {judged.note}" if judged.note else words


def _age_days(found: Finding, scan: Scan) -> int | None:
    if not found.published_at:
        return None
    return (datetime.fromisoformat(scan.scanned_at) - datetime.fromisoformat(found.published_at)).days


def _sort_key(judged: JudgedFinding) -> tuple[int, int, str, str]:
    found = judged.finding
    severity = SEVERITIES.index(found.severity) if found.severity in SEVERITIES else len(SEVERITIES)
    return (list(Disposition).index(judged.disposition), severity, found.package, found.id)
