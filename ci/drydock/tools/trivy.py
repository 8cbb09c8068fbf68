"""The command lines of Trivy, and the reading of its output. Trivy itself runs in `stages`.

Trivy scans once, to JSON, with `--exit-code 0`. So another exit code means that Trivy failed, not that it found
something. `trivy convert --exit-code 1` reads the same JSON a second time and must agree with this module. All other
formats are converted from that JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from drydock import report
from drydock.errors import ScanError
from drydock.oci.media_types import PINNED
from drydock.policy import ScanSection
from drydock.tools import scanner_self_test

ARCHIVE = "/scan/image.tar"
CACHE = "/scan/cache"
REPORT = "/scan/report.json"
# What Trivy does not look into by itself, as text: `text_extraction` writes it.
TEXTS = "/scan/texts"
SECRET_RULES = Path(__file__).with_name("trivy-secret.yaml")
# Trivy passes over a file in the image that has this name as well, so it is one that no image has.
SECRET_CONFIG = "/scan/drydock-4f1d9c27-trivy-secret.yaml"  # noqa: S105 - a path
# The fields in which Trivy repeats the image's configuration.
QUOTED = ("created_by", "CreatedBy", "Env")
# What Trivy names by the archive itself.
CONFIGURATION = "the image's history or environment"
# Of the database's form; Trivy 0.74 reads this one and no other.
DATABASE_VERSION = 2
# The systems for which Trivy 0.74 has advisories. It only lists the packages of others, such as Fedora.
# https://github.com/aquasecurity/trivy/blob/v0.74.0/pkg/detector/ospkg/detect.go
FAMILIES = frozenset(
    (
        *("alma", "alpine", "amazon", "azurelinux", "bottlerocket", "cbl-mariner", "centos", "chainguard", "coreos"),
        *("debian", "echo", "minimos", "opensuse-leap", "opensuse-tumbleweed", "oracle", "photon", "redhat", "rocky"),
        *("slem", "sles", "ubuntu", "wolfi"),
    )
)
# The kernel's names of architectures, if they differ from those of a platform.
# https://github.com/containerd/platforms/blob/v1.0.0/database.go
MACHINES = {
    "amd64": "x86_64",
    "386": "i686",
    "arm64": "aarch64",
    "arm64/v8": "aarch64",
    "loong64": "loongarch64",
    "arm": "armv7l",
    "arm/v5": "armv5tel",
    "arm/v6": "armv6l",
    "arm/v7": "armv7l",
}
# By how much two clocks may differ.
CLOCK_HOURS = 1
# What a run leaves beside trivy.json: a table for people, SARIF for code hosts, two SBOMs for tools.
CONVERTED = {
    "trivy.txt": "table",
    "trivy.sarif": "sarif",
    "sbom.cdx.json": "cyclonedx",
    "sbom.spdx.json": "spdx-json",
}

# Nothing may go out, and nothing may come in but what was mounted.
OFFLINE = (
    "--skip-db-update",
    "--skip-java-db-update",
    "--skip-check-update",
    "--skip-vex-repo-update",
    "--offline-scan",
    "--skip-version-check",
    "--disable-telemetry",
)


def scan_arguments(timeout_seconds: int, scanners: str = "vuln,secret") -> list[str]:
    """Scan the archive's packages, files, environment and history; the image's configuration only for secrets.

    Without `--timeout`, Trivy stops after five minutes.
    """
    return [
        *("trivy", "image", "--input", ARCHIVE, "--format", "json", "--output", REPORT, "--exit-code", "0"),
        *("--scanners", scanners, "--image-config-scanners", "secret", "--list-all-pkgs"),
        *("--secret-config", SECRET_CONFIG),
        *("--cache-dir", CACHE, "--cache-backend", "memory", "--no-progress", *OFFLINE),
        *("--timeout", f"{timeout_seconds}s"),
    ]


def text_scan_arguments(timeout_seconds: int) -> list[str]:
    """Look for secrets in what the scan of the image passes over."""
    return [
        *("trivy", "rootfs", TEXTS, "--format", "json", "--output", REPORT, "--exit-code", "0"),
        *("--scanners", "secret", "--secret-config", SECRET_CONFIG),
        *("--cache-dir", CACHE, "--no-progress", *OFFLINE, "--timeout", f"{timeout_seconds}s"),
    ]


def gate_arguments(severities: Sequence[str]) -> list[str]:
    """Read the same report with Trivy's own gate: exit code 1 if it has a finding of these severities."""
    return ["trivy", "convert", "--format", "table", "--exit-code", "1", "--severity", ",".join(severities), REPORT]


def convert_arguments(form: str) -> list[str]:
    """Say the same report in another form, on the standard output."""
    return ["trivy", "convert", "--format", form, REPORT]


