from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest
import yaml

from drydock.errors import ScanError
from drydock.report import Canary, Finding, Package, Scan, Secret
from drydock.tools import scanner_self_test, trivy
from drydock.tools.trivy import Database
from tests.support import examples

SYSTEM = tuple(Package(name=f"lib{number}", version="1", kind="debian", size_bytes=1) for number in range(80))
IMAGE = examples.image().model_copy(
    update={"packages": (*SYSTEM, Package(name="numpy", version="2.1.0", kind="python", size_bytes=1))}
)

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
                    "PublishedDate": "2024-02-12T00:00:00Z",
                    "PrimaryURL": "https://example.org/CVE-2024-24762",
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
METADATA = '{"Version": 2, "UpdatedAt": "2026-11-22T00:00:00.123456789Z", "NextUpdate": "2026-11-23T00:00:00Z"}'
SOURCE = "mirror.gcr.io/aquasec/trivy-db:2"
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
# Cut down from what Trivy 0.74.0 wrote about the canary.
CANARY: dict[str, Any] = {
    "Results": [
        {"Class": "os-pkgs", "Vulnerabilities": [{"VulnerabilityID": "CVE-2025-9230", "PkgName": "openssl"}]},
        {
            "Class": "lang-pkgs",
            "Vulnerabilities": [
                {"VulnerabilityID": "CVE-2024-24762", "PkgName": "python-multipart"},
                {"VulnerabilityID": "CVE-2024-53981", "PkgName": "python-multipart"},
            ],
        },
        {"Target": "/srv/config.env", "Class": "secret", "Secrets": [{"RuleID": "github-pat"}]},
        *(
            {"Target": f"/{path}", "Class": "secret", "Secrets": [{"RuleID": "github-pat"}]}
            for path in scanner_self_test.TOKEN_FILES[1:]
        ),
    ]
}


def database(metadata: str = METADATA, is_sample: bool = False) -> Database:
    return trivy.read_database(metadata, source=SOURCE, digest="sha256:db", is_sample=is_sample)


def read(document: object, canary_document: object = CANARY, version: str = VERSION) -> Scan:
    return trivy.read_scan(
        document if isinstance(document, str) else json.dumps(document),
        version=version,
        database=database(),
        scanned_at=NOON,
        canary_document=canary_document if isinstance(canary_document, str) else json.dumps(canary_document),
        locked_packages={"numpy": "2.1.0"},
    )


def test_a_report_is_read_to_its_last_finding() -> None:
    scan = read(DOCUMENT)
    assert scan == Scan(
        scanned_at="2026-11-22T12:00:00+00:00",
        scanner_version="0.74.0",
        canary=Canary(expected=scanner_self_test.EXPECTED, found=scanner_self_test.EXPECTED),
        database_source=SOURCE,
        database_is_sample=False,
        database_version="2",
        database_updated_at="2026-11-22T00:00:00+00:00",
        database_digest="sha256:db",
        config_digest=examples.CONFIG_DIGEST,
        os_family="debian",
        os_version="13.1",
        os_end_of_life=False,
        os_packages=2,
        python_packages={"python-multipart": "0.0.6"},
        locked_packages={"numpy": "2.1.0"},
        findings=(
            Finding(id="CVE-2025-1", package="libc6", installed_version="2.41", fixed_version="", severity="UNKNOWN"),
            examples.HIGH.model_copy(update={"published_at": "2024-02-12T00:00:00+00:00"}),
        ),
        secrets=(Secret(rule="github-pat", target="/app/config.env", severity="CRITICAL"),),
    )
    assert scan.package_count == 3


def test_lists_that_trivy_left_out_or_wrote_as_null_are_empty() -> None:
    results = [{"Class": "os-pkgs", "Packages": None, "Vulnerabilities": None, "Secrets": None}, {"Class": "os-pkgs"}]
    scan = read({**DOCUMENT, "Results": results}, {"Results": results})
    assert (scan.os_packages, scan.findings, scan.secrets, scan.canary.found) == (0, (), (), ())


