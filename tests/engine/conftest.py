"""Runs `python ci/main.py` as a user would, against the real engine, scanner and registry."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

REPOSITORY_ROOT = Path(__file__).parents[2]
MAIN = REPOSITORY_ROOT / "ci" / "main.py"
REGISTRY = "127.0.0.1:5000"


@dataclass(frozen=True)
class Finished:
    """A run that has ended: its exit code, what it printed, and its report where it wrote one."""

    exit_code: int
    output: str
    report: dict[str, Any]
    report_dir: Path

    def row(self, name: str) -> dict[str, Any]:
        return next(row for row in self.report["rows"] if row["name"] == name)

    def failed(self) -> list[str]:
        return [row["name"] for row in self.report["rows"] if row["verdict"] == "FAIL"]


@dataclass(frozen=True)
class Project:
    """A folder with a Dockerfile and a policy, and a repository of its own in the registry."""

    root: Path
    repository: str

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.root / file
        text = path.read_text()
        assert old in text, f"{file} has no {old!r} to break"
        path.write_text(text.replace(old, new))

    def run(self, *arguments: str, environment: dict[str, str] | None = None) -> Finished:
        report_dir = self.root / "dist"
        done = subprocess.run(
            [
                *(
                    sys.executable,
                    str(REPOSITORY_ROOT / "ci" / "main.py"),
                    "--config",
                    str(self.root / "pipeline.toml"),
                ),
                *("--report-dir", str(report_dir), "--tag", "test", *arguments),
            ],
            capture_output=True,
            text=True,
            env={**os.environ, "DRYDOCK_REPOSITORY": f"{REGISTRY}/{self.repository}", **(environment or {})},
            check=False,
        )
        report = report_dir / "report.json"
        return Finished(
            exit_code=done.returncode,
            output=done.stdout + done.stderr,
            report=json.loads(report.read_text()) if report.exists() else {},
            report_dir=report_dir,
        )

    def tags(self) -> list[str]:
        """The repository's tags as the registry itself lists them; none where it does not know the repository."""
        response = httpx.get(f"http://{REGISTRY}/v2/{self.repository}/tags/list")
        return list(response.json().get("tags") or [])


@pytest.fixture
def tiny(tmp_path: Path) -> Project:
    root = tmp_path / "tiny"
    shutil.copytree(Path(__file__).parent / "tiny", root)
    return Project(root, f"test-{uuid.uuid4().hex[:12]}")


@pytest.fixture
def shipped(tmp_path: Path) -> Project:
    """The image that this repository ships, in a folder that a test may break."""
    root = tmp_path / "shipped"
    (root / "service").mkdir(parents=True)
    for name in ("Dockerfile", ".dockerignore", "pipeline.toml", "images.toml", "service/requirements.txt"):
        shutil.copy(REPOSITORY_ROOT / name, root / name)
    for path in (REPOSITORY_ROOT / "service").glob("*.py"):
        shutil.copy(path, root / "service")
    return Project(root, f"test-{uuid.uuid4().hex[:12]}")


def assert_nothing_pushed(project: Project, finished: Finished) -> None:
    assert project.tags() == []
    assert finished.report.get("publication") is None
    assert not (finished.report_dir / "release.json").exists()