def download_arguments(repository: str) -> list[str]:
    """Fetch the advisory database, and nothing else, into CACHE/db."""
    return [
        *("trivy", "image", "--download-db-only", "--db-repository", repository, "--timeout", "2m"),
        *("--cache-dir", CACHE, "--no-progress", "--disable-telemetry"),
    ]


@dataclass(frozen=True)
class Database:
    """An advisory database: its source, the digest of its files, and the version and time that it states."""

    source: str
    is_sample: bool
    digest: str
    version: int
    updated_at: datetime


def require_pinned(image: str) -> None:
    """Raise ScanError for a scanner that is named by a tag: nobody could say afterwards which one it was."""
    if not PINNED.search(image):
        raise ScanError(
            f"the scanner {image} is not pinned by its digest",
            likely_cause="images.toml was changed by hand; a tag can be moved to a scanner that finds nothing",
            next_step="write it as name:tag@sha256:…, then run again",
        )


def read_database(metadata: str, *, source: str, digest: str, is_sample: bool) -> Database:
    """Read a database's metadata.json. Raises ScanError if it is not valid, or has a version that Trivy cannot read."""
    try:
        described = json.loads(metadata)
        version, updated_at = int(described["Version"]), _parse_time(described["UpdatedAt"])
    except (ValueError, KeyError, TypeError) as error:
        raise ScanError(
            f"the advisory database of {source} does not say what it is: {error!r}",
            likely_cause="its metadata.json was cut short",
            next_step="run again; if that does not help: drydock bootstrap clean, then make run",
        ) from error
    if version != DATABASE_VERSION:
        raise ScanError(
            f"the advisory database of {source} is of schema {version}; the scanner reads schema {DATABASE_VERSION}",
            likely_cause="images.toml names the database of an older or a newer Trivy",
            next_step=f"name a database with the tag {DATABASE_VERSION}, then run again",
        )
    return Database(source, is_sample, digest, version, updated_at)


def require_recent(database: Database, now: datetime, policy: ScanSection) -> None:
    """Raise ScanError if the advisories are older than the policy allows. The age of a sample does not matter."""
    age_hours = (now - database.updated_at).total_seconds() / 3600
    if age_hours < -CLOCK_HOURS:
        raise ScanError(
            f"the advisory database of {database.source} is of {database.updated_at:%Y-%m-%d %H:%M}, in the future",
            likely_cause="the clock of this machine is wrong, so the age is unknown",
            next_step="set the clock, then run again",
        )
    if not database.is_sample and age_hours > policy.database_max_hours:
        raise ScanError(
            f"the advisory database of {database.source} is {age_hours:.0f} h old, allowed are"
            f" {policy.database_max_hours} h",
            likely_cause="the machine keeps a copy that nobody renews, or upstream has stopped to",
            next_step="renew the copy, or raise scan.database_max_hours in the policy",
        )


def read_scan(
    document: str,
    *,
    version: str,
    database: Database,
    scanned_at: datetime,
    canary_document: str,
    locked_packages: dict[str, str],
) -> report.Scan:
    """Read Trivy's JSON report on the image and on the canary, and its `--version --format json`.

    Raises ScanError if one of them does not have the format of Trivy 0.74.
    """
    with _report_errors():
        return _create_scan(
            json.loads(document),
            str(json.loads(version)["Version"]),
            database,
            scanned_at,
            report.Canary(
                expected=scanner_self_test.EXPECTED, found=_list_canary_findings(json.loads(canary_document))
            ),
            locked_packages,
        )


@contextmanager
def _report_errors() -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ScanError(
            f"Trivy's report could not be read: {error!r}",
            likely_cause="the scanner was stopped while it wrote, or it is of another version",
            next_step="run again with --debug; the report is in the report directory as trivy.json",
        ) from error


def _create_scan(
    document: dict[str, Any],
    scanner_version: str,
    database: Database,
    scanned_at: datetime,
    found_in_canary: report.Canary,
    locked_packages: dict[str, str],
) -> report.Scan:
    metadata = document["Metadata"]
    results: list[dict[str, Any]] = document.get("Results") or []
    system = metadata.get("OS") or {}
    # Trivy's word for a system that it did not recognise.
    system = {} if system.get("Family") == "none" else system
    python_packages = [
        (str(canonicalize_name(package["Name"])), package["Version"])
        for result in results
        if result.get("Type") == "python-pkg"
        for package in _get_list(result, "Packages")
    ]
    # setuptools brings copies of packages that may be there in their own right as well, in another version.
    locked = [(name, version) for name, version in python_packages if locked_packages.get(name) == version]
    return report.Scan(
        scanned_at=scanned_at.isoformat(timespec="seconds"),
        scanner_version=scanner_version,
        canary=found_in_canary,
        database_source=database.source,
        database_is_sample=database.is_sample,
        database_version=str(database.version),
        database_updated_at=database.updated_at.isoformat(timespec="seconds"),
        database_digest=database.digest,
        config_digest=metadata["ImageID"],
        os_family=system.get("Family", ""),
        os_version=system.get("Name", ""),
        os_end_of_life=system.get("EOSL", False),
        os_packages=sum(len(_get_list(result, "Packages")) for result in results if result["Class"] == "os-pkgs"),
        python_packages=dict(python_packages + locked),
        locked_packages=locked_packages,
        findings=_list_findings(results),
        secrets=tuple(
            report.Secret(
                rule=found["RuleID"], target=_name_target(result["Target"]), severity=found.get("Severity", "UNKNOWN")
            )
            for result in results
            for found in _get_list(result, "Secrets")
        ),
    )


