"""Approves what may be published. No other module makes an approval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drydock import report
from drydock.checks.check import Facts
from drydock.report import CheckResult, Verdict


@dataclass(frozen=True)
class Approval:
    """The permission to publish one archive, unchanged. Only `approve` makes one."""

    archive: report.Archive
    manifest_digest: str


def approve(archive: report.Archive, facts: Facts, rows: Sequence[CheckResult]) -> Approval | None:
    """Approve the archive if at least one check passed, and none is FAIL or NOT RUN.

    A run in which a stage broke is never approved, even if the policy skips its checks.
    The stage then decides the exit code.
    """
    verdicts = {row.verdict for row in rows}
    if facts.reasons or facts.image is None:
        return None
    if Verdict.PASS not in verdicts or not verdicts <= {Verdict.PASS, Verdict.WARN, Verdict.SKIP}:
        return None
    return Approval(archive, facts.image.manifest_digest)
