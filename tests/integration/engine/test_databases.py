"""A scan is done with a whole and recent database of the scanner's form, by the pinned scanner, or not at all."""

from __future__ import annotations

import ssl
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from tests.integration.engine import databases
from tests.integration.engine.conftest import in_miniature
from tests.integration.engine.project import Finished, Project
from tests.support import tls


def failure(finished: Finished) -> str:
    return str(finished.report["failures"][0]["message"])


def test_a_source_that_is_asked_too_often_or_down_is_passed_over(tiny: Project, tmp_path: Path) -> None:
    recent = databases.copied(tmp_path / "db", UpdatedAt=databases.now())
    with databases.served(recent) as (host, asked):
        sources = [f"{host}/refuses-429/db:2", f"{host}/refuses-503/db:2", f"{host}/whole/db:2"]
        environment = databases.images(tmp_path / "images.toml", base_images="official", databases=sources)
        finished = tiny.run("--no-push", environment=environment)
    assert finished.exit_code == 0, finished.output
    assert finished.report["scan"]["database_source"] == sources[2]
    assert finished.row("advisories are recent")["verdict"] == "PASS"
    assert any(path.startswith("/v2/refuses-429/") for path in asked)
    assert any(path.startswith("/v2/refuses-503/") for path in asked)


def test_a_database_can_be_pinned_by_its_digest_and_comes_from_a_server_of_a_private_authority(
    tiny: Project, tmp_path: Path
) -> None:
    recent = databases.copied(tmp_path / "db", UpdatedAt=databases.now())
    certificates, server = tls.authority(tmp_path, databases.address())
    with databases.served(recent, server) as (host, _):
        url = f"https://{host}/v2/whole/db/manifests/2"
        trusting = ssl.create_default_context(cafile=certificates)
        digest = httpx.head(url, verify=trusting).headers["Docker-Content-Digest"]
        sources = [f"{host}/whole/db@{digest}"]
        environment = databases.images(tmp_path / "images.toml", base_images="official", databases=sources)
        finished = tiny.run("--no-push", environment={**environment, "SSL_CERT_FILE": str(certificates)})
    assert finished.exit_code == 0, finished.output
    assert finished.report["scan"]["database_source"] == sources[0]


def test_without_a_source_there_is_no_verdict_and_each_says_why(tiny: Project, tmp_path: Path) -> None:
    with databases.served(databases.folder()) as (host, _):
        sources = [f"{host}/refuses-429/db:2", "nowhere.invalid/db:2", str(tmp_path / "nonesuch")]
        finished = tiny.run(environment=databases.images(tmp_path / "images.toml", databases=sources))
    tiny.assert_broken(finished, "scan", 5)
    assert failure(finished) == "no source of the advisory database could be read"
    said = finished.report["failures"][0]["log"].splitlines()
    assert [line.split(": ")[0] for line in said] == sources
    assert "429" in said[0]


@pytest.mark.parametrize("version", [1, 3])
def test_a_database_of_another_schema_is_no_verdict(tiny: Project, tmp_path: Path, version: int) -> None:
    database = databases.copied(tmp_path / "db", Version=version)
    finished = tiny.run(environment=databases.images(tmp_path / "images.toml", databases=[str(database)]))
    tiny.assert_broken(finished, "scan", 5)
    assert f"is of schema {version}; the scanner reads schema 2" in failure(finished)