def read_findings(document: str) -> tuple[report.Finding, ...]:
    """The vulnerabilities in Trivy's JSON report. Raises ScanError if it has not the format of Trivy 0.74."""
    with _report_errors():
        return _list_findings(json.loads(document).get("Results") or [])


def _list_findings(results: Sequence[dict[str, Any]]) -> tuple[report.Finding, ...]:
    return tuple(
        report.Finding(
            id=found["VulnerabilityID"],
            package=found["PkgName"],
            installed_version=found["InstalledVersion"],
            fixed_version=found.get("FixedVersion", ""),
            severity=found.get("Severity", "UNKNOWN"),
            title=found.get("Title", ""),
            published_at=_parse_time(found["PublishedDate"]).isoformat(timespec="seconds")
            if "PublishedDate" in found
            else "",
            url=found.get("PrimaryURL", ""),
        )
        for result in results
        for found in _get_list(result, "Vulnerabilities")
    )


def read_text_secrets(document: str, paths: Mapping[str, str]) -> tuple[report.Secret, ...]:
    """The secrets in what `text_extraction` wrote, each in the file of the image that it was written of, and once.

    Raises ScanError if the report is not in the form that Trivy 0.74 writes.
    """
    with _report_errors():
        results: list[dict[str, Any]] = json.loads(document).get("Results") or []
        found = [
            report.Secret(
                rule=each["RuleID"],
                target=f"/{paths[result['Target'].rpartition('/')[2]]}",
                severity=each.get("Severity", "UNKNOWN"),
            )
            for result in results
            for each in _get_list(result, "Secrets")
        ]
    return tuple(dict.fromkeys(found))


def _list_canary_findings(document: dict[str, Any]) -> tuple[str, ...]:
    """What a report found, in the words in which the canary expects it."""
    results: list[dict[str, Any]] = document.get("Results") or []
    found = [
        f"{each['VulnerabilityID']} in {each['PkgName']}"
        for one in results
        for each in _get_list(one, "Vulnerabilities")
    ]
    found += [
        f"{each['RuleID']} in {one['Target'].lstrip('/')}" for one in results for each in _get_list(one, "Secrets")
    ]
    return tuple(name for name in scanner_self_test.EXPECTED if name in found)


def _parse_time(text: str) -> datetime:
    """A time as Trivy writes it. Raises ValueError for one without its zone: nobody could count an age from it."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return moment


def _get_list(result: dict[str, Any], key: str) -> list[dict[str, Any]]:
    return result.get(key) or []


def require_agreement(scan: report.Scan, severities: Sequence[str], gate_exit_code: int) -> None:
    """Trivy's own gate over the same report has to say what our reading of it says; else no verdict: ScanError."""
    found = [*(finding.severity for finding in scan.findings), *(secret.severity for secret in scan.secrets)]
    severe = sum(severity in severities for severity in found)
    if gate_exit_code != (1 if severe else 0):
        raise ScanError(
            f"Trivy's own gate ended with exit code {gate_exit_code}, our reading of its report has {severe} findings",
            likely_cause="the report's form changed with Trivy's version",
            next_step="open an issue with trivy.json from the report directory",
        )


def parse_locked_packages(lock: str, *, python: str, platform: str) -> dict[str, str]:
    """The packages that a requirements.txt with hashes pins: canonical name to version.

    Markers are evaluated for the image's Python, such as 3.13, and its platform, such as linux/amd64. The host may be
    another machine. Raises ValueError if the lock does not pin all packages, or has none.
    """
    environment = _create_marker_environment(python, platform)
    pins: dict[str, str] = {}
    for line in lock.splitlines():
        if line.startswith(("-r", "--requirement", "-e", "--editable")):
            raise ValueError(f"{line!r} leads to packages that do not stand in it")
        if not line or line.startswith((" ", "#", "\t", "-")):
            continue
        requirement = Requirement(line.rstrip("\\ "))
        if requirement.marker is None or requirement.marker.evaluate(environment):
            version = str(requirement.specifier).removeprefix("==")
            if version == str(requirement.specifier) or any(each in version for each in "*,="):
                raise ValueError(f"{requirement.name} has no exact version: write {requirement.name}==VERSION")
            pins[canonicalize_name(requirement.name)] = version
    if not pins:
        raise ValueError("it names no package, so a scanner that sees none would do")
    return pins


