"""The values of a run: what was measured, how it was judged, what was published. Data only; renderers speak.

Sizes are in bytes and MB is 10^6 bytes. The size of a layer is the sum of the sizes of the files it holds,
uncompressed; the size of an image is the sum of its layers, as `docker images` shows it. Ages are counted from the
report's own times, so that a report says the same whenever it is read.
"""

from __future__ import annotations

import re
import statistics
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictFloat, computed_field, model_validator

MB = 1_000_000
PLAIN_NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,254}"

# ISO 8601, with a time zone: UTC in all that this pipeline writes itself.
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Day = Annotated[str, Field(json_schema_extra={"format": "date"})]


class Value(BaseModel):
    """A frozen value; unknown fields are errors, so that a report never says more than its schema.

    All fields are always written, so its schema requires them all. NaN and Infinity are no JSON, and no measurement.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, json_schema_serialization_defaults_required=True
    )


# --- what a run starts from -----------------------------------------------------------------------------------------


class Revision(Value):
    """The commit an image is built from; `dirty` when the work tree holds more than that commit."""

    commit: str
    dirty: bool
    source_url: str = ""
    committed_at: Time = Field(default="1980-01-01T00:00:00Z", description="1980 where there is no commit")

    @property
    def name(self) -> str:
        """The commit as the image's label says it: a dirty tree is never called by its commit alone."""
        return f"{self.commit}-dirty" if self.dirty else self.commit


class Images(Value):
    """The images that a run builds on, scans and signs with, each by digest, and where the advisories come from.

    `base_images` is `official`, or `local` if the images were made from Debian packages because no container
    registry could be reached. `databases` are tried in turn: OCI repositories, or a folder with trivy.db in it.
    """

    base_images: Literal["official", "local"]
    builder: str
    base: str
    trivy: str
    cosign: str
    databases: tuple[str, ...] = Field(min_length=1)


# --- facts ----------------------------------------------------------------------------------------------------------


Task = Literal["classification", "regression"]
Kind = Literal["number", "string"]


class GoldenAnswer(Value):
    """What the trained model answered to one input of the hold-out set.

    A classification's has a label and probabilities, a regression's has a value, and neither has anything else.
    """

    label: str = ""
    probabilities: dict[str, float] = {}
    value: float | None = Field(default=None, description="in the unit of what the model was trained on")

    @property
    def task(self) -> Task | None:
        """What answers so; None where nothing does."""
        if self.value is None and self.label and self.probabilities:
            return "classification"
        return "regression" if self.value is not None and not self.label and not self.probabilities else None


class GoldenRow(GoldenAnswer):
    """The answer with its input, which is somebody's data: a report has the answer alone."""

    features: tuple[StrictFloat | str, ...]


def _plain_name(name: str) -> str:
    if not re.fullmatch(PLAIN_NAME, name):
        raise ValueError("it is no plain file name, such as model.pkl")
    return name


class Artifact(Value):
    """The model file that a contract speaks of. It lies beside the contract: `file` leads nowhere else."""

    file: Annotated[str, AfterValidator(_plain_name), Field(json_schema_extra={"pattern": f"^{PLAIN_NAME}$"})]
    sha256: str
    size_bytes: int


class Holdout(Value):
    """How good the model was on rows that it had not seen."""

    rows: int = Field(description="how many there were")
    scores: dict[str, float] = Field(
        description="by their names: accuracy is the share of rows whose label was right, from 0 to 1"
    )


class Equivalence(Value):
    """The model that this one was converted from, and how far their answers differ on so many rows."""

    source_sha256: str
    rows: int = Field(description="training rows, rows near at most 10,000 splits, and random ones")
    max_abs_difference: float = Field(description="the largest difference between two probabilities, or two values")


class ModelDescription(Value):
    """What a model is: model.json without its golden rows, which are rows of somebody's data."""

    schema_version: Literal[1]
    name: str
    task: Task
    artifact: Artifact
    features: tuple[str, ...]
    kinds: tuple[Kind, ...] = Field(default=(), description="one for each feature; none where all are numbers")
    labels: tuple[str, ...] = Field(description="none where the model answers with a value")
    python: str
    libraries: dict[str, str]
    holdout: Holdout
    tolerance: float = Field(
        ge=0, description="how far a probability, or the value, may be from the recorded one, either way"
    )
    runtime: str = Field(default="sklearn", pattern=r"^[a-z][a-z0-9_]*$", description="what loads the model's file")
    equivalence: Equivalence | None = None

    @property
    def feature_kinds(self) -> tuple[Kind, ...]:
        """What each feature is."""
        return self.kinds or tuple("number" for _ in self.features)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if len(self.feature_kinds) != len(self.features):
            raise ValueError(f"it has {len(self.features)} features, and kinds of {len(self.kinds)}")
        if bool(self.labels) != (self.task == "classification"):
            raise ValueError(f"a {self.task} has {'no labels' if self.labels else 'labels'}")
        if self.task == "classification" and self.tolerance >= 1:
            raise ValueError(f"with a tolerance of {self.tolerance:g} any probability would do")
        return self


