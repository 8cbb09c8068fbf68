"""Whole runs' reports as a real model's image would have them, with something of everything."""

from __future__ import annotations

from drydock.report import (
    MB,
    Artifact,
    Canary,
    Change,
    CheckResult,
    Comparison,
    Contract,
    Contributor,
    Disposition,
    Drift,
    Failure,
    Feature,
    File,
    Finding,
    GoldenRow,
    Holdout,
    Ignore,
    IgnoreState,
    Image,
    JudgedFinding,
    Layer,
    Package,
    PendingUpdate,
    Report,
    Stage,
    Updates,
    Verdict,
    Waste,
)
from drydock.report.drift import LabelChange, LabelPair, RetypedFeature, SchemaChanges
from tests.support import examples

KB = 1_000

PYTHON = (
    *(("scipy", "1.16.0", 91_400), ("scikit-learn", "1.7.2", 38_700), ("numpy", "2.4.0", 33_100)),
    *(("pydantic-core", "2.41.5", 4_700), ("joblib", "1.5.3", 1_900), ("pydantic", "2.12.5", 1_800)),
    *(("opentelemetry-api", "1.39.1", 1_200), ("starlette", "0.50.0", 620), ("anyio", "4.12.0", 540)),
    *(("fastapi", "0.128.0", 530), ("click", "8.3.1", 480), ("idna", "3.11", 430), ("uvicorn", "0.40.0", 420)),
    *(("narwhals", "2.14.0", 390), ("h11", "0.16.0", 230), ("typing-extensions", "4.15.0", 190)),
    *(("cloudpickle", "3.1.2", 110), ("threadpoolctl", "3.6.0", 90), ("annotated-types", "0.7.0", 60)),
)
DEBIAN = (
    *(("perl-base", "5.40.1-6", 7_900), ("libssl3t64", "3.5.1-1", 7_300), ("coreutils", "9.7-3", 6_800)),
    *(("bash", "5.2.37-2", 6_400), ("dpkg", "1.22.21", 5_600), ("libc6", "2.41-12", 5_100), ("apt", "3.0.3", 3_900)),
    *(("util-linux", "2.41-5", 3_300), ("tar", "1.35", 2_900), ("libstdc++6", "14.2.0-19", 2_600)),
    *(("libsqlite3-0", "3.46.1-7", 1_700), ("login", "4.16.0", 1_500), ("passwd", "4.17.4", 1_400)),
    *(("libsystemd0", "257.7-1", 1_200), ("findutils", "4.10.0", 1_000), ("ca-certificates", "20250419", 380)),
    *(("openssl", "3.5.1-1", 2_300), ("tzdata", "2025b-4", 1_100), ("grep", "3.11-4", 860), ("sed", "4.9-2", 840)),
    *(("gzip", "1.13-1", 270), ("mawk", "1.3.4", 250), ("zlib1g", "1.3.1", 170)),
)
FOLDERS = (
    *(("/usr/local/lib", 41_300), ("/usr/lib/x86_64-linux-gnu", 9_200), ("/usr/local/bin", 6_700)),
    *(("/usr/share/zoneinfo", 3_100), ("/usr/local/include", 1_900), ("/app", 420), ("/etc", 310)),
)

LAYERS = (
    ("# debian.sh --arch 'amd64' out/ 'trixie' '@1763337600'", 29_800, 78_600, (("/usr/lib", 31_000),)),
    (
        "RUN apt-get update; apt-get install -y --no-install-recommends ca-certificates netbase tzdata",
        *(1_300, 4_200, (("/usr/share/zoneinfo", 3_100),)),
    ),
    (
        "RUN set -eux; savedAptMark=$(apt-mark showmanual); apt-get install -y gcc make; wget -O python.tar.xz "
        "https://www.python.org/ftp/python/3.13.9/Python-3.13.9.tar.xz; make -j $nproc; make install; ldconfig",
        *(12_100, 47_800, (("/usr/local/lib", 44_000), ("/usr/local/bin", 3_600))),
    ),
    ("RUN ln -svT /usr/local/bin/python3 /usr/local/bin/python", 1, 0, ()),
    ("RUN groupadd --gid 10001 app && useradd --uid 10001 app && rm -rf …/pip", 4, 14, (("/etc", 14),)),
    ("COPY --from=pruned /layers/scipy/ /", 33_600, 91_400, (("scipy", 91_400),)),
    (
        "COPY --from=pruned /layers/rest/ /",
        *(31_500, 87_300, (("sklearn", 38_700), ("numpy", 33_100), ("pydantic_core", 4_700))),
    ),
    ("COPY --chmod=0444 artifacts/model.pkl artifacts/model.json artifacts/", 71, 420, (("/app/artifacts", 420),)),
)

