"""What Trivy is asked, and what its answer says. Trivy itself runs in `stages`.

One scan to JSON with `--exit-code 0`: any other exit code then means that Trivy broke, never that it found something.
The second reading, `trivy convert --exit-code 1` over the same JSON, must agree with ours.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import report
from errors import ScanError

ARCHIVE = "/scan/image.tar"
CACHE = "/scan/cache"
REPORT = "/scan/report.json"

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


def scan_arguments() -> list[str]:
    """Scan the archive's packages, files, environment and history; the image's configuration only for secrets."""
    return [
        *("trivy", "image", "--input", ARCHIVE, "--format", "json", "--output", REPORT, "--exit-code", "0"),
        *("--scanners", "vuln,secret", "--image-config-scanners", "secret", "--list-all-pkgs"),
        *("--cache-dir", CACHE, "--cache-backend", "memory", "--no-progress", *OFFLINE),
    ]


def second_reading_arguments(severities: Sequence[str]) -> list[str]:
    """Let Trivy itself gate the same report: exit code 1 where it holds a finding of these severities."""
    return ["trivy", "convert", "--format", "table", "--exit-code", "1", "--severity", ",".join(severities), REPORT]


def download_arguments(repository: str) -> list[str]:
    """Fetch the advisory database, and nothing else, into CACHE/db."""
    return [
        *("trivy", "image", "--download-db-only", "--db-repository", repository),
        *("--cache-dir", CACHE, "--no-progress", "--disable-telemetry"),
    ]


def read(
    document: str, *, version: str, database: str, database_digest: str, locked_packages: dict[str, str]
) -> report.Scan:
    """Read Trivy's JSON report, its `--version --format json`, and the database's metadata.json.

    Raises ScanError where one of them is not in the form that Trivy 0.74 writes.
    """
    try:
        scanner_version = str(json.loads(version)["Version"])
        return _read(json.loads(document), scanner_version, json.loads(database), database_digest, locked_packages)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ScanError(
            f"Trivy's report could not be read: {error!r}",
            usually="the scanner was stopped while it wrote, or it is of another version",
            next_step="run again with --debug; the report is in the report directory as trivy.json",
        ) from error


def _read(
    document: dict[str, Any],
    scanner_version: str,
    database: dict[str, Any],
    database_digest: str,
    locked_packages: dict[str, str],
) -> report.Scan:
    metadata = document["Metadata"]
    results: list[dict[str, Any]] = document.get("Results") or []
    system = metadata.get("OS") or {}
    # Trivy's word for a system that it did not recognise.
    system = {} if system.get("Family") == "none" else system
    return report.Scan(
        scanner_version=scanner_version,
        database_version=str(database["Version"]),
        database_updated_at=database["UpdatedAt"],
        database_digest=database_digest,
        config_digest=metadata["ImageID"],
        os_family=system.get("Family", ""),
        os_version=system.get("Name", ""),
        os_packages=sum(len(result.get("Packages", [])) for result in results if result["Class"] == "os-pkgs"),
        python_packages={
            canonicalize_name(package["Name"]): package["Version"]
            for result in results
            if result.get("Type") == "python-pkg"
            for package in result.get("Packages", [])
        },
        locked_packages=locked_packages,
        findings=tuple(
            report.Finding(
                id=found["VulnerabilityID"],
                package=found["PkgName"],
                installed_version=found["InstalledVersion"],
                fixed_version=found.get("FixedVersion", ""),
                severity=found.get("Severity", "UNKNOWN"),
                title=found.get("Title", ""),
            )
            for result in results
            for found in result.get("Vulnerabilities", [])
        ),
        secrets=tuple(
            report.Secret(rule=found["RuleID"], target=result["Target"], severity=found.get("Severity", "UNKNOWN"))
            for result in results
            for found in result.get("Secrets", [])
        ),
    )


def require_agreement(scan: report.Scan, severities: Sequence[str], gate_exit_code: int) -> None:
    """Trivy's own gate over the same report has to say what our reading of it says; else no verdict: ScanError."""
    found = [*(finding.severity for finding in scan.findings), *(secret.severity for secret in scan.secrets)]
    severe = sum(severity in severities for severity in found)
    if gate_exit_code != (1 if severe else 0):
        raise ScanError(
            f"Trivy's own gate ended with exit code {gate_exit_code}, our reading of its report has {severe} findings",
            usually="the report's form changed with Trivy's version",
            next_step="open an issue with trivy.json from the report directory",
        )


def locked_packages(lock: str) -> dict[str, str]:
    """The packages that a requirements.txt with hashes pins: canonical name to version."""
    pins: dict[str, str] = {}
    for line in lock.splitlines():
        if not line or line.startswith((" ", "#", "\t", "-")):
            continue
        requirement = Requirement(line.rstrip("\\ "))
        if requirement.marker is None or requirement.marker.evaluate(
            {"sys_platform": "linux", "platform_system": "Linux"}
        ):
            pins[canonicalize_name(requirement.name)] = str(requirement.specifier).removeprefix("==")
    return pins


async def covered(scan: report.Scan | None, image: report.Image | None) -> report.Scan | None:
    """The scan, where it saw this very image and all that is in it.

    A scanner that saw less has no verdict: ScanError. An image without an os-release, a package database or *.dist-info
    folders is a log line to Trivy, and exit code 0 (aquasecurity/trivy#647).
    """
    if scan is None or image is None:
        return scan
    if scan.config_digest != image.config_digest:
        raise ScanError(
            f"the scanner read image {scan.config_digest}, the archive holds {image.config_digest}",
            usually="something replaced the archive during the run",
            next_step="run again, and let nothing else write to the report directory",
        )
    if unseen := scan.unseen_packages:
        expected = len(scan.locked_packages)
        raise ScanError(
            f"the scanner saw {expected - len(unseen)} of the lock's {expected} packages, not {', '.join(unseen)}",
            usually="a step of the Dockerfile removed *.dist-info folders, by which a scanner knows a package",
            next_step="keep *.dist-info in the image, or name the lock that the image really installs in the policy",
        )
    if not scan.os_family or not scan.os_packages:
        seen = scan.os_family or "no operating system"
        raise ScanError(
            f"the scanner saw {seen} and {scan.os_packages} system packages, expected at least 1",
            usually="a step of the Dockerfile removed /etc/os-release or /var/lib/dpkg/status",
            next_step="keep both in the image: without them no vulnerability of the system can be found",
        )
    return scan
