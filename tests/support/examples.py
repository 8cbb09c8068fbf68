"""A good run's values, each of which a test may change in the one place that it is about."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

from drydock import checks
from drydock.checks import Facts
from drydock.oci.tags import ImageTags
from drydock.pipeline.plan import Plan
from drydock.policy import Policy
from drydock.report import (
    Answer,
    Archive,
    Artifact,
    Canary,
    CheckResult,
    Contract,
    Contributor,
    Disposition,
    Drift,
    Equivalence,
    Feature,
    Finding,
    GoldenRow,
    Holdout,
    Image,
    Images,
    JudgedFinding,
    Label,
    Layer,
    Malformed,
    Output,
    Package,
    PendingUpdate,
    Publication,
    Release,
    Report,
    Revision,
    Scan,
    Secret,
    Signing,
    Smoke,
    Stage,
    Updates,
    Verdict,
)
from drydock.report.drift import AnswerGroup, LabelChange, LabelPair, Pair, SchemaChanges, Shift
from drydock.tools import cosign
from drydock.tools.attestations import Builder

COMMIT = "1f3c9e2ab0d14c6f8e7a5b3c2d1e0f9a8b7c6d5e"
MANIFEST_DIGEST = "sha256:" + "a1" * 32
CONFIG_DIGEST = "sha256:" + "c0" * 32
MODEL_SHA256 = "d4" * 32
REPOSITORY = "127.0.0.1:5000/iris-classifier"
TODAY = date(2026, 11, 22)
YESTERDAY = TODAY - timedelta(days=1)
LOCKED = {"fastapi": "0.115.0", "numpy": "2.1.0"}

SMALL = GoldenRow(features=(1.0, 2.0), label="small", probabilities={"small": 0.75, "large": 0.25})
LARGE = GoldenRow(features=(8.0, 9.0), label="large", probabilities={"small": 0.125, "large": 0.875})

CONTRACT = Contract(
    schema_version=1,
    name="iris-classifier",
    task="classification",
    artifact=Artifact(file="model.pkl", sha256=MODEL_SHA256, size_bytes=42),
    features=(Feature(name="width", type="number"), Feature(name="height", type="number")),
    labels=("small", "large"),
    python="3.13",
    libraries={"scikit-learn": "1.7.0"},
    holdout=Holdout(rows=38, scores={"accuracy": 0.95}, intervals={"accuracy": (0.86, 1.0)}),
    golden=(SMALL, LARGE),
    tolerance=1e-6,
)
LEAN = CONTRACT.model_copy(
    update={
        "artifact": Artifact(file="model.forest", sha256="c3" * 32, size_bytes=43),
        "runtime": "compiled",
        "equivalence": Equivalence(source_sha256=MODEL_SHA256, rows=11_083, max_abs_difference=3e-7),
    }
)

CHEAP = GoldenRow(features=(1.0, 2.0), value=181.3)
DEAR = GoldenRow(features=(8.0, 9.0), value=-20.0)
REGRESSION = Contract(
    schema_version=1,
    name="house-prices",
    task="regression",
    artifact=Artifact(file="model.pkl", sha256=MODEL_SHA256, size_bytes=42),
    features=(Feature(name="width", type="number"), Feature(name="height", type="number")),
    labels=(),
    python="3.13",
    libraries={"scikit-learn": "1.7.0"},
    holdout=Holdout(
        rows=111,
        scores={"r2": 0.4511, "mean_absolute_error": 44.1},
        intervals={"r2": (0.31, 0.55), "mean_absolute_error": (39.2, 49.7)},
    ),
    golden=(CHEAP, DEAR),
    # In the unit of the value.
    tolerance=1.5,
)

OPEN = GoldenRow(features=("open", 2.0, "it burns"), label="urgent", probabilities={"urgent": 0.75, "later": 0.25})
SHUT = GoldenRow(features=("shut", 9.0, "5"), label="later", probabilities={"urgent": 0.125, "later": 0.875})
# Words among the numbers.
MIXED = Contract(
    schema_version=1,
    name="ticket-router",
    task="classification",
    artifact=Artifact(file="model.pkl", sha256=MODEL_SHA256, size_bytes=42),
    features=(
        Feature(name="state", type="category", values=("open", "shut")),
        Feature(name="age", type="number"),
        Feature(name="text", type="string"),
    ),
    labels=("urgent", "later"),
    python="3.13",
    libraries={"pandas": "2.3.0", "scikit-learn": "1.7.0"},
    holdout=Holdout(rows=20, scores={"accuracy": 0.9}, intervals={"accuracy": (0.75, 1.0)}),
    golden=(OPEN, SHUT),
    tolerance=1e-6,
    runtime="pandas",
)

# A feature of each type. The member takes null, and its values are not shown.
TYPED_ROW = GoldenRow(features=("Basel", 3, True, 12.5, None), label=1)
TYPED = CONTRACT.model_copy(
    update={
        "name": "churn",
        "features": (
            Feature(name="town", type="category", values=("Basel", "Bern")),
            Feature(name="visits", type="integer"),
            Feature(name="is_member", type="boolean"),
            Feature(name="spent", type="number"),
            Feature(name="member", type="string", missing=True, private=True),
        ),
        "labels": (1, 2),
        "golden": (TYPED_ROW, TYPED_ROW.model_copy(update={"features": ("Bern", 0, False, 1.0, "Ana"), "label": 2})),
    }
)

TAGGED = GoldenRow(features=(1.0, 2.0), labels=("red", "round"), probabilities={"red": 0.75, "round": 0.5})
UNTAGGED = GoldenRow(features=(8.0, 9.0), labels=(), probabilities={"red": 0.25, "round": 0.125})
MULTILABEL = CONTRACT.model_copy(
    update={"name": "tags", "task": "multilabel", "labels": ("red", "round"), "golden": (TAGGED, UNTAGGED)}
)

PLACE = GoldenRow(features=(1.0, 2.0), values={"north": 47.5, "height": 400.0})
OTHER_PLACE = GoldenRow(features=(8.0, 9.0), values={"north": 46.5, "height": 0.0})
SEVERAL_VALUES = REGRESSION.model_copy(
    update={
        "name": "places",
        "outputs": (Output(name="north", tolerance=0.001), Output(name="height", tolerance=1.0)),
        "golden": (PLACE, OTHER_PLACE),
    }
)

USUAL = GoldenRow(features=(1.0, 2.0), label=1, score=0.125)
STRANGE = GoldenRow(features=(8.0, 9.0), label=-1, score=-0.25)
OUTLIERS = CONTRACT.model_copy(
    update={"name": "frauds", "task": "outliers", "labels": (-1, 1), "golden": (USUAL, STRANGE)}
)

FIRST_CLUSTER = GoldenRow(features=(1.0, 2.0), label=0)
SECOND_CLUSTER = GoldenRow(features=(8.0, 9.0), label=1)
CLUSTERING = CONTRACT.model_copy(
    update={"name": "groups", "task": "clustering", "labels": (0, 1), "golden": (FIRST_CLUSTER, SECOND_CLUSTER)}
)

BASE = Layer(digest="sha256:b0", created_by="", compressed_bytes=40_000_000, size_bytes=120_000_000)
DEPENDENCIES = Layer(
    digest="sha256:b1",
    created_by="COPY /layers/rest/ /",
    compressed_bytes=50_000_000,
    size_bytes=150_000_000,
    largest=(Contributor(name="scipy", size_bytes=93_000_000), Contributor(name="sklearn", size_bytes=52_000_000)),
)

OFFICIAL = Images(
    base_images="official",
    builder="docker.io/library/python:3.13-trixie@sha256:" + "82" * 32,
    base="docker.io/library/python:3.13-slim-trixie@sha256:" + "9d" * 32,
    trivy="docker.io/aquasec/trivy:0.74.0@sha256:" + "62" * 32,
    cosign="ghcr.io/sigstore/cosign/cosign:v3.1.3@sha256:" + "9e" * 32,
    databases=("mirror.gcr.io/aquasec/trivy-db:2",),
)
LOCAL = OFFICIAL.model_copy(update={"base_images": "local", "databases": ("/sample/db",)})

REVISION = Revision(commit=COMMIT, dirty=False, source_url="https://github.com/owner/name")
HIGH = Finding(
    id="CVE-2024-24762",
    package="python-multipart",
    installed_version="0.0.6",
    fixed_version="0.0.7",
    severity="HIGH",
    title="slow",
    published_at="2024-02-12T00:00:00Z",
    url="https://example.org/CVE-2024-24762",
)
SIGNED = Signing(signed_by="key SHA256:abc", attached=("signature", "SBOM", "provenance", "verdict"))
FOUND = Canary(expected=("CVE-1 in canary",), found=("CVE-1 in canary",))
LIBC = PendingUpdate(package="libc6", installed_version="2.41-12", available_version="2.41-13", security=True)
UNFIXED = Finding(id="CVE-2025-1", package="libc6", installed_version="2.41", fixed_version="", severity="CRITICAL")
IGNORED = JudgedFinding(
    finding=HIGH,
    disposition=Disposition.IGNORED,
    age_days=1014,
    note="no form is parsed (ana@example.com, until 2026-12-31)",
)
NO_FIX = JudgedFinding(finding=UNFIXED, disposition=Disposition.UNFIXED, age_days=None)


def policy(**sections: dict[str, object]) -> Policy:
    return Policy.model_validate(sections)


def image(*layers: Layer, user: str = "10001:10001") -> Image:
    return Image(
        manifest_digest=MANIFEST_DIGEST,
        config_digest=CONFIG_DIGEST,
        user=user,
        labels={"org.opencontainers.image.revision": COMMIT},
        layers=layers or (BASE, DEPENDENCIES),
    )


def answer(
    row: GoldenRow, label: Label | None = None, probabilities: dict[str, float] | None = None, status: int = 200
) -> Answer:
    return Answer(
        expected=row,
        status=status,
        label=row.label if label is None else label,
        probabilities=probabilities or row.probabilities,
        duration_seconds=0.004,
    )


def right_answer(row: GoldenRow, **changed: object) -> Answer:
    """The answer as recorded, but for what is changed."""
    fields = {name: value for name, value in dict(row).items() if name != "features"}
    return Answer.model_validate({"expected": row, "status": 200, "duration_seconds": 0.004, **fields, **changed})


def value_answer(row: GoldenRow, value: float | None, status: int = 200) -> Answer:
    return Answer(expected=row, status=status, value=value, duration_seconds=0.004)


def smoke(
    *answers: Answer,
    uid: int | None = 10001,
    ready_seconds: float | None = 1.2,
    not_ready: str = "",
    log: str = "",
    tolerance: float = CONTRACT.tolerance,
    output_tolerances: dict[str, float] | None = None,
    malformed: Sequence[Malformed] = (Malformed(name="cut short", status=400), Malformed(name="GET", status=405)),
) -> Smoke:
    return Smoke(
        uid=uid,
        ready_seconds=ready_seconds,
        not_ready=not_ready,
        log=log,
        answers=answers or (answer(SMALL), answer(LARGE)),
        tolerance=tolerance,
        output_tolerances=output_tolerances or {},
        malformed=tuple(malformed),
    )


def scan(
    findings: Sequence[Finding] = (),
    secrets: Sequence[Secret] = (),
    python_packages: dict[str, str] | None = None,
    os_family: str = "debian",
    os_packages: int = 78,
    os_end_of_life: bool = False,
    config_digest: str = CONFIG_DIGEST,
    canary: Canary = FOUND,
    database_is_sample: bool = False,
    scanned_at: str = "2026-11-22T12:00:00+00:00",
) -> Scan:
    return Scan(
        scanned_at=scanned_at,
        scanner_version="0.74.0",
        canary=canary,
        database_source="mirror.gcr.io/aquasec/trivy-db:2",
        database_is_sample=database_is_sample,
        database_version="2",
        database_updated_at="2026-11-22T00:00:00+00:00",
        database_digest="sha256:db",
        config_digest=config_digest,
        os_family=os_family,
        os_version="13.1" if os_family else "",
        os_end_of_life=os_end_of_life,
        os_packages=os_packages,
        python_packages=LOCKED if python_packages is None else python_packages,
        locked_packages=LOCKED,
        findings=tuple(findings),
        secrets=tuple(secrets),
    )


def ignoring(
    found: Finding | Secret,
    expires: date = TODAY,
    owner: str = "ana",
    package: str = "",
    **scan: object,
) -> Policy:
    """A policy that ignores a finding, by default until the day of this file's scans."""
    entry: dict[str, object] = {"reason": "never reached", "owner": owner, "expires": expires, "package": package}
    if isinstance(found, Secret):
        entry |= {"id": found.rule, "path": found.target}
    else:
        entry["id"] = found.id
    return Policy.model_validate({"ignore": [entry], "scan": scan})