IGNORED = "CVE-2025-45582"


def finding(
    severity: str, name: str, package: str, installed: str, fixed: str = "", title: str = "", *, debian: bool = True
) -> Finding:
    place = "https://security-tracker.debian.org/tracker" if debian else "https://github.com/advisories"
    return Finding(
        id=name,
        package=package,
        installed_version=installed,
        fixed_version=fixed,
        severity=severity,
        title=title,
        url=f"{place}/{name}",
    )


FINDINGS = (
    JudgedFinding(
        finding=finding(
            *("HIGH", "GHSA-7f5h-v6xp-fcq8", "starlette", "0.48.0", "0.49.1", "Range header merging is quadratic"),
            debian=False,
        ),
        disposition=Disposition.REJECTS,
        age_days=28,
    ),
    JudgedFinding(
        finding=finding("HIGH", IGNORED, "tar", "1.35+dfsg-3.1", "1.35+dfsg-4", "Files are written beside the target"),
        disposition=Disposition.IGNORED,
        age_days=134,
        note="nothing in the image unpacks a tar (ana@example.com, until 2026-12-31)",
    ),
    *(
        JudgedFinding(
            finding=finding(severity, name, package, installed, "", title), disposition=disposition, age_days=age
        )
        for severity, name, package, installed, title, disposition, age in (
            *(("CRITICAL", "CVE-2026-0861", "libc6", "2.41-12", "Overflow in memalign", Disposition.UNFIXED, 1),),
            *(("HIGH", "CVE-2025-6297", "dpkg", "1.22.21", "", Disposition.UNFIXED, 143),),
            *(("HIGH", "CVE-2025-7458", "libsqlite3-0", "3.46.1-7", "Integer overflow", Disposition.UNFIXED, None),),
            *(("MEDIUM", "CVE-2025-9714", "libxml2", "2.12.7", "Recursion", Disposition.LISTED, 77),),
        )
    ),
    *(
        JudgedFinding(
            finding=finding("LOW", f"CVE-2011-{3000 + number}", "apt", "3.0.3", "", "It trusts what it is told"),
            disposition=Disposition.LISTED,
            age_days=5300 + number,
        )
        for number in range(14)
    ),
)

IGNORES = (
    Ignore(
        id=IGNORED,
        reason="nothing in the image unpacks a tar",
        owner="ana@example.com",
        expires="2026-12-31",
        state=IgnoreState.ACTIVE,
    ),
    Ignore(
        id="GHSA-7f5h-v6xp-fcq8",
        reason="the server sends no files",
        owner="ben@example.com",
        expires="2026-11-01",
        state=IgnoreState.EXPIRED,
    ),
    Ignore(
        id="CVE-2024-47874",
        reason="forms are never parsed",
        owner="ana@example.com",
        expires="2027-01-15",
        state=IgnoreState.UNUSED,
    ),
)


def row(name: str, verdict: Verdict, measured: str, limit: str, *details: str) -> CheckResult:
    return CheckResult(name=name, verdict=verdict, measured=measured, limit=limit, details=details)


ROWS = (
    row("answers /predict as trained", Verdict.PASS, "12 of 12 rows", "12"),
    row(
        *("answers in time", Verdict.WARN, "median 6 ms, slowest 143 ms", "100 ms"),
        "the machine may be busy: measure again, or raise limits.latency_ms",
    ),
    row("refuses malformed requests", Verdict.PASS, "6 of 6 with 4xx", "6"),
    row("runs as non-root", Verdict.PASS, "USER 10001:10001, uid 10001", "not 0"),
    row("image size", Verdict.PASS, "310 MB", "500 MB"),
    row("largest layer", Verdict.PASS, "91 MB", "120 MB"),
    row("scanner covers every package", Verdict.PASS, "19 locked, 78 of debian 13.1", "19 locked"),
    row("scanner passes its self-test", Verdict.PASS, "2 of 2 hidden", "2"),
    row("advisories are recent", Verdict.PASS, "12 h old", "48 h"),
    row("HIGH or CRITICAL", Verdict.PASS, "0 in 97 packages", "0", f"ignored: {IGNORED} HIGH tar 1.35+dfsg-3.1"),
    row(
        *("no expired or unused ignores", Verdict.WARN, "1 of 3 in use", "3"),
        "GHSA-7f5h-v6xp-fcq8 expired on 2026-11-01: ben@example.com must fix it, or renew the ignore with a reason",
        "CVE-2024-47874 matches nothing: remove it, ana@example.com",
    ),
    row("no security update pending", Verdict.SKIP, "", "", "the base is renewed every night"),
    row("secrets in the image", Verdict.PASS, "0 found", "0"),
)
REJECTED_ROWS = tuple(
    {
        "largest layer": row(
            *("largest layer", Verdict.FAIL, "91 MB", "80 MB"),
            "COPY --from=pruned /layers/scipy/ /: scipy 91 MB. Split the layer, or drop some of it.",
        ),
        "HIGH or CRITICAL": row(
            *("HIGH or CRITICAL", Verdict.FAIL, "1 in 97 packages", "0"),
            "GHSA-7f5h-v6xp-fcq8 HIGH starlette 0.48.0, fixed in 0.49.1; its ignore expired on 2026-11-01",
        ),
    }.get(each.name, each)
    for each in ROWS
)


