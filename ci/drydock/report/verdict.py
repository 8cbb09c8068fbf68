"""How the facts were judged."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from drydock.report.base import Day, Value
from drydock.report.scan import Finding


class Verdict(StrEnum):
    """The result of a check.

    The policy skips (SKIP); a run that broke leaves NOT RUN. WARN does not reject an image. An image needs a PASS.
    """

    PASS = "PASS"  # noqa: S105 - a verdict, no password
    WARN = "WARN"
    FAIL = "FAIL"
    SKIP = "SKIP"
    NOT_RUN = "NOT RUN"


class CheckResult(Value):
    """One check: what was measured, the limit, the verdict, and its details.

    `location` is the `file:line` of the cause; empty if there is no single line.
    """

    name: str
    measured: str
    limit: str
    verdict: Verdict
    details: tuple[str, ...] = ()
    location: str = ""


class Disposition(StrEnum):
    """What the policy makes of a finding."""

    REJECTS = "rejects the image"
    IGNORED = "ignored"
    UNFIXED = "no fix yet"
    LISTED = "listed only"


class JudgedFinding(Value):
    """A finding and its disposition; `note` has the reason, `age_days` is None if it is not known."""

    finding: Finding
    disposition: Disposition
    age_days: int | None
    note: str = ""


class IgnoreState(StrEnum):
    """An expired ignore has no effect any more; an unused one matches no finding."""

    ACTIVE = "active"
    EXPIRED = "expired"
    UNUSED = "unused"


class Ignore(Value):
    """An ignore of the policy and its state in this run; `expires` is its last day."""

    id: str
    package: str = Field(default="", description="the package of an ignored vulnerability; empty for all packages")
    path: str = Field(default="", description="the file of an ignored secret, whose rule is `id`; else empty")
    reason: str
    owner: str
    expires: Day
    state: IgnoreState

    @property
    def subject(self) -> str:
        """The ignored finding, with its package or path if the ignore names one."""
        return f"{self.id} in {self.package or self.path}" if self.package or self.path else self.id
