"""What the policy decides, in real runs: the same image is let through or rejected, and either way it is said."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.integration.engine import databases
from tests.integration.engine.project import Project

SEVERE = "HIGH or CRITICAL"
TOMORROW = (datetime.now(UTC) + timedelta(days=1)).date()
DEBIAN_HIGH = "CVE-2099-0002,,coreutils,trixie,99.0-1,high"


def advisory(severity: str, *, fixed: str = "2.0") -> str:
    """A line of python.csv about the one package of the image in miniature."""
    affected = f"<{fixed}" if fixed else "<=9.9"
    return f"GHSA-0000-0000-0001,CVE-2099-0001,tiny,{severity},{affected},{fixed},2026-01-01"


def with_database(
    tmp_path: Path, *, python: list[str] | None = None, debian: list[str] | None = None
) -> dict[str, str]:
    database = databases.built(tmp_path / "database", python=python or [], debian=debian or [])
    return databases.images(tmp_path / "images.toml", databases=[str(database)])


def say(project: Project, line: str) -> None:
    project.edit("pipeline.toml", "[limits]", f"[scan]\n{line}\n\n[limits]")


def test_what_is_not_severe_is_listed_and_let_through(tiny: Project, tmp_path: Path) -> None:
    lines = [advisory("MODERATE"), advisory("LOW").replace("-0001", "-0003")]
    finished = tiny.run("--no-push", environment=with_database(tmp_path, python=lines))
    assert finished.exit_code == 0, finished.output
    found = [each for each in finished.report["findings"] if each["finding"]["package"] == "tiny"]
    assert sorted((each["finding"]["id"], each["finding"]["severity"], each["disposition"]) for each in found) == [
        ("CVE-2099-0001", "MEDIUM", "listed only"),
        ("CVE-2099-0003", "LOW", "listed only"),
    ]


def test_what_the_policy_calls_severe_is_severe(tiny: Project, tmp_path: Path) -> None:
    say(tiny, 'severities = ["MEDIUM"]')
    finished = tiny.run(environment=with_database(tmp_path, python=[advisory("MODERATE")]))
    tiny.assert_rejected(finished, SEVERE)


def test_a_high_without_a_fix_is_listed_or_rejected_as_the_policy_says(tiny: Project, tmp_path: Path) -> None:
    environment = with_database(tmp_path, python=[advisory("HIGH", fixed="")])
    finished = tiny.run("--no-push", environment=environment)
    assert finished.exit_code == 0, finished.output
    (found,) = [each for each in finished.report["findings"] if each["finding"]["package"] == "tiny"]
    assert found["disposition"] == "no fix yet"
    assert "1 without a fix yet, listed below" in finished.output
    say(tiny, 'unfixed = "reject"')
    finished = tiny.run(environment=environment)
    tiny.assert_rejected(finished, SEVERE)
    assert finished.row(SEVERE)["details"] == ["CVE-2099-0001 HIGH tiny 1.0, no fix yet"]


def test_a_package_of_the_system_with_a_high_is_rejected(tiny: Project, tmp_path: Path) -> None:
    finished = tiny.run(environment=with_database(tmp_path, debian=[DEBIAN_HIGH]))
    tiny.assert_rejected(finished, SEVERE)
    (detail,) = finished.row(SEVERE)["details"]
    assert detail.startswith("CVE-2099-0002 HIGH coreutils ")
    assert detail.endswith(", fixed in 99.0-1")


def test_an_ignore_lets_its_finding_through_and_keeps_it_in_sight(tiny: Project, tmp_path: Path) -> None:
    entry = f'[[ignore]]\nid = "CVE-2099-0001"\nreason = "never called"\nowner = "ana"\nexpires = {TOMORROW}\n'
    tiny.edit("pipeline.toml", "[limits]", f"{entry}\n[limits]")
    finished = tiny.run("--no-push", environment=with_database(tmp_path, python=[advisory("HIGH")]))
    assert finished.exit_code == 0, finished.output
    assert finished.row(SEVERE)["details"] == ["1 ignored, listed below"]
    (found,) = [each for each in finished.report["findings"] if each["disposition"] == "ignored"]
    assert found["note"] == f"never called (ana, until {TOMORROW})"
    for name in ("report.txt", "report.html", "summary.md"):
        rendered = (finished.report_dir / name).read_text()
        assert "CVE-2099-0001" in rendered
        assert "never called" in rendered
    assert [ignore["state"] for ignore in finished.report["ignores"]] == ["active"]


def test_an_ignore_of_nothing_is_told_of(tiny: Project) -> None:
    entry = f'[[ignore]]\nid = "CVE-2099-0001"\nreason = "never called"\nowner = "ana"\nexpires = {TOMORROW}\n'
    tiny.edit("pipeline.toml", "[limits]", f"{entry}\n[limits]")
    finished = tiny.run("--no-push")
    assert finished.exit_code == 0, finished.output
    row = finished.row("no expired or unused ignores")
    assert (row["verdict"], row["details"]) == ("WARN", ["CVE-2099-0001 matches nothing: remove it, ana"])
    file, _, line = row["location"].partition(":")
    assert (tiny.root / file).read_text().splitlines()[int(line) - 1] == 'id = "CVE-2099-0001"'


def test_the_limits_of_a_layer_and_of_an_image_are_exact(tiny: Project) -> None:
    bare = sum(layer["size_bytes"] for layer in tiny.run("--no-push").report["image"]["layers"])
    tiny.edit("pipeline.toml", "[limits]", "[limits]\nlayer_size_mb = 130\nimage_size_mb = 300")
    filled = "RUN truncate -s 130000000 /srv/layer\nRUN truncate -s {} /srv/rest\nUSER 10001"
    at_the_limit = filled.format(300_000_000 - bare - 130_000_000)
    tiny.edit("Dockerfile", "USER 10001", at_the_limit)
    finished = tiny.run("--no-push")
    assert finished.exit_code == 0, finished.output
    assert [finished.row(name)["measured"] for name in ("largest layer", "image size")] == ["130 MB", "300 MB"]
    tiny.edit("Dockerfile", "-s 130000000", "-s 130000001")
    finished = tiny.run()
    tiny.assert_rejected(finished, "image size", "largest layer")
    assert [finished.row(name)["measured"] for name in ("largest layer", "image size")] == [
        "130,000,001 bytes",
        "300,000,001 bytes",
    ]


def test_a_layer_that_was_split_is_two_at_once(tiny: Project) -> None:
    """The files are the same, and so is the revision: Dagger alone would hand out the archive of the first build."""
    tiny.edit("Dockerfile", "USER 10001", "RUN truncate -s 120MB /a && truncate -s 121MB /b\nUSER 10001")
    tiny.assert_rejected(tiny.run(), "largest layer")
    tiny.edit("Dockerfile", "/a && truncate", "/a\nRUN truncate")
    finished = tiny.run()
    assert finished.exit_code == 0, finished.output
    assert finished.row("largest layer")["measured"] == "121 MB"


def test_updates_that_cannot_be_asked_for_are_told_of_or_demanded(tiny: Project) -> None:
    tiny.edit("Dockerfile", "USER 10001", "RUN rm /etc/apt/sources.list* -rf; rm /usr/bin/apt-get\nUSER 10001")
    finished = tiny.run("--no-push")
    assert finished.exit_code == 0, finished.output
    row = finished.row("no security update pending")
    assert (row["verdict"], row["details"]) == ("WARN", ["apt-get could not say: the image has no apt-get to ask"])
    say(tiny, 'pending_updates = "reject"')
    finished = tiny.run()
    assert finished.exit_code == 1, finished.output
    assert finished.row("no security update pending")["verdict"] == "NOT RUN"
    tiny.assert_nothing_pushed(finished)