def packages() -> tuple[Package, ...]:
    made = [
        Package(name=name, version=version, kind="python", size_bytes=size_kb * KB + 137)
        for name, version, size_kb in PYTHON
    ] + [
        Package(name=name, version=version, kind="debian", size_bytes=size_kb * KB + 41)
        for name, version, size_kb in DEBIAN
    ]
    return tuple(sorted(made, key=lambda package: -package.size_bytes))


def image() -> Image:
    scipy = "opt/venv/lib/python3.13/site-packages"
    return Image(
        manifest_digest=examples.MANIFEST_DIGEST,
        config_digest=examples.CONFIG_DIGEST,
        user="10001:10001",
        labels={"org.opencontainers.image.revision": examples.COMMIT},
        layers=tuple(
            Layer(
                digest=f"sha256:{number:064x}",
                created_by=created_by,
                compressed_bytes=compressed_kb * KB,
                size_bytes=size_kb * KB,
                largest=tuple(Contributor(name=name, size_bytes=owned_kb * KB) for name, owned_kb in largest),
            )
            for number, (created_by, compressed_kb, size_kb, largest) in enumerate(LAYERS, start=1)
        ),
        packages=packages(),
        other_folders=tuple(Contributor(name=name, size_bytes=size_kb * KB) for name, size_kb in FOLDERS),
        files=(
            File(path=f"{scipy}/scipy.libs/libscipy_openblas-b75cc656.so", size_bytes=22 * MB, layer=6),
            File(path=f"{scipy}/numpy.libs/libscipy_openblas64_-fdde5778.so", size_bytes=21 * MB, layer=7),
            File(path="usr/local/lib/libpython3.13.so.1.0", size_bytes=9 * MB, layer=3),
            File(path="usr/lib/x86_64-linux-gnu/libcrypto.so.3", size_bytes=6 * MB, layer=1),
            File(path="usr/bin/perl", size_bytes=4 * MB, layer=1),
            File(path="app/artifacts/model.pkl", size_bytes=418_211, layer=8),
        ),
        waste=(
            Waste(path="usr/local/lib/python3.13/site-packages/pip", size_bytes=11 * MB, layer=3, why="removed"),
            Waste(path="usr/local/lib/python3.13/ensurepip", size_bytes=3 * MB, layer=3, why="removed"),
            Waste(path="var/lib/dpkg/status", size_bytes=610_000, layer=1, why="replaced"),
            Waste(path=f"{scipy}/sklearn/datasets/data/digits.csv.gz", size_bytes=57_000, layer=7, why="duplicate"),
        ),
        wasted_bytes=14_700_000,
    )


def contract() -> Contract:
    golden = GoldenRow(
        features=(5.1, 3.5, 1.4, 0.2),
        label="setosa",
        probabilities={"setosa": 1.0, "versicolor": 0.0, "virginica": 0.0},
    )
    return Contract(
        schema_version=1,
        name="iris-classifier",
        task="classification",
        artifact=Artifact(file="model.pkl", sha256=examples.MODEL_SHA256, size_bytes=418_211),
        features=tuple(
            Feature(name=name, type="number")
            for name in ("sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)")
        ),
        labels=("setosa", "versicolor", "virginica"),
        python="3.13",
        libraries={"scikit-learn": "1.7.2"},
        holdout=Holdout(rows=38, scores={"accuracy": 0.9474}),
        golden=(golden,) * 12,
        tolerance=1e-6,
    )


def drift() -> Drift:
    """A few labels changed, and a feature is a whole number now."""
    rows = {"setosa": (13, 0, 0), "versicolor": (0, 11, 1), "virginica": (0, 1, 12)}
    pairs = [
        LabelPair(before=before, after=after, rows=count)
        for before, counts in rows.items()
        for after, count in zip(rows, counts, strict=True)
        if count
    ]
    judged = (
        examples.drift()
        .groups[0]
        .model_copy(
            update={
                "rows": 38,
                "label_pairs": tuple(pairs),
                "label_changes": (
                    LabelChange(row=17, before="versicolor", after="virginica"),
                    LabelChange(row=31, before="virginica", after="versicolor"),
                ),
            }
        )
    )
    retyped = RetypedFeature(name="petal width (cm)", before="number", after="integer")
    return examples.drift(
        image=f"{examples.REPOSITORY}:1.2.2@sha256:{'b7' * 32}",
        groups=(judged, *examples.drift().groups[1:]),
        schema_changes=SchemaChanges(
            task_before="classification", task_after="classification", features_retyped=(retyped,)
        ),
        notes=("2 of 81 rows were not asked: time was up",),
    )


