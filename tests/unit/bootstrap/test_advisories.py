from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from drydock.bootstrap import advisories


def python_row(**changes: str) -> dict[str, str]:
    return {
        "ghsa": "GHSA-h5c8-rqwp-cp95",
        "cve": "CVE-2024-22195",
        "package": "jinja2",
        "severity": "MODERATE",
        "vulnerable_ranges": "<3.1.3",
        "patched_version": "3.1.3",
        "published": "2024-01-11",
        **changes,
    }


def test_a_python_advisory_is_one_of_githubs() -> None:
    assert advisories.create_python_advisory(python_row()) == {
        "schema_version": "1.4.0",
        "id": "GHSA-h5c8-rqwp-cp95",
        "aliases": ["CVE-2024-22195"],
        "published": "2024-01-11T00:00:00Z",
        "modified": "2024-01-11T00:00:00Z",
        "summary": "",
        "affected": [
            {
                "package": {"ecosystem": "PyPI", "name": "jinja2"},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "3.1.3"}]}],
            }
        ],
        "database_specific": {"severity": "MODERATE"},
    }


def test_an_advisory_without_a_cve_has_no_alias() -> None:
    assert advisories.create_python_advisory(python_row(cve=""))["aliases"] == []


@pytest.mark.parametrize(
    ("ranges", "patched", "events"),
    [
        (">=0.13.5,<0.27.0", "0.27.0", [[{"introduced": "0.13.5"}, {"fixed": "0.27.0"}]]),
        (
            "<1.26.19;>=2.0.0,<2.2.2",
            "1.26.19;2.2.2",
            [[{"introduced": "0"}, {"fixed": "1.26.19"}], [{"introduced": "2.0.0"}, {"fixed": "2.2.2"}]],
        ),
        ("<=1.16.0", "", [[{"introduced": "0"}, {"last_affected": "1.16.0"}]]),
        (">=1.24.0,<=2.14.1", "", [[{"introduced": "1.24.0"}, {"last_affected": "2.14.1"}]]),
        ("=2.0.1", "", [[{"introduced": "2.0.1"}, {"last_affected": "2.0.1"}]]),
        # All since then, and no fix yet.
        (">=4.0", "", [[{"introduced": "4.0"}]]),
    ],
)
def test_each_range_says_where_it_begins_and_ends(
    ranges: str, patched: str, events: list[list[dict[str, str]]]
) -> None:
    advisory = advisories.create_python_advisory(python_row(vulnerable_ranges=ranges, patched_version=patched))
    assert [affected["ranges"][0]["events"] for affected in advisory["affected"]] == events


def test_a_debian_bug_is_one_of_the_trackers() -> None:
    rows = [
        {"release": "trixie", "source_package": "glibc", "fixed_version": "", "urgency": ""},
        {"release": "bookworm", "source_package": "glibc", "fixed_version": "2.36-9+deb12u13", "urgency": "low"},
    ]
    assert advisories.create_debian_cve("CVE-2025-8058", rows) == {
        "Header": {"ID": "CVE-2025-8058", "Description": ""},
        "Annotations": [
            {
                "Type": "package",
                "Release": "",
                "Package": "glibc",
                "Kind": "unfixed",
                "Version": "",
                "Severity": "low",
            },
            {
                "Type": "package",
                "Release": "trixie",
                "Package": "glibc",
                "Kind": "unfixed",
                "Version": "",
                "Severity": "",
            },
            {
                "Type": "package",
                "Release": "bookworm",
                "Package": "glibc",
                "Kind": "fixed",
                "Version": "2.36-9+deb12u13",
                "Severity": "",
            },
        ],
    }


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_the_samples_lie_where_the_builder_looks(tmp_path: Path) -> None:
    advisories.write_sources(advisories.DIRECTORY, tmp_path)
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.json"))
    github = "ghsa/advisories/github-reviewed"
    assert [len([name for name in files if name.startswith(start)]) for start in (github, "vuln-list-debian")] == [
        98,
        len(cves()) + 1,
    ]
    assert read(tmp_path / f"{github}/2024/01/GHSA-h5c8-rqwp-cp95/GHSA-h5c8-rqwp-cp95.json") == (
        advisories.create_python_advisory(python_row())
    )
    tracker = tmp_path / "vuln-list-debian" / "tracker"
    assert read(tracker / "distributions.json") == {
        "bookworm": {"major-version": "12"},
        "trixie": {"major-version": "13"},
    }
    # The same bug in sid says nothing about a release, and is left out.
    assert read(tracker / "CVE" / "CVE-2025-8058.json")["Annotations"] == [
        {
            "Type": "package",
            "Release": "bookworm",
            "Package": "glibc",
            "Kind": "fixed",
            "Version": "2.36-9+deb12u13",
            "Severity": "",
        }
    ]
    empty = sorted(
        str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_dir() and not list(path.iterdir())
    )
    assert empty == [
        "cocoapods-specs/Specs",
        "vuln-list-debian/tracker/DLA",
        "vuln-list-debian/tracker/DSA",
        "vuln-list-debian/tracker/source",
        "vuln-list-debian/tracker/updates-source",
    ]


