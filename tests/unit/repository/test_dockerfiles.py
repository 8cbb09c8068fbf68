"""hadolint has nothing against our Dockerfiles, and each rule that it passes over has its reason beside it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
HADOLINT = Path(sys.executable).parent / "hadolint"
IGNORE = re.compile(r"# hadolint ignore=(DL\d+|SC\d+)")
every_dockerfile = pytest.mark.parametrize("path", ["Dockerfile", "tests/integration/engine/tiny/Dockerfile"])


def findings(path: Path) -> list[str]:
    """The codes of what hadolint has against a Dockerfile."""
    done = subprocess.run([HADOLINT, "--no-fail", "--format", "json", path], capture_output=True, text=True, check=True)
    return [finding["code"] for finding in json.loads(done.stdout)]


def unexplained(text: str) -> list[str]:
    """The ignored rules whose code is in no comment right above."""
    lines = text.splitlines()
    found = []
    for number, line in enumerate(lines):
        if ignore := IGNORE.fullmatch(line):
            above = number
            while above and lines[above - 1].startswith("#"):
                above -= 1
            if ignore[1] not in "".join(lines[above:number]):
                found.append(f"line {number + 1}: {line}")
    return found


@every_dockerfile
def test_a_dockerfile_has_no_finding(path: str) -> None:
    assert findings(ROOT / path) == []


@every_dockerfile
def test_an_ignored_rule_has_its_reason_above(path: str) -> None:
    assert unexplained((ROOT / path).read_text()) == []


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("WORKDIR /app", "WORKDIR app", "DL3000"),
        ("USER 10001:10001", "USER root", "DL3002"),
        ("RUN python -m export.compile_forest", "RUN cd /tmp && python -m export.compile_forest", "DL3003"),
        ("COPY service/ /app/service/", "ADD service/ /app/service/", "DL3020"),
        ('ENTRYPOINT ["python", "-m"]', "ENTRYPOINT python -m", "DL3025"),
        ("-r packages.lock", "-r $PWD/packages.lock", "SC2086"),
    ],
)
def test_a_mistake_is_found(tmp_path: Path, old: str, new: str, code: str) -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert old in text
    path = tmp_path / "Dockerfile"
    path.write_text(text.replace(old, new))
    assert code in findings(path)


def test_an_ignored_rule_without_a_reason_is_found() -> None:
    text = (
        "# A comment.\n\n# hadolint ignore=DL3006\nFROM a\n# DL3007 is wrong here.\n# hadolint ignore=DL3007\nFROM b\n"
    )
    assert unexplained(text) == ["line 3: # hadolint ignore=DL3006"]