def drift(**changed: object) -> Drift:
    """The comparison with the release before: two of 40 reference rows have another label."""
    values: dict[str, object] = {
        "image": f"{REPOSITORY}:1.2.2@sha256:{'b2' * 32}",
        "digest": f"sha256:{'b2' * 32}",
        "rows_asked": 81,
        "groups": (
            AnswerGroup(
                origin="reference",
                rows=40,
                labels_changed=2,
                label_pairs=(
                    LabelPair(before="small", after="small", rows=25),
                    LabelPair(before="large", after="large", rows=13),
                    LabelPair(before="small", after="large", rows=2),
                ),
                label_changes=(
                    LabelChange(row=17, before="small", after="large"),
                    LabelChange(row=31, before="small", after="large"),
                ),
                shift=Shift(
                    unit="probability",
                    mean=0.021,
                    percentile_99=0.3,
                    max=0.31,
                    histogram=(36, 2, 0, 0, 0, 0, 0, 0, 0, 2),
                ),
            ),
            AnswerGroup(origin="golden", rows=2, labels_changed=0),
            AnswerGroup(origin="between", rows=39, labels_changed=3),
        ),
        "schema_changes": SchemaChanges(task_before="classification", task_after="classification"),
        "median_seconds": Pair(before=0.0021, after=0.0024),
        "compressed_bytes": Pair(before=84_000_000, after=90_000_000),
        "findings_new": (),
        "findings_gone": (UNFIXED,),
    }
    return Drift.model_validate({**values, **changed})