@pytest.mark.parametrize("published", ["yesterday", "2024-02-12T00:00:00", 20240212, None])
def test_a_finding_of_no_known_day_is_no_verdict(published: object) -> None:
    result = {**DOCUMENT["Results"][1]}
    result["Vulnerabilities"] = [{**result["Vulnerabilities"][0], "PublishedDate": published}]
    with pytest.raises(ScanError, match="Trivy's report could not be read"):
        read({**DOCUMENT, "Results": [result]})


@pytest.mark.parametrize("document", [{}, [], {"Metadata": None}, {**DOCUMENT, "Results": [{}]}])
def test_a_report_of_another_form_is_no_verdict(document: object) -> None:
    with pytest.raises(ScanError, match="Trivy's report could not be read"):
        read(document)


@pytest.mark.parametrize(
    ("document", "version", "canary_document"),
    [
        ("{", VERSION, CANARY),
        (DOCUMENT, "", CANARY),
        (DOCUMENT, "{}", CANARY),
        (DOCUMENT, VERSION, "{"),
        (DOCUMENT, VERSION, "[]"),
        (DOCUMENT, VERSION, {"Results": [{"Secrets": [{}]}]}),
    ],
)
def test_what_was_cut_short_is_no_verdict(document: object, version: str, canary_document: object) -> None:
    with pytest.raises(ScanError, match="Trivy's report could not be read"):
        read(document, canary_document, version)


@pytest.mark.parametrize("missed", range(6))
def test_what_the_scanner_passed_over_in_the_canary_is_missed(missed: int) -> None:
    results = [result for number, result in enumerate(CANARY["Results"]) if number != missed]
    scan = read(DOCUMENT, {"Results": results})
    name = [
        "CVE-2025-9230 in openssl",
        "CVE-2024-24762 in python-multipart",
        "github-pat in srv/config.env",
        "github-pat in srv/tests/config.env",
        "github-pat in usr/local/lib/python3.13/site-packages/settings.py",
        "github-pat in srv/package-lock.json",
    ][missed]
    assert scan.canary.missed == (name,)
    with pytest.raises(ScanError) as blind:
        trivy.require_canary(scan)
    assert blind.value.message == f"the scanner did not find {name} in the canary, an image known to be vulnerable"


def test_a_canary_with_the_right_finding_in_the_wrong_package_is_missed() -> None:
    results = [{"Vulnerabilities": [{"VulnerabilityID": "CVE-2025-9230", "PkgName": "python-multipart"}]}]
    assert read(DOCUMENT, {"Results": results}).canary.found == ()


def test_a_database_says_its_form_and_its_time() -> None:
    assert database(is_sample=True) == Database(
        SOURCE, True, "sha256:db", 2, datetime(2026, 11, 22, 0, 0, 0, 123456, tzinfo=UTC)
    )


@pytest.mark.parametrize("version", [1, 3])
def test_a_database_of_another_form_is_no_ground_for_a_verdict(version: int) -> None:
    with pytest.raises(ScanError) as strange:
        database(METADATA.replace('"Version": 2', f'"Version": {version}'))
    assert strange.value.message == (
        f"the advisory database of {SOURCE} is of schema {version}; the scanner reads schema 2"
    )
    assert strange.value.next_step == "name a database with the tag 2, then run again"


@pytest.mark.parametrize(
    ("metadata", "why"),
    [
        (METADATA[:20], "JSONDecodeError("),
        ("", "JSONDecodeError("),
        ("null", "TypeError("),
        ("[]", "TypeError("),
        ('{"UpdatedAt": "2026-11-22T00:00:00Z"}', "KeyError('Version')"),
        ('{"Version": 2}', "KeyError('UpdatedAt')"),
        ('{"Version": 2, "UpdatedAt": "today"}', "ValueError("),
        ('{"Version": 2, "UpdatedAt": 1}', "TypeError("),
        (
            '{"Version": 2, "UpdatedAt": "2026-11-22T00:00:00"}',
            "ValueError('2026-11-22T00:00:00 has no time zone')",
        ),
    ],
)
def test_a_database_that_does_not_say_what_it_is_is_no_ground_for_a_verdict(metadata: str, why: str) -> None:
    with pytest.raises(ScanError) as unknown:
        database(metadata)
    assert unknown.value.message.startswith(f"the advisory database of {SOURCE} does not say what it is: {why}")


