"""Renovate finds what is pinned: its patterns are held against the files that they are for."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from drydock.bootstrap.binaries import ENGINE_VERSION, TRIVY_VERSION

ROOT = Path(__file__).parents[3]
RENOVATE = json.loads((ROOT / "renovate.json").read_text())


def found(path: str) -> list[dict[str, str]]:
    """What the patterns for a file find in it, each with the name that it is looked up by."""
    managers = [
        manager
        for manager in RENOVATE["customManagers"]
        if any(re.search(pattern.strip("/"), path) for pattern in manager["managerFilePatterns"])
    ]
    return [
        {"depName": manager.get("depNameTemplate", ""), **match.groupdict()}
        for manager in managers
        for pattern in manager["matchStrings"]
        # Renovate's dialect names a group without the P.
        for match in re.finditer(pattern.replace("(?<", "(?P<"), (ROOT / path).read_text())
    ]


def test_every_image_that_is_pinned_by_digest_is_found_whole() -> None:
    images = tomllib.loads((ROOT / "images.toml").read_text())
    pinned = [value for value in images.values() if isinstance(value, str) and "@" in value]
    assert len(pinned) >= 3
    assert [
        f"{each['depName']}:{each['currentValue']}@{each['currentDigest']}" for each in found("images.toml")
    ] == pinned


def test_the_versions_of_what_bootstrap_builds_are_found() -> None:
    assert [(each["depName"], each["currentValue"]) for each in found("ci/drydock/bootstrap/binaries.py")] == [
        ("dagger/dagger", ENGINE_VERSION),
        ("aquasecurity/trivy", TRIVY_VERSION),
    ]


@pytest.mark.parametrize("path", ["other/images.toml", "tests/bootstrap/binaries.py", "images.toml.md"])
def test_no_other_file_is_taken_for_one_of_these(path: str) -> None:
    patterns = [pattern.strip("/") for each in RENOVATE["customManagers"] for pattern in each["managerFilePatterns"]]
    assert not any(re.search(pattern, path) for pattern in patterns)