def test_a_database_that_was_cut_short_is_no_verdict(tiny: Project, tmp_path: Path) -> None:
    database = databases.copied(tmp_path / "db")
    content = (database / "trivy.db").read_bytes()
    (database / "trivy.db").write_bytes(content[: len(content) // 8])
    finished = tiny.run(environment=databases.images(tmp_path / "images.toml", databases=[str(database)]))
    tiny.assert_broken(finished, "scan", 5)
    assert failure(finished) == "Trivy stopped without a report"


def test_a_database_without_the_canarys_advisories_is_no_verdict(tiny: Project, tmp_path: Path) -> None:
    """It is well-formed and of today, and would call every image clean."""
    other = "GHSA-0000-0000-0001,CVE-2099-0001,nonesuch,LOW,<2.0,2.0,2026-01-01"
    database = databases.built(tmp_path / "poor", python=[other], with_sample=False)
    finished = tiny.run(environment=databases.images(tmp_path / "images.toml", databases=[str(database)]))
    tiny.assert_broken(finished, "coverage", 5)
    assert "the scanner did not find CVE-2024-24762 in python-multipart, CVE-2025-9230 in openssl" in failure(finished)


def test_a_database_older_than_the_policy_allows_is_no_verdict(tiny: Project, tmp_path: Path) -> None:
    old = (datetime.now(UTC) - timedelta(hours=49)).isoformat()
    database = databases.copied(tmp_path / "db", UpdatedAt=old)
    environment = databases.images(tmp_path / "images.toml", base_images="official", databases=[str(database)])
    finished = tiny.run(environment=environment)
    tiny.assert_broken(finished, "scan", 5)
    assert f"the advisory database of {database} is 49 h old, allowed are 48 h" == failure(finished)


def test_a_database_of_yesterday_is_told_of(tiny: Project, tmp_path: Path) -> None:
    database = databases.copied(tmp_path / "db", UpdatedAt=(datetime.now(UTC) - timedelta(hours=30)).isoformat())
    environment = databases.images(tmp_path / "images.toml", base_images="official", databases=[str(database)])
    finished = tiny.run("--no-push", environment=environment)
    assert finished.exit_code == 0, finished.output
    row = finished.row("advisories are recent")
    assert (row["verdict"], row["measured"], row["limit"]) == ("WARN", "30 h old", "48 h")


def test_another_database_is_another_scan(tiny: Project, tmp_path: Path) -> None:
    """The engine replays what it has done before, unless the database is among the inputs."""
    advisory = "GHSA-0000-0000-0001,CVE-2099-0001,tiny,CRITICAL,<2.0,2.0,2026-01-01"
    assert tiny.run("--no-push").exit_code == 0
    database = databases.built(tmp_path / "other", python=[advisory])
    environment = databases.images(tmp_path / "images.toml", databases=[str(database)])
    tiny.assert_rejected(tiny.run(environment=environment), "HIGH or CRITICAL")
    assert tiny.run("--no-push").exit_code == 0


def test_two_scans_at_once_do_not_lock_each_others_database(tiny: Project, tmp_path: Path) -> None:
    other = in_miniature(tmp_path / "other")
    other.edit("service/server.py", '"not a row"', '"no row"')
    database = databases.copied(tmp_path / "db", DownloadedAt=databases.now())
    environment = databases.images(tmp_path / "images.toml", databases=[str(database)])
    with ThreadPoolExecutor() as threads:
        runs = [threads.submit(project.run, "--no-push", environment=environment) for project in (tiny, other)]
    assert [run.result().exit_code for run in runs] == [0, 0], [run.result().output for run in runs]


def test_a_scanner_that_is_named_by_a_tag_does_not_run(tiny: Project, tmp_path: Path) -> None:
    tag = "docker.io/aquasec/trivy:0.74.0"
    finished = tiny.run(environment=databases.images(tmp_path / "images.toml", trivy=tag))
    tiny.assert_broken(finished, "scan", 5)
    assert failure(finished) == f"the scanner {tag} is not pinned by its digest"
    assert not (finished.report_dir / "trivy.json").exists()


def test_a_scanner_that_is_not_the_pinned_one_does_not_run(tiny: Project, tmp_path: Path) -> None:
    """The tag is there, and the registry has no image of that digest."""
    pin = f"docker.io/aquasec/trivy:0.74.0@sha256:{'0' * 64}"
    finished = tiny.run(environment=databases.images(tmp_path / "images.toml", trivy=pin))
    tiny.assert_broken(finished, "scan", 5)
    assert not (finished.report_dir / "trivy.json").exists()


def test_one_scan_is_left_in_every_form(tiny: Project) -> None:
    finished = tiny.run("--no-push")
    assert finished.exit_code == 0, finished.output
    left = {
        path.name: path.read_text()
        for path in finished.report_dir.iterdir()
        if path.suffix in (".json", ".sarif", ".txt")
    }
    assert '"bomFormat": "CycloneDX"' in left["sbom.cdx.json"]
    assert '"spdxVersion": "SPDX-' in left["sbom.spdx.json"]
    assert '"version": "2.1.0"' in left["trivy.sarif"]
    assert "debian" in left["trivy.txt"]
    for form in ("sbom.cdx.json", "sbom.spdx.json"):
        assert '"tiny"' in left[form]
        assert "libssl3t64" in left[form]
