"""Converts the sample advisories to the input of Trivy's database builder: JSON as GitHub and Debian publish it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parent / "advisories"
SNAPSHOT_AT = "2026-11-22T00:00:00Z"
# The releases in the sample. The tracker's own file has all releases.
DISTRIBUTIONS = {"bookworm": "12", "trixie": "13"}


def write_sources(samples: Path, cache: Path) -> None:
    """Write python.csv and debian.csv of `samples` into the folders that `trivy-db build --cache-dir` reads."""
    merged: dict[str, dict[str, Any]] = {}
    for row in _read_rows(samples / "python.csv"):
        advisory = create_python_advisory(row)
        merged.setdefault(row["ghsa"], {**advisory, "affected": []})["affected"] += advisory["affected"]
    for ghsa, advisory in merged.items():
        year, month, _ = advisory["published"].split("-")
        _write_json(cache / "ghsa" / "advisories" / "github-reviewed" / year / month / ghsa / f"{ghsa}.json", advisory)
    # The builder walks these folders, even if they are empty.
    (cache / "cocoapods-specs" / "Specs").mkdir(parents=True)
    tracker = cache / "vuln-list-debian" / "tracker"
    for empty in ("source", "updates-source", "CVE", "DLA", "DSA"):
        (tracker / empty).mkdir(parents=True)
    _write_json(
        tracker / "distributions.json", {name: {"major-version": major} for name, major in DISTRIBUTIONS.items()}
    )
    for cve, rows in _group_by_cve(_read_rows(samples / "debian.csv")).items():
        _write_json(tracker / "CVE" / f"{cve}.json", create_debian_cve(cve, rows))


def create_python_advisory(row: dict[str, str]) -> dict[str, Any]:
    """Convert a line of python.csv to the Open Source Vulnerability schema, as GitHub publishes it."""
    ranges = row["vulnerable_ranges"].split(";")
    patched = row["patched_version"].split(";") if row["patched_version"] else []
    return {
        "schema_version": "1.4.0",
        "id": row["ghsa"],
        "aliases": [row["cve"]] if row["cve"] else [],
        "published": f"{row['published']}T00:00:00Z",
        "modified": f"{row['published']}T00:00:00Z",
        "summary": "",
        "affected": [
            {
                "package": {"ecosystem": "PyPI", "name": row["package"]},
                "ranges": [{"type": "ECOSYSTEM", "events": _create_events(bounds, patched[number : number + 1])}],
            }
            for number, bounds in enumerate(ranges)
        ],
        "database_specific": {"severity": row["severity"]},
    }


def create_debian_cve(cve: str, rows: list[dict[str, str]]) -> dict[str, Any]:
    """Convert the lines of debian.csv about one CVE to the record of Debian's security tracker.

    The builder reads an urgency only from the line about unstable, which has no release.
    """
    urgencies = {row["source_package"]: row["urgency"] for row in rows if row["urgency"]}
    unstable = [_create_annotation(package, "", "", urgency) for package, urgency in urgencies.items()]
    releases = [_create_annotation(row["source_package"], row["release"], row["fixed_version"], "") for row in rows]
    return {"Header": {"ID": cve, "Description": ""}, "Annotations": [*unstable, *releases]}


def _create_annotation(package: str, release: str, fixed_version: str, urgency: str) -> dict[str, str]:
    return {
        "Type": "package",
        "Release": release,
        "Package": package,
        "Kind": "fixed" if fixed_version else "unfixed",
        "Version": fixed_version,
        "Severity": urgency,
    }


def _create_events(bounds: str, patched: list[str]) -> list[dict[str, str]]:
    introduced, last = "0", ""
    for bound in bounds.split(","):
        if bound.startswith(">="):
            introduced = bound[2:]
        elif bound.startswith("<="):
            last = bound[2:]
        elif bound.startswith("="):
            introduced = last = bound[1:]
    if patched:
        return [{"introduced": introduced}, {"fixed": patched[0]}]
    return [{"introduced": introduced}, *([{"last_affected": last}] if last else [])]


def _group_by_cve(rows: list[dict[str, str]]) -> dict[str, list[dict[str, str]]]:
    grouped: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        if row["release"] in DISTRIBUTIONS:
            grouped.setdefault(row["cve"], []).append(row)
    return grouped


def _read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