def _create_marker_environment(python: str, platform: str) -> dict[str, str]:
    """Each variable of a marker, as pip fills it in the image.

    https://packaging.python.org/en/latest/specifications/dependency-specifiers/#environment-markers
    """
    _, _, architecture = platform.partition("/")
    return {
        "os_name": "posix",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": MACHINES.get(architecture, architecture.partition("/")[0]),
        # What the node's kernel says; no lock can know it.
        "platform_release": "",
        "platform_version": "",
        "python_version": python,
        "python_full_version": f"{python}.0",
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "platform_python_implementation": "CPython",
        "extra": "",
    }


async def require_coverage(scan: report.Scan | None, image: report.Image | None) -> report.Scan | None:
    """Return the scan if it covers exactly this image, with all packages, and passed the self-test.

    A scanner that saw less has no verdict: ScanError. An image without an os-release, a package database or *.dist-info
    folders is a log line to Trivy, and exit code 0 (aquasecurity/trivy#647).
    """
    if scan is None:
        return None
    require_canary(scan)
    if image and scan.config_digest != image.config_digest:
        raise ScanError(
            f"the scanner read image {scan.config_digest}, the archive holds {image.config_digest}",
            likely_cause="something replaced the archive during the run",
            next_step="run again, and let nothing else write to the report directory",
        )
    if unseen := scan.unseen_packages:
        expected = len(scan.locked_packages)
        raise ScanError(
            f"the scanner saw {expected - len(unseen)} of the lock's {expected} packages, not {', '.join(unseen)}",
            likely_cause="a step of the Dockerfile removed *.dist-info folders, by which a scanner knows a package",
            next_step="keep *.dist-info in the image, or name the lock that the image really installs in the policy",
        )
    system_packages = sum(package.kind == "debian" for package in image.packages) if image else 0
    if not scan.os_family or scan.os_packages < max(system_packages, 1):
        seen = scan.os_family or "no operating system"
        raise ScanError(
            f"the scanner saw {seen} and {scan.os_packages} system packages, expected at least"
            f" {max(system_packages, 1)}",
            likely_cause="a step of the Dockerfile removed /etc/os-release or /var/lib/dpkg/status",
            next_step="keep both in the image: without them no vulnerability of the system can be found",
        )
    if scan.os_family not in FAMILIES or scan.os_end_of_life:
        raise ScanError(
            f"the scanner has no advisories of today for {scan.os_family} {scan.os_version}",
            likely_cause=(
                "the base image is of a system that Trivy only lists, or of a release that is no longer maintained"
            ),
            next_step="build on a maintained release of a system that Trivy scans, such as Debian or Alpine",
        )
    return scan


def hide_instructions(image: report.Image | None, scan: report.Scan | None) -> report.Image | None:
    """The image for the report. It has its instructions only if the scanner found no secret among them.

    A secret that an instruction writes into a file is in the image's history as well, and so in every rendering.
    """
    if image is None or (scan and not any(secret.target == CONFIGURATION for secret in scan.secrets)):
        return image
    layers = [
        layer.model_copy(
            update={"created_by": f"{layer.created_by.partition(' ')[0]} … (it may hold a secret)".lstrip()}
        )
        for layer in image.layers
    ]
    return image.model_copy(update={"layers": tuple(layers)})


def redact_report(document: str) -> str:
    """Trivy's JSON report without the instructions and variables that it quotes: only its findings mask a secret.

    What is no JSON is left as it is.
    """

    def redact(value: object) -> object:
        if isinstance(value, dict):
            return {key: "…" if key in QUOTED else redact(inner) for key, inner in value.items()}
        return [redact(inner) for inner in value] if isinstance(value, list) else value

    try:
        return json.dumps(redact(json.loads(document)), indent=2, ensure_ascii=False) + "\n"
    except ValueError:
        return document


def _name_target(target: str) -> str:
    return CONFIGURATION if target == ARCHIVE else target


def require_canary(scan: report.Scan) -> None:
    """Raise ScanError if the scanner missed something in the canary."""
    if missed := scan.canary.missed:
        raise ScanError(
            f"the scanner did not find {', '.join(missed)} in the canary, an image known to be vulnerable",
            likely_cause="its advisory database is not complete, or its configuration excludes something",
            next_step="read canary.json in the report directory, then: drydock bootstrap clean, and make run",
        )
