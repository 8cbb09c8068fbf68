"""Judges the publication: the signature and the moving tags. Neither line can reject the image."""

from __future__ import annotations

from collections.abc import Mapping

from drydock import report
from drydock.report import CheckResult, Verdict


def check_signing(signing: report.Signing) -> CheckResult:
    """PASS if the image was signed, otherwise SKIP with the reason. It never rejects the image."""
    name = "signed and attested"
    if signing.reason:
        return CheckResult(name=name, measured="", limit="", verdict=Verdict.SKIP, details=(signing.reason,))
    return CheckResult(
        name=name,
        measured=", ".join(signing.attached),
        limit="",
        verdict=Verdict.PASS,
        details=(f"by {signing.signed_by}",),
    )


def check_moving_tags(reasons: Mapping[str, str]) -> tuple[CheckResult, ...]:
    """A WARN with the reason for each tag that did not move. Empty if all of them moved."""
    if not reasons:
        return ()
    details = [f"{tag}: {reason}" for tag, reason in reasons.items()]
    way_out = "if the registry lets no tag move: moving_tags = false under [image] gives none"
    return (
        CheckResult(
            name="moving tags",
            measured=f"{', '.join(reasons)} {'stays where it is' if len(reasons) == 1 else 'stay where they are'}",
            limit="",
            verdict=Verdict.WARN,
            details=(*details, way_out),
        ),
    )
