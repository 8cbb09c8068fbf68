from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

import trivy
from errors import ScanError
from report import Finding, Scan, Secret
from tests.ci import examples

# Cut down from what Trivy 0.74.0 wrote about an image of this repository.
DOCUMENT: dict[str, Any] = {
    "SchemaVersion": 2,
    "Metadata": {"OS": {"Family": "debian", "Name": "13.1"}, "ImageID": examples.CONFIG_DIGEST},
    "Results": [
        {
            "Target": "/scan/image.tar (debian 13.1)",
            "Class": "os-pkgs",
            "Type": "debian",
            "Packages": [{"Name": "bash", "Version": "5.2.37"}, {"Name": "libc6", "Version": "2.41"}],
            "Vulnerabilities": [
                {"VulnerabilityID": "CVE-2025-1", "PkgName": "libc6", "InstalledVersion": "2.41"},
            ],
        },
        {
            "Target": "Python",
            "Class": "lang-pkgs",
            "Type": "python-pkg",
            "Packages": [{"Name": "Python_Multipart", "Version": "0.0.6"}],
            "Vulnerabilities": [
                {
                    "VulnerabilityID": "CVE-2024-24762",
                    "PkgName": "python-multipart",
                    "InstalledVersion": "0.0.6",
                    "FixedVersion": "0.0.7",
                    "Severity": "HIGH",
                    "Title": "slow",
                }
            ],
        },
        {
            "Target": "/app/config.env",
            "Class": "secret",
            "Secrets": [{"RuleID": "github-pat", "Severity": "CRITICAL", "Match": "TOKEN=****"}],
        },
    ],
}
VERSION = '{"Version": "0.74.0"}'
DATABASE = '{"Version": 2, "UpdatedAt": "2026-11-22T00:00:00Z"}'


def read(document: object) -> Scan:
    return trivy.read(
        json.dumps(document), version=VERSION, database=DATABASE, database_digest="sha256:db", locked_packages={}
    )


def test_a_report_is_read_to_its_last_finding() -> None:
    scan = read(DOCUMENT)
    assert (scan.os_family, scan.os_version, scan.os_packages) == ("debian", "13.1", 2)
    assert scan.python_packages == {"python-multipart": "0.0.6"}
    assert scan.package_count == 3
    assert scan.findings == (
        Finding(id="CVE-2025-1", package="libc6", installed_version="2.41", fixed_version="", severity="UNKNOWN"),
        examples.HIGH,
    )
    assert scan.secrets == (Secret(rule="github-pat", target="/app/config.env", severity="CRITICAL"),)
    assert (scan.scanner_version, scan.database_version) == ("0.74.0", "2")
    assert scan.database_updated_at == "2026-11-22T00:00:00Z"


@pytest.mark.parametrize("document", [{}, [], {"Metadata": None}, {**DOCUMENT, "Results": [{}]}])
def test_a_report_of_another_form_is_no_verdict(document: object) -> None:
    with pytest.raises(ScanError, match="Trivy's report could not be read"):
        read(document)


@pytest.mark.parametrize(
    ("document", "version", "database"),
    [("{", VERSION, DATABASE), (json.dumps(DOCUMENT), "", DATABASE), (json.dumps(DOCUMENT), VERSION, '{"Version": 2}')],
)
def test_what_was_cut_short_is_no_verdict(document: str, version: str, database: str) -> None:
    with pytest.raises(ScanError, match="Trivy's report could not be read"):
        trivy.read(document, version=version, database=database, database_digest="", locked_packages={})


@pytest.mark.parametrize("system", [{}, {"OS": {"Family": "none"}}])
def test_an_image_with_nothing_to_find_has_no_results(system: dict[str, object]) -> None:
    scan = read({"Metadata": {"ImageID": examples.CONFIG_DIGEST, **system}})
    assert (scan.os_family, scan.os_packages, scan.findings) == ("", 0, ())


@pytest.mark.parametrize(
    ("findings", "secrets", "gate_exit_code", "agrees"),
    [
        ([], [], 0, True),
        ([examples.HIGH], [], 1, True),
        ([], [Secret(rule="a", target="b", severity="HIGH")], 1, True),
        ([examples.HIGH.model_copy(update={"severity": "LOW"})], [], 0, True),
        ([examples.HIGH], [], 0, False),
        ([], [], 1, False),
        # Not 1 is Trivy's own failure, whatever our reading says.
        ([examples.HIGH], [], 2, False),
    ],
)
def test_trivys_own_gate_has_to_agree(
    findings: list[Finding], secrets: list[Secret], gate_exit_code: int, agrees: bool
) -> None:
    scan = examples.scan(findings, secrets)
    if agrees:
        trivy.require_agreement(scan, ["HIGH", "CRITICAL"], gate_exit_code)
        return
    with pytest.raises(ScanError, match=f"Trivy's own gate ended with exit code {gate_exit_code}"):
        trivy.require_agreement(scan, ["HIGH", "CRITICAL"], gate_exit_code)


@pytest.mark.parametrize(
    ("scan", "what"),
    [
        (
            examples.scan(python_packages={"fastapi": "0.115.0"}),
            "the scanner saw 1 of the lock's 2 packages, not numpy",
        ),
        (
            examples.scan(python_packages={**examples.LOCKED, "numpy": "1.0"}),
            "the scanner saw 1 of the lock's 2 packages, not numpy",
        ),
        (
            examples.scan(os_family="", os_packages=0),
            "the scanner saw no operating system and 0 system packages, expected at least 1",
        ),
        (
            examples.scan(os_packages=0),
            "the scanner saw debian and 0 system packages, expected at least 1",
        ),
        (
            examples.scan(config_digest="sha256:other"),
            f"the scanner read image sha256:other, the archive holds {examples.CONFIG_DIGEST}",
        ),
    ],
)
def test_a_scanner_that_saw_less_has_no_verdict(scan: Scan, what: str) -> None:
    with pytest.raises(ScanError) as blind:
        anyio.run(trivy.covered, scan, examples.image())
    assert blind.value.what == what
    assert blind.value.exit_code == 5


def test_a_scanner_that_saw_everything_is_believed() -> None:
    scan = examples.scan()
    assert anyio.run(trivy.covered, scan, examples.image()) is scan
    assert anyio.run(trivy.covered, None, examples.image()) is None


def test_the_lock_is_read_as_pip_reads_it() -> None:
    lock = """\
# a comment
Fast_API==0.115.0 \\
    --hash=sha256:00
    # via something
colorama==0.4.6 ; sys_platform == 'win32' \\
    --hash=sha256:01
uvloop==0.22.1 ; sys_platform != 'win32' \\
    --hash=sha256:02
-r other.txt
"""
    assert trivy.locked_packages(lock) == {"fast-api": "0.115.0", "uvloop": "0.22.1"}


def test_the_scan_goes_nowhere_and_fails_only_where_trivy_itself_fails() -> None:
    arguments = trivy.scan_arguments()
    for flag in ("--offline-scan", "--skip-db-update", "--skip-java-db-update", "--skip-check-update"):
        assert flag in arguments
    assert arguments[arguments.index("--exit-code") + 1] == "0"
    assert arguments[arguments.index("--image-config-scanners") + 1] == "secret"
    assert trivy.second_reading_arguments(["HIGH", "CRITICAL"])[-4:] == [
        "1",
        "--severity",
        "HIGH,CRITICAL",
        "/scan/report.json",
    ]