def report(**changed: object) -> Report:
    """A published image's report."""
    answers = [examples.answer(row).model_copy(update={"duration_seconds": 0.006}) for row in contract().golden]
    answers[0] = answers[0].model_copy(update={"duration_seconds": 0.143})
    canary = Canary(expected=("CVE-1 in a", "CVE-2 in b"), found=("CVE-1 in a", "CVE-2 in b"))
    openssl = PendingUpdate(package="tzdata", installed_version="2025b-4", available_version="2025c-1", security=False)
    seconds = {
        "check-registry": 0.1,
        "train": 3.2,
        "build": 41.4,
        "inspect": 2.3,
        "pending-updates": 4.9,
        "smoke": 6.4,
        "scan": 8.8,
    }
    values: dict[str, object] = {
        "contract": contract(),
        "image": image(),
        "smoke": examples.smoke(*answers),
        "drift": drift(),
        "scan": examples.scan(
            [judged.finding for judged in FINDINGS],
            canary=canary,
            python_packages={name: version for name, version, _ in PYTHON},
        ),
        "updates": Updates(pending=(openssl,)),
        "comparison": Comparison(
            image=f"{examples.REPOSITORY}:1.2.2@sha256:{'b7' * 32}",
            size_before_bytes=297_700_000,
            size_after_bytes=image().size_bytes,
            changes=(
                Change(
                    name="scipy",
                    kind="python",
                    version_before="1.15.0",
                    version_after="1.16.0",
                    difference_bytes=11_900_000,
                ),
                Change(
                    name="narwhals", kind="python", version_before="", version_after="2.14.0", difference_bytes=390_000
                ),
                Change(
                    name="sniffio", kind="python", version_before="1.3.1", version_after="", difference_bytes=-60_000
                ),
            ),
        ),
        "findings": FINDINGS[1:],
        "ignores": IGNORES,
        "checks": ROWS,
        "stages": tuple(
            Stage(name=name, duration_seconds=duration) for name, duration in {**seconds, "tag": 1.7}.items()
        ),
    }
    return examples.report(**{**values, **changed})


def rejected() -> Report:
    """Not published, for a layer and a finding; built on local base images from a tree with changes."""
    return report(
        publication=None,
        checks=REJECTED_ROWS,
        findings=FINDINGS,
        images=examples.LOCAL,
        revision=examples.REVISION.model_copy(update={"dirty": True}),
    )


def interrupted() -> Report:
    """Stopped while it was built: nothing is known but that."""
    failure = Failure(
        stage="build",
        exit_code=130,
        message="stopped by a signal",
        likely_cause="",
        next_step="run again; nothing has to be cleaned up",
        log="",
    )
    rows = [row(each.name, Verdict.NOT_RUN, "", "", "build broke before it") for each in ROWS]
    nothing: dict[str, object] = dict.fromkeys(
        ("image", "smoke", "drift", "scan", "updates", "comparison", "publication")
    )
    stages = (Stage(name="train", duration_seconds=3.2), Stage(name="build", duration_seconds=12.0))
    return report(**nothing, checks=tuple(rows), findings=(), ignores=(), failures=(failure,), stages=stages)


def no_verdict() -> Report:
    """The scanner broke; what else was measured is there."""
    failure = Failure(
        stage="scan",
        exit_code=5,
        message="Trivy stopped without a report (exit code 1)",
        likely_cause="its database is damaged, or was written by another version",
        next_step="fetch the database anew: drydock bootstrap clean, then make run",
        log="2026-11-22T12:00:41Z\tINFO\t[vuln] Vulnerability scanning is enabled\n"
        "2026-11-22T12:00:42Z\tFATAL\tFatal error\trun error: init error: DB error: failed to open bolt: invalid",
    )
    unscanned = ("scanner saw", "scanner finds", "advisories", "HIGH", "ignores", "secrets")
    rows = tuple(
        row(each.name, Verdict.NOT_RUN, "", "", failure.message) if each.name.startswith(unscanned) else each
        for each in ROWS
    )
    return report(publication=None, scan=None, findings=(), ignores=(), checks=rows, failures=(failure,))
