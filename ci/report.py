"""The values of a run: what was measured, how it was judged, what was published. Data only; renderers speak.

Sizes are in bytes and MB is 10^6 bytes. The size of a layer is the sum of the sizes of the files it holds,
uncompressed; the size of an image is the sum of its layers, as `docker images` shows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, computed_field

MB = 1_000_000


class Value(BaseModel):
    """A frozen value; unknown fields are errors, so that a report never says more than its schema."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# --- what a run starts from -----------------------------------------------------------------------------------------


class Revision(Value):
    """The commit an image is built from; `dirty` when the work tree holds more than that commit."""

    commit: str
    dirty: bool
    source_url: str = ""

    @property
    def name(self) -> str:
        """The commit as the image's label says it: a dirty tree is never called by its commit alone."""
        return f"{self.commit}-dirty" if self.dirty else self.commit


class Images(Value):
    """The images that a run builds on and scans with, each by digest, and where the advisories come from.

    `world` is `official`, or `stand-in` where the images were made from Debian packages because no container
    registry could be reached. `database` is an OCI repository or the path of a folder with trivy.db in it.
    """

    world: Literal["official", "stand-in"]
    builder: str
    runtime: str
    trivy: str
    database: str


# --- facts ----------------------------------------------------------------------------------------------------------


class GoldenRow(Value):
    """One input of the hold-out set and what the trained model answered to it."""

    features: tuple[float, ...]
    label: str
    probabilities: dict[str, float]


class Artefact(Value):
    """The model file that a contract speaks of."""

    file: str
    sha256: str
    size_bytes: int


class Holdout(Value):
    """How good the model was on rows that it had not seen."""

    rows: int
    accuracy: float


class Contract(Value):
    """model.json: what the model is and what it must answer, written when it was trained."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True)

    # `schema` would hide a method of pydantic's own.
    schema_version: Literal[1] = Field(alias="schema")
    name: str
    task: str
    artefact: Artefact
    features: tuple[str, ...]
    labels: tuple[str, ...]
    python: str
    libraries: dict[str, str]
    holdout: Holdout
    golden: tuple[GoldenRow, ...] = Field(min_length=1)
    tolerance: float


@dataclass(frozen=True)
class Archive:
    """The OCI archive that was built: a file in the report directory, and the engine's own hold on the same bytes."""

    path: Path
    handle: object


class Contributor(Value):
    """A package or folder and how many bytes of a layer are its own."""

    name: str
    size_bytes: int


class Layer(Value):
    """One layer: its digest as the registry stores it, the instruction that made it, and its largest contents."""

    digest: str
    created_by: str
    compressed_bytes: int
    size_bytes: int
    largest: tuple[Contributor, ...] = ()


class Image(Value):
    """What an OCI archive holds, read from the archive itself."""

    manifest_digest: str
    config_digest: str
    user: str
    labels: dict[str, str]
    layers: tuple[Layer, ...]

    @property
    def size_bytes(self) -> int:
        """The sum of the layers, uncompressed."""
        return sum(layer.size_bytes for layer in self.layers)


class Answer(Value):
    """What the container answered to one golden row; `status` is 0 where no HTTP answer came."""

    expected: GoldenRow
    status: int
    label: str = ""
    probabilities: dict[str, float] = {}


class Smoke(Value):
    """How the image behaved when it ran; `ready_seconds` is None where it never got ready."""

    uid: int | None
    ready_seconds: float | None
    not_ready: str = ""
    log: str = ""
    answers: tuple[Answer, ...] = ()
    tolerance: float = 0.0
    malformed_status: int = 0


class Finding(Value):
    """One vulnerability in one package; `fixed_version` is empty where no fix exists."""

    id: str
    package: str
    installed_version: str
    fixed_version: str
    severity: str
    title: str = ""


class Secret(Value):
    """A secret that the scanner found: where, and by which rule; never the secret."""

    rule: str
    target: str
    severity: str


class Scan(Value):
    """What the scanner saw and what it found in it."""

    scanner_version: str
    database_version: str
    database_updated_at: str
    database_digest: str
    config_digest: str
    os_family: str
    os_version: str
    os_packages: int
    python_packages: dict[str, str]
    locked_packages: dict[str, str]
    findings: tuple[Finding, ...]
    secrets: tuple[Secret, ...]

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


# --- judgement ------------------------------------------------------------------------------------------------------


class Verdict(StrEnum):
    """SKIP is the policy's word and NOT RUN the run's; only PASS speaks for an image."""

    PASS = "PASS"  # noqa: S105 - a verdict, no password
    FAIL = "FAIL"
    SKIP = "SKIP"
    NOT_RUN = "NOT RUN"


class Row(Value):
    """One check: what was measured, what was allowed, and why it came out as it did."""

    name: str
    measured: str
    limit: str
    verdict: Verdict
    details: tuple[str, ...] = ()


class Failure(Value):
    """A stage that broke, with the exit code of its error."""

    stage: str
    exit_code: int
    what: str
    usually: str
    next_step: str
    log: str


class Publication(Value):
    """An approved archive as the registry serves it: the digest was read back from there."""

    repository: str
    tag: str
    digest: str

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
    started_at: str
    revision: Revision
    images: Images
    contract: Contract | None = None
    image: Image | None = None
    smoke: Smoke | None = None
    scan: Scan | None = None
    rows: tuple[Row, ...] = ()
    stages: tuple[Stage, ...] = ()
    failures: tuple[Failure, ...] = ()
    publication: Publication | None = None

    @computed_field  # type: ignore[prop-decorator]  # pydantic documents this very order
    @property
    def exit_code(self) -> int:
        """A rejected image is 1 even where a tool broke as well: what was seen to fail stays failed."""
        if any(row.verdict is Verdict.FAIL for row in self.rows):
            return 1
        if self.failures:
            return self.failures[0].exit_code
        published_as_asked = self.publication is not None or not self.push
        return 0 if published_as_asked and any(row.verdict is Verdict.PASS for row in self.rows) else 1


class Release(Value):
    """release.json: what was published, from what, and on which grounds. Written after the digest was read back."""

    schema_version: Literal[1] = 1
    image: str
    digest: str
    tags: tuple[str, ...]
    published_at: str
    revision: Revision
    model_sha256: str
    base_images: dict[str, str]
    scanner: str
    scanner_version: str
    database_version: str
    database_updated_at: str
    database_digest: str
    checks: tuple[Row, ...]
    world: Literal["official", "stand-in"]
    is_release: bool
    not_a_release_because: str = ""