def facts() -> Facts:
    return Facts(image(), smoke(), scan(), Updates(), model=CONTRACT, drift=drift())


def plan(
    report_dir: Path, *, policy: Policy | None = None, images: Images = OFFICIAL, push: bool = True, tag: str = "1.2.3"
) -> Plan:
    return Plan(
        root=report_dir.parent,
        policy=policy or Policy(),
        images=images,
        revision=REVISION,
        name=ImageTags(tag=tag, commit_tag=f"sha-{COMMIT}"),
        push=push,
        report_dir=report_dir,
        published=(),
        locked_packages=LOCKED,
        login=None,
        source_login=None,
        trust=cosign.Identity("^$", "https://issuer.example"),
        signer=cosign.NoSigner("there is no key"),
        builder=Builder(),
        no_cache=False,
        certificates="",
        build_secrets={},
    )


def publication(tag: str = "1.2.3") -> Publication:
    return Publication(repository=REPOSITORY, tag=tag, digest=MANIFEST_DIGEST, tags=(tag, f"sha-{COMMIT}", "1.2", "1"))


def report(**changed: object) -> Report:
    """A published image's report."""
    rows = (
        CheckResult(
            name="runs as non-root", measured="USER 10001:10001, uid 10001", limit="not 0", verdict=Verdict.PASS
        ),
        CheckResult(name="image size", measured="270 MB", limit="500 MB", verdict=Verdict.PASS),
    )
    values: dict[str, object] = {
        "image_name": "iris-classifier",
        "repository": REPOSITORY,
        "tag": "1.2.3",
        "push": True,
        "platforms": ("linux/amd64",),
        "started_at": "2026-11-22T12:00:00+00:00",
        "revision": REVISION,
        "images": OFFICIAL,
        "contract": CONTRACT,
        "image": image(),
        "smoke": smoke(),
        "drift": Drift(reason=f"{REPOSITORY} has no image before this one"),
        "scan": scan(),
        "checks": rows,
        "stages": (Stage(name="train", duration_seconds=3.2), Stage(name="build", duration_seconds=41.4)),
        "signing": SIGNED,
        "publication": publication(),
    }
    return Report.model_validate({**values, **changed})


def release(digest: str = "sha256:" + "b2" * 32) -> Release:
    """The record of what was published before."""
    return Release(
        image=f"{REPOSITORY}:1.2.2@{digest}",
        digest=digest,
        tags=("1.2.2",),
        published_at="2026-11-20T12:00:00+00:00",
        revision=REVISION,
        model_sha256=MODEL_SHA256,
        size_bytes=258_000_000,
        packages=(Package(name="scipy", version="1.15.0", kind="python", size_bytes=82_000_000),),
        pinned_images={"builder": OFFICIAL.builder, "base": OFFICIAL.base},
        scanner=OFFICIAL.trivy,
        scanner_version="0.74.0",
        database_version="2",
        database_updated_at="2026-11-20T00:00:00Z",
        database_digest="sha256:db",
        signed_by="",
        checks=(),
        base_images="official",
        is_release=True,
    )


def archive(path: Path) -> Archive:
    return Archive(path=path, handle=None)


def judge(name: str, facts: Facts, by: Policy | None = None) -> CheckResult:
    """The result of one check, by its name."""
    return next(result for result in checks.judge(facts, by or Policy()) if result.name == name)
