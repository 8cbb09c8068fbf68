"""All of a run: report.json, release.json, and what a command says about published images."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, computed_field

from drydock.report.base import Time, Value
from drydock.report.drift import Drift
from drydock.report.image import Comparison, Image, Package
from drydock.report.model import ModelDescription
from drydock.report.scan import Scan, Updates
from drydock.report.smoke import Smoke
from drydock.report.source import Images, Revision
from drydock.report.verdict import CheckResult, Ignore, JudgedFinding, Verdict


class Failure(Value):
    """A stage that broke, with the exit code of its error."""

    stage: str
    exit_code: int = Field(description="that of the error")
    message: str
    likely_cause: str
    next_step: str
    log: str


class Signing(Value):
    """What was attached to the published image, and who signed it; `reason` if nobody did."""

    signed_by: str = ""
    reason: str = ""
    attached: tuple[str, ...] = Field(default=(), description="in plain words: signature, SBOM, provenance, verdict")


class Publication(Value):
    """The published image: its digest was read back from the registry."""

    repository: str
    tag: str
    digest: str
    tags: tuple[str, ...] = Field(default=(), description="all tags that have this digest now, with `tag`")
    already_published: bool = Field(default=False, description="whether the tag had this digest before the run")
    previous_digests: dict[str, str] = Field(
        default={}, description="the digest that each of `tags` had before, if it was another one"
    )
    unmoved: dict[str, str] = Field(
        default={}, description="tags that were not moved to this digest, each with the reason"
    )

    @property
    def reference(self) -> str:
        """What to deploy: repository, tag and digest. The tag is for people."""
        return f"{self.repository}:{self.tag}@{self.digest}"


class Stage(Value):
    """The duration of a stage."""

    name: str
    duration_seconds: float


class Report(Value):
    """All of a run. Its exit code is derived here and nowhere else."""

    schema_version: Literal[1] = 1
    image_name: str
    repository: str
    tag: str
    push: bool
    platforms: tuple[str, ...] = Field(description="what the image runs on, as linux/amd64; one entry today")
    started_at: Time
    revision: Revision
    images: Images
    # In memory it is the contract itself; what is written has the declared fields alone.
    contract: ModelDescription | None = None
    image: Image | None = None
    smoke: Smoke | None = None
    drift: Drift | None = None
    scan: Scan | None = None
    updates: Updates | None = None
    comparison: Comparison | None = None
    findings: tuple[JudgedFinding, ...] = ()
    ignores: tuple[Ignore, ...] = ()
    checks: tuple[CheckResult, ...] = ()
    stages: tuple[Stage, ...] = ()
    failures: tuple[Failure, ...] = ()
    signing: Signing | None = None
    publication: Publication | None = None

    @computed_field  # type: ignore[prop-decorator]  # pydantic documents this very order
    @property
    def exit_code(self) -> int:
        """1 for a rejected image, even if a tool broke as well; else the code of the first failure."""
        if any(row.verdict is Verdict.FAIL for row in self.checks):
            return 1
        if self.failures:
            return self.failures[0].exit_code
        published_as_asked = self.publication is not None or not self.push
        verdicts = {row.verdict for row in self.checks}
        return 0 if published_as_asked and Verdict.PASS in verdicts and Verdict.NOT_RUN not in verdicts else 1


class Assessment(Value):
    """The checks of published images, and a conclusion to quote."""

    checks: tuple[CheckResult, ...]
    conclusion: str
    broken_exit_code: int = Field(default=0, description="that of the first error that prevented a check; else 0")

    @property
    def exit_code(self) -> int:
        """1 if a check fails, else `broken_exit_code`, else 1 if no check passes."""
        verdicts = {row.verdict for row in self.checks}
        if self.broken_exit_code and Verdict.FAIL not in verdicts:
            return self.broken_exit_code
        return 0 if Verdict.PASS in verdicts and not verdicts & {Verdict.FAIL, Verdict.NOT_RUN} else 1


class Release(Value):
    """release.json: what was published, from what, and with which verdicts.

    It is written after the digest was read back.
    """

    schema_version: Literal[1] = 1
    image: str
    digest: str
    tags: tuple[str, ...]
    published_at: Time
    revision: Revision
    model_sha256: str
    size_bytes: int
    packages: tuple[Package, ...]
    pinned_images: dict[str, str]
    scanner: str
    scanner_version: str
    database_version: str
    database_updated_at: Time
    database_digest: str
    signed_by: str
    checks: tuple[CheckResult, ...]
    base_images: Literal["official", "local"]
    is_release: bool
    not_a_release_because: str = ""

    @property
    def repository(self) -> str:
        """The repository that the image was published to, with its host."""
        return self.image.partition("@")[0].rpartition(":")[0]