def test_advisories_that_are_too_old_are_no_ground_for_a_verdict() -> None:
    updated_at, policy = NOON - timedelta(hours=48), examples.policy().scan
    old = replace(database(), updated_at=updated_at)
    trivy.require_recent(old, NOON, policy)
    with pytest.raises(ScanError) as stale:
        trivy.require_recent(old, NOON + timedelta(seconds=1), policy)
    assert stale.value.message == f"the advisory database of {SOURCE} is 48 h old, allowed are 48 h"
    with pytest.raises(ScanError):
        trivy.require_recent(old, NOON, examples.policy(scan={"database_max_hours": 47}).scan)
    # Two clocks may differ, but not by more than this.
    trivy.require_recent(old, old.updated_at - timedelta(hours=1), policy)
    with pytest.raises(ScanError, match="12:00, in the future"):
        trivy.require_recent(old, old.updated_at - timedelta(hours=1, seconds=1), policy)
    # The report says of a sample that it is one; its age says nothing.
    trivy.require_recent(replace(old, is_sample=True), NOON + timedelta(days=400), policy)


@pytest.mark.parametrize(
    "image", ["docker.io/aquasec/trivy:0.74.0", "aquasec/trivy", "trivy@sha512:62", "trivy@sha256:62"]
)
def test_a_scanner_without_its_digest_is_refused(image: str) -> None:
    with pytest.raises(ScanError) as unpinned:
        trivy.require_pinned(image)
    assert unpinned.value.message == f"the scanner {image} is not pinned by its digest"
    trivy.require_pinned(examples.OFFICIAL.trivy)


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
            "the scanner saw no operating system and 0 system packages, expected at least 80",
        ),
        (
            examples.scan(os_packages=0),
            "the scanner saw debian and 0 system packages, expected at least 80",
        ),
        (
            examples.scan(os_family="", os_packages=80),
            "the scanner saw no operating system and 80 system packages, expected at least 80",
        ),
        (
            # The image's own package database names 80.
            examples.scan(os_packages=79),
            "the scanner saw debian and 79 system packages, expected at least 80",
        ),
        (
            examples.scan(canary=Canary(expected=("a in b", "c in d"), found=())),
            "the scanner did not find a in b, c in d in the canary, an image known to be vulnerable",
        ),
        (
            examples.scan(config_digest="sha256:other"),
            f"the scanner read image sha256:other, the archive holds {examples.CONFIG_DIGEST}",
        ),
    ],
)
def test_a_scanner_that_saw_less_has_no_verdict(scan: Scan, what: str) -> None:
    with pytest.raises(ScanError) as blind:
        anyio.run(trivy.require_coverage, scan, IMAGE)
    assert blind.value.message == what
    assert blind.value.exit_code == 5


def test_an_image_that_names_no_packages_of_its_system_has_some_all_the_same() -> None:
    with pytest.raises(ScanError, match="the scanner saw debian and 0 system packages, expected at least 1"):
        anyio.run(trivy.require_coverage, examples.scan(os_packages=0), examples.image())


def test_a_scanner_that_saw_everything_is_believed() -> None:
    scan = examples.scan(os_packages=80)
    assert anyio.run(trivy.require_coverage, scan, IMAGE) is scan
    assert anyio.run(trivy.require_coverage, None, IMAGE) is None