class Contract(ModelDescription):
    """model.json: what the model is and what it must answer, written when it was trained."""

    golden: tuple[GoldenRow, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _golden_rows_fit(self) -> Self:
        for number, row in enumerate(self.golden):
            if row.task != self.task:
                raise ValueError(f"golden.{number} is none of a {self.task}")
            if tuple("string" if isinstance(each, str) else "number" for each in row.features) != self.feature_kinds:
                raise ValueError(f"golden.{number} has other features than the model")
        return self


@dataclass(frozen=True)
class Archive:
    """The OCI archive that was built: a file in the report directory, and the engine's own hold on the same bytes."""

    path: Path
    handle: object


@dataclass(frozen=True)
class Model:
    """A model: its contract, as it was read, and the engine's own hold on the same bytes."""

    contract: Contract
    handle: object


class Contributor(Value):
    """A package or folder and how many bytes are its own."""

    name: str
    size_bytes: int


class Package(Value):
    """An installed package and the bytes of its files in the finished file system."""

    name: str
    version: str
    kind: Literal["python", "debian"]
    size_bytes: int


class File(Value):
    """A file of the finished file system; `layer` counts from 1, the base's first."""

    path: str
    size_bytes: int
    layer: int = Field(description="counted from 1, the base's first")


class Waste(Value):
    """Bytes that are stored and pulled for nothing, in layer `layer`.

    `removed` and `replaced` were taken away or written anew by a later layer; a `duplicate` is in the finished file
    system under another path as well, with the same content.
    """

    path: str
    size_bytes: int
    layer: int = Field(description="counted from 1, the base's first")
    why: Literal["removed", "replaced", "duplicate"]


class Layer(Value):
    """One layer: its digest as the registry stores it, the instruction that made it, and its largest contents.

    `dockerfile_line` is the line on which that instruction begins, None where the Dockerfile does not have it.
    """

    digest: str
    created_by: str
    dockerfile_line: int | None = Field(default=None, description="Counts from 1.")
    compressed_bytes: int
    size_bytes: int
    files_added: int = Field(default=0, description="files that no layer below has")
    files_replaced: int = Field(default=0, description="files that a layer below has as well")
    files_removed: int = Field(default=0, description="files of layers below that it takes away")
    largest: tuple[Contributor, ...] = ()


class Image(Value):
    """What an OCI archive holds, read from the archive itself.

    `packages` and `other_folders` together are the finished file system; `files` and `waste` are the largest of theirs,
    `wasted_bytes` the sum of all waste. Each list has its largest first.
    """

    manifest_digest: str
    config_digest: str
    user: str
    labels: dict[str, str]
    layers: tuple[Layer, ...]
    packages: tuple[Package, ...] = ()
    other_folders: tuple[Contributor, ...] = ()
    files: tuple[File, ...] = ()
    waste: tuple[Waste, ...] = ()
    wasted_bytes: int = 0

    @property
    def size_bytes(self) -> int:
        """The sum of the layers, uncompressed."""
        return sum(layer.size_bytes for layer in self.layers)

    @property
    def compressed_bytes(self) -> int:
        """What a node pulls that has none of the layers yet."""
        return sum(layer.compressed_bytes for layer in self.layers)

    @property
    def efficiency(self) -> float:
        """The share of the stored bytes that is not waste, from 0 to 1."""
        return 1 - self.wasted_bytes / self.size_bytes if self.size_bytes else 1.0


class Change(Value):
    """A package that is another one than in the record before: its versions ("" where it was or is not there)."""

    name: str
    kind: Literal["python", "debian"]
    version_before: str
    version_after: str
    difference_bytes: int


class Comparison(Value):
    """This image beside the one that was published before it."""

    image: str
    size_before_bytes: int
    size_after_bytes: int
    changes: tuple[Change, ...] = ()

    @property
    def difference_bytes(self) -> int:
        """By how much the image grew; negative where it shrank."""
        return self.size_after_bytes - self.size_before_bytes


class Answer(Value):
    """What the container answered to one golden row; `status` is 0 where no HTTP answer came.

    `label` is empty, or `value` None, where it was not one prediction with what the golden row has: a label and numbers
    for its probabilities, or a number for its value.
    """

    # In memory it is the golden row itself; what is written has the declared fields alone.
    expected: GoldenAnswer
    status: int = Field(description="of HTTP; 0 where no answer came")
    label: str = ""
    probabilities: dict[str, StrictFloat] = {}
    value: StrictFloat | None = Field(default=None, description="in the unit of what the model was trained on")
    duration_seconds: float = 0.0


class Malformed(Value):
    """A request that no client should send, in plain words, and what came back; `status` is 0 without an answer."""

    name: str
    status: int = Field(description="of HTTP; 0 where no answer came")


class Smoke(Value):
    """How the image behaved when it ran; `ready_seconds` is None where it never got ready."""

    uid: int | None = Field(description="of a process in the container; null where the image could not say")
    ready_seconds: float | None
    not_ready: str = ""
    log: str = ""
    answers: tuple[Answer, ...] = ()
    tolerance: float = Field(
        default=0.0, description="how far a probability, or the value, may be from the recorded one, either way"
    )
    malformed: tuple[Malformed, ...] = ()

    @property
    def median_seconds(self) -> float:
        """How long an answer to one golden row took, in the middle of all of them; 0 where none was asked."""
        return statistics.median([answer.duration_seconds for answer in self.answers] or [0.0])

    @property
    def slowest_seconds(self) -> float:
        """How long the slowest answer to a golden row took; 0 where none was asked."""
        return max((answer.duration_seconds for answer in self.answers), default=0.0)


class PendingUpdate(Value):
    """A package of the system for which the distribution has a newer version, and whether it mends a security hole."""

    package: str
    installed_version: str
    available_version: str
    security: bool


class Updates(Value):
    """What the image's own package manager says is pending; `reason` has the reason where it could not be asked."""

    pending: tuple[PendingUpdate, ...] = ()
    reason: str = ""

    @property
    def security(self) -> tuple[PendingUpdate, ...]:
        """The pending ones that mend a security hole."""
        return tuple(update for update in self.pending if update.security)


class Finding(Value):
    """One vulnerability in one package; `fixed_version` is empty where no fix exists, `published_at` where unknown."""

    id: str
    package: str
    installed_version: str
    fixed_version: str
    severity: str
    title: str = ""
    published_at: str = Field(default="", description="ISO 8601, as the advisory has it")
    url: str = ""


class Secret(Value):
    """A secret that the scanner found: where, and by which rule; never the secret."""

    rule: str
    target: str
    severity: str


class Canary(Value):
    """What a scanner has to find in an image that is known to be vulnerable, and what it did find."""

    expected: tuple[str, ...]
    found: tuple[str, ...]

    @property
    def missed(self) -> tuple[str, ...]:
        """What it should have found and did not."""
        return tuple(name for name in self.expected if name not in self.found)


class Scan(Value):
    """What the scanner saw and what it found in it, at `scanned_at`, with the advisories of `database_source`."""

    scanned_at: Time
    scanner_version: str
    canary: Canary
    database_source: str
    database_is_sample: bool
    database_version: str
    database_updated_at: Time
    database_digest: str
    config_digest: str
    os_family: str
    os_version: str
    os_end_of_life: bool = Field(description="whether its maintainers publish no advisories for this version any more")
    os_packages: int = Field(description="how many packages of the operating system the scanner saw")
    python_packages: dict[str, str] = Field(description="name to version, as the scanner saw them")
    locked_packages: dict[str, str] = Field(description="name to version, as the image's lock file has them")
    findings: tuple[Finding, ...]
    secrets: tuple[Secret, ...]
    # What is signed, and so never read again from a file that somebody else may write; a file of its own in the report.
    sbom: str = Field(default="", exclude=True, repr=False)

    @property
    def unseen_packages(self) -> tuple[str, ...]:
        """The names of the lock's packages that the scanner did not see in their locked version."""
        return tuple(
            sorted(name for name, version in self.locked_packages.items() if self.python_packages.get(name) != version)
        )

    @property
    def package_count(self) -> int:
        """Packages of the operating system and of Python together."""
        return self.os_packages + len(self.python_packages)

    @property
    def database_age_hours(self) -> float:
        """How old the advisories were when they were used."""
        age = datetime.fromisoformat(self.scanned_at) - datetime.fromisoformat(self.database_updated_at)
        return age.total_seconds() / 3600


# --- judgement ------------------------------------------------------------------------------------------------------


class Verdict(StrEnum):
    """SKIP is the policy's word and NOT RUN the run's; WARN lets an image through, but only PASS speaks for it."""

    PASS = "PASS"  # noqa: S105 - a verdict, no password
    WARN = "WARN"
    FAIL = "FAIL"
    SKIP = "SKIP"
    NOT_RUN = "NOT RUN"


class CheckResult(Value):
    """One check: what was measured, what was allowed, and why it came out as it did.

    `location` is where in the checkout the cause stands, as `file:line`; empty where it stands in no one line.
    """

    name: str
    measured: str
    limit: str
    verdict: Verdict
    details: tuple[str, ...] = ()
    location: str = ""


class Disposition(StrEnum):
    """What a finding means for the verdict, by the policy."""

    REJECTS = "rejects the image"
    IGNORED = "ignored"
    UNFIXED = "no fix yet"
    LISTED = "listed only"


class JudgedFinding(Value):
    """A finding and what the policy makes of it; `note` says why, `age_days` is None where nobody knows."""

    finding: Finding
    disposition: Disposition
    age_days: int | None
    note: str = ""


class IgnoreState(StrEnum):
    """An expired ignore hides nothing any more, and a dead one has nothing to hide."""

    ACTIVE = "active"
    EXPIRED = "expired"
    UNUSED = "unused"


class Ignore(Value):
    """An entry of the policy's ignores as it stood in this run; `expires` is the last day on which it holds."""

    id: str
    package: str = Field(default="", description="the one package in which a vulnerability is ignored; empty for all")
    path: str = Field(default="", description="the place of an ignored secret, whose rule is `id`; empty for others")
    reason: str
    owner: str
    expires: Day
    state: IgnoreState

    @property
    def subject(self) -> str:
        """What is ignored: the finding, and its package or path if the entry names one."""
        return f"{self.id} in {self.package or self.path}" if self.package or self.path else self.id


class Failure(Value):
    """A stage that broke, with the exit code of its error."""

    stage: str
    exit_code: int = Field(description="what the run would end with, had nothing else happened")
    message: str
    likely_cause: str
    next_step: str
    log: str


class Signing(Value):
    """What was attached to the published image, and who signed it; `reason` has the reason where nobody did."""

    signed_by: str = ""
    reason: str = ""
    attached: tuple[str, ...] = Field(default=(), description="in plain words: signature, SBOM, provenance, verdict")


class Publication(Value):
    """An approved archive as the registry serves it: the digest was read back from there."""

    repository: str
    tag: str
    digest: str
    tags: tuple[str, ...] = Field(default=(), description="all that lead to this digest now, `tag` among them")
    already_published: bool = Field(default=False, description="whether it was there already, with this very digest")
    previous_digest: str = Field(
        default="", description="the digest that `tag` had before, where it was another image's"
    )
    unmoved: dict[str, str] = Field(
        default={}, description="tags that should lead to this digest and stay where they are, each with the reason"
    )

    @property
    def reference(self) -> str:
        """What to deploy: the tag is for people, the digest is what counts."""
        return f"{self.repository}:{self.tag}@{self.digest}"


class Stage(Value):
    """How long a stage took, in seconds."""

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
        """A rejected image is 1 even where a tool broke as well: what was seen to fail stays failed."""
        if any(row.verdict is Verdict.FAIL for row in self.checks):
            return 1
        if self.failures:
            return self.failures[0].exit_code
        published_as_asked = self.publication is not None or not self.push
        verdicts = {row.verdict for row in self.checks}
        return 0 if published_as_asked and Verdict.PASS in verdicts and Verdict.NOT_RUN not in verdicts else 1


class Assessment(Value):
    """What was found about images that are published: a line each, and in the end what to quote."""

    checks: tuple[CheckResult, ...]
    conclusion: str
    broken_exit_code: int = Field(default=0, description="that of the first error that kept something from its line")

    @property
    def exit_code(self) -> int:
        """1 where anything fails, else the error's that kept us from looking, and 1 where nothing speaks for it."""
        verdicts = {row.verdict for row in self.checks}
        if self.broken_exit_code and Verdict.FAIL not in verdicts:
            return self.broken_exit_code
        return 0 if Verdict.PASS in verdicts and not verdicts & {Verdict.FAIL, Verdict.NOT_RUN} else 1


class Release(Value):
    """release.json: what was published, from what, and on which grounds. Written after the digest was read back."""

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