def test_an_advisory_about_two_packages_names_both(tmp_path: Path) -> None:
    advisories.write_sources(advisories.DIRECTORY, tmp_path)
    (path,) = tmp_path.rglob("GHSA-7r94-xv9v-63jw.json")
    assert {affected["package"]["name"] for affected in read(path)["affected"]} == {"tensorflow", "tensorflow-cpu"}


def sample(name: str) -> list[dict[str, str]]:
    with (advisories.DIRECTORY / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def cves() -> set[str]:
    return {row["cve"] for row in sample("debian.csv") if row["release"] != "sid"}


SAMPLES = {
    "python.csv": {
        "ghsa": r"GHSA(-[23456789cfghjmpqrvwx]{4}){3}",
        "cve": r"(CVE-\d{4}-\d{4,})?",
        "package": r"[a-z0-9]+(-[a-z0-9]+)*",
        "severity": "LOW|MODERATE|HIGH|CRITICAL",
        "vulnerable_ranges": r"(>=[\d.]+,)?<=?[\d.]+(;(>=[\d.]+,)?<=?[\d.]+)*",
        "patched_version": r"([\d.]+(;[\d.]+)*)?",
        # The sample ends with 2024; its README says so.
        "published": r"20(1\d|2[0-4])-(0[1-9]|1[0-2])-([0-2]\d|3[01])",
    },
    "debian.csv": {
        "cve": r"CVE-\d{4}-\d{4,}",
        "dsa": r"(DSA-\d{4}-\d)?",
        "source_package": r"[a-z0-9][a-z0-9.+-]+",
        "release": "bookworm|trixie|sid",
        "fixed_version": r"((\d+:)?\d[A-Za-z0-9.+~-]*)?",
        "urgency": "(unimportant)?",
    },
}


@pytest.mark.parametrize(("name", "patterns"), SAMPLES.items(), ids=SAMPLES)
def test_every_line_of_a_sample_is_well_formed(name: str, patterns: dict[str, str]) -> None:
    rows = sample(name)
    assert {tuple(row) for row in rows} == {tuple(patterns)}
    assert [row for row in rows if not all(re.fullmatch(patterns[key], row[key]) for key in patterns)] == []


def test_the_samples_are_as_many_as_their_readme_says() -> None:
    python, debian = sample("python.csv"), sample("debian.csv")
    words = (advisories.DIRECTORY / "README.md").read_text()
    assert f"{len({row['ghsa'] for row in python})} public advisories for Python packages" in words
    assert f"{len(debian)} lines about Debian packages" in words
    assert len({(row["ghsa"], row["package"]) for row in python}) == len(python)
    assert len({(row["cve"], row["source_package"], row["release"]) for row in debian}) == len(debian)


def test_a_range_ends_before_its_fix_and_where_there_is_none_with_its_last_version() -> None:
    for row in sample("python.csv"):
        ends = [bounds.split(",")[-1] for bounds in row["vulnerable_ranges"].split(";")]
        if row["patched_version"]:
            assert ends == [f"<{version}" for version in row["patched_version"].split(";")], row
        else:
            assert all(end.startswith("<=") for end in ends), row