def test_the_canary_is_asked_for_even_where_the_image_could_not_be_read() -> None:
    assert anyio.run(trivy.require_coverage, examples.scan(), None) == examples.scan()
    with pytest.raises(ScanError, match="in the canary, an image known to be vulnerable"):
        anyio.run(trivy.require_coverage, examples.scan(canary=Canary(expected=("a in b",), found=())), None)


@pytest.mark.parametrize(
    "scan", [examples.scan(python_packages={}), examples.scan(os_packages=0), examples.scan(os_family="fedora")]
)
def test_a_scanner_that_saw_less_has_no_verdict_even_where_the_image_could_not_be_read(scan: Scan) -> None:
    with pytest.raises(ScanError):
        anyio.run(trivy.require_coverage, scan, None)


def locked(lock: str, python: str = "3.13", platform: str = "linux/amd64") -> dict[str, str]:
    return trivy.parse_locked_packages(lock, python=python, platform=platform)


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
--only-binary=:all:
"""
    assert locked(lock) == {"fast-api": "0.115.0", "uvloop": "0.22.1"}


@pytest.mark.parametrize(
    ("marker", "python", "platform", "is_installed"),
    [
        ("python_version >= '3.13'", "3.13", "linux/amd64", True),
        ("python_version >= '3.13'", "3.12", "linux/amd64", False),
        ("python_full_version < '3.13'", "3.13", "linux/amd64", False),
        ("python_full_version < '3.13'", "3.9", "linux/amd64", True),
        ("implementation_version >= '3.13'", "3.13", "linux/amd64", True),
        ("platform_machine == 'x86_64'", "3.13", "linux/amd64", True),
        ("platform_machine == 'x86_64'", "3.13", "linux/arm64", False),
        ("platform_machine == 'aarch64'", "3.13", "linux/arm64/v8", True),
        ("platform_machine == 'armv7l'", "3.13", "linux/arm/v7", True),
        ("platform_machine == 'riscv64'", "3.13", "linux/riscv64", True),
        ("os_name == 'posix' and sys_platform == 'linux'", "3.13", "linux/amd64", True),
        ("platform_system == 'Linux' and platform_python_implementation == 'CPython'", "3.13", "linux/amd64", True),
        ("implementation_name == 'cpython' and extra != 'dev'", "3.13", "linux/amd64", True),
    ],
)
def test_a_marker_is_judged_for_the_image_and_not_for_this_machine(
    monkeypatch: pytest.MonkeyPatch, marker: str, python: str, platform: str, is_installed: bool
) -> None:
    host = {"platform_machine": "sparc64", "os_name": "nt", "python_version": "2.7", "implementation_version": "2.7.0"}
    host |= {"python_full_version": "2.7.0", "implementation_name": "pypy", "platform_python_implementation": "PyPy"}
    monkeypatch.setattr("packaging.markers.default_environment", lambda: host)
    lock = f"numpy==2.1.0\nuvloop==0.22.1 ; {marker}\n"
    assert ("uvloop" in locked(lock, python, platform)) is is_installed


@pytest.mark.parametrize(
    ("lock", "why"),
    [
        ("", "it names no package"),
        ("# nothing is installed\n", "it names no package"),
        ("colorama==0.4.6 ; sys_platform == 'win32'\n", "it names no package"),
        ("numpy==2.1.0\n-r other.txt\n", "'-r other.txt' leads to packages"),
        ("numpy==2.1.0\n--requirement=other.txt\n", "leads to packages"),
        ("numpy==2.1.0\n-e .\n", "leads to packages"),
        ("numpy==2.1.0\n--editable .\n", "leads to packages"),
        ("numpy==2.1.0\nfastapi\n", "fastapi has no exact version: write fastapi==VERSION"),
        ("fastapi>=0.115\n", "fastapi has no exact version"),
        ("fastapi==0.115.*\n", "fastapi has no exact version"),
        ("fastapi==0.115.0,<1\n", "fastapi has no exact version"),
        ("fastapi===0.115.0\n", "fastapi has no exact version"),
    ],
)
def test_a_lock_that_does_not_say_all_that_has_to_be_seen_is_none(lock: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        locked(lock)


@pytest.mark.parametrize("versions", [["2.1.0", "1.0"], ["1.0", "2.1.0"]])
def test_a_package_that_is_there_twice_is_seen_in_its_locked_version(versions: list[str]) -> None:
    copies = [{"Name": "numpy", "Version": version} for version in versions]
    result = {**DOCUMENT["Results"][1], "Packages": copies}
    assert read({**DOCUMENT, "Results": [result]}).unseen_packages == ()


@pytest.mark.parametrize(("family", "is_abandoned"), [("fedora", False), ("centos-stream", False), ("debian", True)])
def test_a_system_for_which_there_are_no_advisories_has_no_verdict(family: str, is_abandoned: bool) -> None:
    scan = examples.scan(os_family=family, os_packages=80, os_end_of_life=is_abandoned)
    with pytest.raises(ScanError) as blind:
        anyio.run(trivy.require_coverage, scan, IMAGE)
    assert blind.value.message == f"the scanner has no advisories of today for {family} 13.1"


def test_trivys_word_for_a_release_that_is_no_longer_maintained_is_kept() -> None:
    system = {"OS": {"Family": "debian", "Name": "9.13", "EOSL": True}, "ImageID": examples.CONFIG_DIGEST}
    assert read({**DOCUMENT, "Metadata": system}).os_end_of_life


def test_the_scan_goes_nowhere_and_fails_only_where_trivy_itself_fails() -> None:
    arguments = trivy.scan_arguments(600)
    for flag in ("--offline-scan", "--skip-db-update", "--skip-java-db-update", "--skip-check-update"):
        assert flag in arguments
    assert arguments[arguments.index("--exit-code") + 1] == "0"
    assert arguments[arguments.index("--image-config-scanners") + 1] == "secret"
    assert trivy.gate_arguments(["HIGH", "CRITICAL"])[-4:] == [
        "1",
        "--severity",
        "HIGH,CRITICAL",
        "/scan/report.json",
    ]


def test_a_secret_in_what_trivy_passes_over_is_one_of_its_file() -> None:
    secrets = [{"RuleID": "github-pat", "Severity": "CRITICAL"}] * 2
    document = {"Results": [{"Target": "1.txt", "Class": "secret", "Secrets": secrets}, {"Target": "0.txt"}]}
    found = trivy.read_text_secrets(json.dumps(document), {"0.txt": "a", "1.txt": "app/model.pkl"})
    assert found == (Secret(rule="github-pat", target="/app/model.pkl", severity="CRITICAL"),)
    assert trivy.read_text_secrets("{}", {}) == ()


@pytest.mark.parametrize("document", ["{", "[]", '{"Results": [{"Target": "9.txt", "Secrets": [{"RuleID": "a"}]}]}'])
def test_a_report_on_what_trivy_passes_over_of_another_form_is_no_verdict(document: str) -> None:
    with pytest.raises(ScanError, match="Trivy's report could not be read"):
        trivy.read_text_secrets(document, {"1.txt": "a"})


def test_no_place_and_no_name_hides_a_secret() -> None:
    """By the rules of Trivy 0.74.0, of which each id has to be named.

    https://github.com/aquasecurity/trivy/blob/v0.74.0/pkg/fanal/secret/builtin-allow-rules.go
    """
    arguments = trivy.scan_arguments(600)
    assert arguments[arguments.index("--secret-config") + 1] == trivy.SECRET_CONFIG
    rules = yaml.safe_load(trivy.SECRET_RULES.read_text())
    assert set(rules) == {"disable-allow-rules", "skip-patterns", "allow-rules"}
    assert set(rules["disable-allow-rules"]) == {
        *("anaconda-log", "dist-info", "examples", "golang", "locale-dir", "markdown", "node.js", "python", "rubygems"),
        *("tests", "usr-dirs", "vendor", "wordpress"),
    }
    assert rules["skip-patterns"] == []


@pytest.mark.parametrize(
    ("match", "is_allowed"),
    [
        ('"AKIAIOSFODNN7EXAMPLE"', True),
        (" AKIA111111111EXAMPLE,", True),
        ("AKIAIOSFODNN7EXAMPLF", False),
        ("AKIAIOSFODNN7EXAMPLE and ghp_1", False),
        ("xAKIAIOSFODNN7EXAMPLE", False),
    ],
)
def test_what_is_allowed_is_the_whole_of_a_match_and_of_no_path(match: str, is_allowed: bool) -> None:
    rules = yaml.safe_load(trivy.SECRET_RULES.read_text())["allow-rules"]
    assert all(set(rule) == {"id", "description", "regex"} for rule in rules)
    assert any(re.search(rule["regex"], match) for rule in rules) is is_allowed


def test_the_other_forms_are_said_of_the_same_report() -> None:
    assert {name: " ".join(trivy.convert_arguments(form)) for name, form in trivy.CONVERTED.items()} == {
        "trivy.txt": "trivy convert --format table /scan/report.json",
        "trivy.sarif": "trivy convert --format sarif /scan/report.json",
        "sbom.cdx.json": "trivy convert --format cyclonedx /scan/report.json",
        "sbom.spdx.json": "trivy convert --format spdx-json /scan/report.json",
    }


def test_the_database_alone_is_downloaded_from_where_it_was_named() -> None:
    arguments = trivy.download_arguments(SOURCE)
    assert arguments[:3] == ["trivy", "image", "--download-db-only"]
    assert arguments[arguments.index("--db-repository") + 1] == SOURCE
    assert arguments[arguments.index("--cache-dir") + 1] == trivy.CACHE


SECRET = Secret(rule="github-pat", target="/app/config.env", severity="CRITICAL")


@pytest.mark.parametrize(
    ("scan", "base", "created_by"),
    [
        (examples.scan(), "", "COPY /layers/rest/ /"),
        (examples.scan(secrets=[SECRET]), "", "COPY /layers/rest/ /"),
        (
            examples.scan(secrets=[SECRET, SECRET.model_copy(update={"target": trivy.CONFIGURATION})]),
            "… (it may hold a secret)",
            "COPY … (it may hold a secret)",
        ),
        (None, "… (it may hold a secret)", "COPY … (it may hold a secret)"),
    ],
)
def test_an_instruction_is_shown_where_no_secret_was_found_among_them(
    scan: Scan | None, base: str, created_by: str
) -> None:
    shown = trivy.hide_instructions(examples.image(), scan)
    assert shown
    assert [layer.created_by for layer in shown.layers] == [base, created_by]
    assert shown.manifest_digest == examples.MANIFEST_DIGEST


def test_what_trivy_names_by_the_archive_is_the_images_configuration() -> None:
    secrets = [{"RuleID": "github-pat", "Severity": "CRITICAL"}]
    results = [{"Class": "secret", "Target": trivy.ARCHIVE, "Secrets": secrets}]
    scan = read({"Metadata": {"ImageID": examples.CONFIG_DIGEST}, "Results": results})
    assert [secret.target for secret in scan.secrets] == ["the image's history or environment"]


def test_what_trivy_quotes_of_the_images_configuration_is_not_left_behind() -> None:
    image_config = {"history": [{"created_by": "RUN token"}], "config": {"Env": ["TOKEN=1"], "User": "1"}}
    results = [{"Packages": [{"Name": "é", "Layer": {"CreatedBy": "RUN token", "Size": 1}}]}]
    document = json.dumps({"Metadata": {"ImageConfig": image_config}, "Results": results})
    assert json.loads(trivy.redact_report(document)) == {
        "Metadata": {"ImageConfig": {"history": [{"created_by": "…"}], "config": {"Env": "…", "User": "1"}}},
        "Results": [{"Packages": [{"Name": "é", "Layer": {"CreatedBy": "…", "Size": 1}}]}],
    }
    assert trivy.redact_report("{") == "{"
