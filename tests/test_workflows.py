"""The workflows are safe and hold no logic; zizmor knows the attacks, the rest are rules of this house."""

from __future__ import annotations

import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

import records

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ZIZMOR = Path(sys.executable).parent / "zizmor"


def zizmor(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ZIZMOR, "--offline", "--no-progress", "--persona=pedantic", path], capture_output=True, text=True, check=False
    )


def broken(tmp_path: Path, old: str, new: str) -> Path:
    text = (ROOT / ".github" / "workflows" / "image.yml").read_text()
    assert old in text
    path = tmp_path / ".github" / "workflows" / "image.yml"
    path.parent.mkdir(parents=True)
    path.write_text(text.replace(old, new))
    return path


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_has_no_known_weakness(path: Path) -> None:
    done = zizmor(path)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("old", "new", "weakness"),
    [
        ("@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1", "@v7", "unpinned-uses"),
        ("permissions: {}", "permissions: write-all", "excessive-permissions"),
        ("pull_request:", "pull_request_target:", "dangerous-triggers"),
        ("make run ARGS=--no-push", "make run ARGS=${{ github.head_ref }}", "template-injection"),
    ],
)
def test_a_weakness_that_creeps_in_is_found(tmp_path: Path, old: str, new: str, weakness: str) -> None:
    done = zizmor(broken(tmp_path, old, new))
    assert done.returncode != 0
    assert weakness in done.stdout


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_by_its_commit_and_says_its_version(path: Path) -> None:
    uses = re.findall(r"(?m)^\s*- uses: (.*)$", path.read_text())
    assert uses
    for use in uses:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", use), use


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_types_what_a_laptop_types(path: Path) -> None:
    commands = re.findall(r"(?m)^\s*- run: (.*)$", path.read_text())
    assert commands
    for command in commands:
        assert re.fullmatch(r"make (run|test)( ARGS=--no-push)?", command), command


def test_all_that_a_run_leaves_is_uploaded_but_the_image_and_the_engines_log() -> None:
    uploads = re.findall(
        r"(?m)^          path: \|\n((?:            .*\n)+)", (ROOT / ".github/workflows/image.yml").read_text()
    )
    assert len(uploads) == 2
    for upload in uploads:
        kept = {name for name in records.LEAVINGS if not any(fnmatch(f"dist/{name}", line) for line in upload.split())}
        assert kept == {"image.tar", "engine.log"}
        assert fnmatch("dist/release.json", upload.split()[0])


def test_what_may_write_runs_only_after_a_push_and_is_never_cut_short() -> None:
    judge, publish = re.split(r"(?m)^  (?=\w+:$)", (ROOT / ".github/workflows/image.yml").read_text())[-2:]
    assert "if: github.event_name == 'pull_request'" in judge
    assert "secrets." not in judge
    assert "write" not in re.sub(r"#.*", "", judge)
    assert "--no-push" in judge
    assert "if: github.event_name == 'push'" in publish
    assert "cancel-in-progress: false" in publish
