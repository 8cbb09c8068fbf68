"""Judges the scan, the scanner itself and the pending updates."""

from __future__ import annotations

from drydock import report
from drydock.checks import findings
from drydock.checks.check import Outcome, pass_if
from drydock.policy import Policy
from drydock.report import Disposition, IgnoreState, Verdict

DAYS_FROM_HOURS = 72


def check_coverage(scan: report.Scan, _: Policy) -> Outcome:
    """The scanner must see every package. `trivy.require_coverage` ends the run earlier if it did not."""
    seen = len(scan.locked_packages) - len(scan.unseen_packages)
    system = f"{scan.os_family} {scan.os_version}".strip() or "no system"
    return Outcome(
        pass_if(bool(scan.os_packages) and not scan.unseen_packages),
        f"{seen} locked, {scan.os_packages} of {system}",
        f"{len(scan.locked_packages)} locked",
    )


def check_self_test(scan: report.Scan, _: Policy) -> Outcome:
    """The scanner must find everything in the vulnerable test image. `trivy.require_canary` requires it earlier."""
    hidden = scan.canary.expected
    found = len(hidden) - len(scan.canary.missed)
    return Outcome(pass_if(bool(hidden) and found == len(hidden)), f"{found} of {len(hidden)} hidden", str(len(hidden)))


def check_advisories(scan: report.Scan, policy: Policy) -> Outcome:
    """The advisories must be recent. `trivy.require_recent` ends the run earlier if they are too old."""
    age_hours = scan.database_age_hours
    measured = f"{age_hours:.0f} h old" if age_hours < DAYS_FROM_HOURS else f"{age_hours / 24:.0f} days old"
    limit = f"{policy.scan.database_max_hours} h"
    if scan.database_is_sample:
        words = "a small sample database: it says little about the image, and the result cannot be a release"
        return Outcome(Verdict.WARN, measured, "none", (words,))
    if age_hours > policy.scan.database_max_hours:
        return Outcome(Verdict.FAIL, measured, limit)
    if age_hours > policy.scan.database_warn_hours:
        words = f"older than {policy.scan.database_warn_hours} h: {scan.database_source} was not renewed"
        return Outcome(Verdict.WARN, measured, limit, (words,))
    return Outcome(Verdict.PASS, measured, limit)


def check_vulnerabilities(scan: report.Scan, policy: Policy) -> Outcome:
    """There must be no finding that rejects the image, as `findings.judge` says."""
    judged = findings.judge(scan, policy)
    by_disposition = {
        disposition: [each for each in judged if each.disposition is disposition] for disposition in Disposition
    }
    rejecting = by_disposition[Disposition.REJECTS]
    details = [findings.describe_finding(each) for each in rejecting]
    if set(policy.scan.severities) != {"HIGH", "CRITICAL"}:
        details.append(f"only {', '.join(policy.scan.severities)} counts, as scan.severities in the policy says")
    for disposition, words in ((Disposition.IGNORED, "ignored"), (Disposition.UNFIXED, "without a fix yet")):
        if count := len(by_disposition[disposition]):
            details.append(f"{count} {words}, listed below")
    return Outcome(pass_if(not rejecting), f"{len(rejecting)} in {scan.package_count} packages", "0", details)


def check_ignores(scan: report.Scan, policy: Policy) -> Outcome:
    """Every ignore in the policy must be active: not expired, and with a finding that it matches."""
    ignores = findings.judge_ignores(scan, policy)
    stale = [ignore for ignore in ignores if ignore.state is not IgnoreState.ACTIVE]
    stale_verdict = Verdict.FAIL if policy.scan.unused_ignores == "reject" else Verdict.WARN
    words = {
        IgnoreState.EXPIRED: "{subject} expired on {expires}: {owner} must fix it, or renew the ignore with a reason",
        IgnoreState.UNUSED: "{subject} matches nothing: remove it, {owner}",
    }
    return Outcome(
        stale_verdict if stale else Verdict.PASS,
        f"{len(ignores) - len(stale)} of {len(ignores)} in use",
        str(len(ignores)),
        [words[each.state].format(subject=each.subject, expires=each.expires, owner=each.owner) for each in stale],
        policy.origins.get(f"ignore.{ignores.index(stale[0])}.id", "") if stale else "",
    )


def check_pending_updates(updates: report.Updates, policy: Policy) -> Outcome:
    """The distribution should have no security update for the image: a second opinion beside the scanner's."""
    verdict = Verdict.FAIL if policy.scan.pending_updates == "reject" else Verdict.WARN
    if updates.reason:
        # The image is not at fault if apt-get could not answer, but it cannot pass a required check either.
        if policy.scan.pending_updates == "reject":
            return Outcome(Verdict.NOT_RUN, "", "0", (updates.reason,))
        return Outcome(Verdict.WARN, "unknown", "0", (updates.reason,))
    pending = updates.security
    details = [f"{each.package} {each.installed_version} → {each.available_version}" for each in pending]
    if details:
        details.append("take a newer base image, or upgrade in the Dockerfile")
    return Outcome(verdict if pending else Verdict.PASS, f"{len(pending)} pending", "0", details)


def check_secrets(scan: report.Scan, policy: Policy) -> Outcome:
    """No layer, variable or history line may have a token or a key, except a secret that the policy ignores."""
    judged = findings.judge_secrets(scan, policy)
    rejecting = sum(each.disposition is Disposition.REJECTS for each in judged)
    details = [findings.describe_secret(each) for each in judged]
    return Outcome(pass_if(not rejecting), f"{rejecting} found", "0", details)
