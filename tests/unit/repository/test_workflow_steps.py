"""What the workflows really do: their steps run as GitHub runs them, with real make, and stand-ins for all it calls."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from tests.support.workflows import ROOT, WORKFLOWS, Job, jobs, read

TOKEN = "t0ken-of-this-run"  # noqa: S105 - of nobody
# Git takes all of it in the name of a branch, but for the spaces; a commit message may hold those as well.
HOSTILE = '"; curl x; $(curl y) `curl z` #'
LEFT_OUT = (".git", ".venv", "dist", "artifacts", "releases", "__pycache__", ".*_cache", "node_modules")
TOOLS = ("drydock", "python", "ruff", "mypy")
# What a step may find on the way to doing something that was not typed, and what our own steps type.
STAND_INS = ("curl", "docker", "gh", "git", "id", "python3", "wget")
NOTE = """\
#!{python} -IS
import json, os, pathlib, sys
with open({calls!r}, "a") as calls:
    call = [pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]
    calls.write(json.dumps([call, dict(os.environ)]) + "\\n")
if call[:3] == ["gh", "release", "view"]:
    print("v1.2.3")
if call[:3] == ["gh", "run", "download"]:
    report = pathlib.Path(call[-1], "iris-classifier")
    report.mkdir(parents=True, exist_ok=True)
    for name in ("release.json", "report.html", "report.json", "sbom.cdx.json", "sbom.spdx.json", "summary.md"):
        (report / name).touch()
"""


@dataclass(frozen=True)
class Event:
    """What happened on GitHub, and what it was called by whoever did it."""

    name: str
    ref_type: str = "branch"
    ref_name: str = "main"
    head_ref: str = ""
    message: str = "Mend the model"

    def expressions(self) -> dict[str, str]:
        """What GitHub puts in the place of an expression: those that our workflows have, and two that none may have."""
        return {
            "github.actor": "octocat",
            "github.event.head_commit.message": self.message,
            "github.head_ref": self.head_ref,
            "github.repository": "Owner/name",
            "github.token": TOKEN,
            "contains(github.ref_name, '-')": str("-" in self.ref_name).lower(),
            "vars.DRYDOCK_REPOSITORY || format('ghcr.io/{0}', github.repository)": "ghcr.io/Owner/name",
        }

    def environment(self, directory: Path) -> dict[str, str]:
        """The variables that GitHub sets for every step, and the event in the file that it writes."""
        event = directory / "event.json"
        event.write_text(json.dumps({"head_commit": {"message": self.message}}))
        return {
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_ACTOR": "octocat",
            "GITHUB_EVENT_NAME": self.name,
            "GITHUB_EVENT_PATH": str(event),
            "GITHUB_HEAD_REF": self.head_ref,
            "GITHUB_REF": f"refs/{'tags' if self.ref_type == 'tag' else 'heads'}/{self.ref_name}",
            "GITHUB_REF_NAME": self.ref_name,
            "GITHUB_REF_TYPE": self.ref_type,
            "GITHUB_REPOSITORY": "Owner/name",
            "GITHUB_RUN_ID": "42",
        }

    def starts(self, workflow: dict[str, Any]) -> bool:
        if self.name not in workflow["on"]:
            return False
        if self.name != "push":
            return True
        patterns = workflow["on"]["push"].get("tags" if self.ref_type == "tag" else "branches", [])
        return any(fnmatch(self.ref_name, pattern) for pattern in patterns)


@dataclass(frozen=True)
class Call:
    """A program that was called, what the workflow gave it, and all that its environment had."""

    words: list[str]
    given: dict[str, str]
    environment: dict[str, str]


class Runner:
    """GitHub's machine: a checkout of this repository, and a PATH with nothing on it but what notes its calls."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._checkout = directory / "checkout"
        self._calls = directory / "calls"
        shutil.copytree(ROOT, self._checkout, ignore=shutil.ignore_patterns(*LEFT_OUT))
        programs, tools = directory / "bin", self._checkout / ".venv" / "bin"
        for folder, names in ((programs, STAND_INS), (tools, TOOLS)):
            folder.mkdir(parents=True)
            for name in names:
                (folder / name).write_text(NOTE.format(python=sys.executable, calls=str(self._calls)))
                (folder / name).chmod(0o755)
        for name in ("make", "bash"):
            (programs / name).symlink_to(shutil.which(name) or name)
        # The virtual environment is up to date, so make does nothing to it.
        for name in ("run", "dev"):
            (self._checkout / ".venv" / name).touch()
        self._path = programs

    def run(self, event: Event, workflow: dict[str, Any], job: Job) -> list[Call]:
        """All that the steps of a job call, but for what starts an engine and a registry."""
        calls: list[Call] = []
        for step in job.steps:
            if "run" in step:
                given = {**workflow.get("env", {}), **job.content.get("env", {}), **step.get("env", {})}
                calls += self._step(step["run"], event, {name: put_in(value, event) for name, value in given.items()})
        return [call for call in calls if call.words[:2] != ["drydock", "bootstrap"]]

    def _step(self, command: str, event: Event, given: dict[str, str]) -> list[Call]:
        script = self._directory / "step.sh"
        script.write_text(put_in(command, event))
        self._calls.write_text("")
        # As GitHub does on Linux where a step names no shell: bash -e {0}.
        done = subprocess.run(
            [self._path / "bash", "-e", script],
            cwd=self._checkout,
            env={"PATH": str(self._path), "HOME": str(self._directory), **event.environment(self._directory), **given},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (command, done.stderr)
        calls = [json.loads(line) for line in self._calls.read_text().splitlines()]
        for words, _ in calls:
            assert all((self._checkout / word).is_file() for word in words if word.endswith(".py")), words
        return [Call(words, {name: environment[name] for name in given}, environment) for words, environment in calls]


def put_in(text: str, event: Event) -> str:
    """A text as GitHub hands it on: the expressions in it are replaced before anybody else reads it."""
    return re.sub(r"\$\{\{ (.*?) \}\}", lambda found: event.expressions()[found[1]], text)


def started(event: Event) -> Iterator[tuple[str, dict[str, Any], Job]]:
    """The jobs that an event starts, each with the name of its workflow's file."""
    for path in WORKFLOWS:
        workflow = read(path.read_text())
        if event.starts(workflow):
            for job in jobs(workflow):
                if job.content.get("if") in (None, f"github.event_name == '{event.name}'"):
                    yield path.name, workflow, job


def typed(runner: Runner, event: Event) -> str:
    """What an event makes the workflows call: a heading for each job, then the calls with what they were given."""
    lines = []
    for name, workflow, job in started(event):
        lines.append(f"{name} {job.name}")
        for call in runner.run(event, workflow, job):
            lines.append(f"  {shlex.join(call.words)}")
            lines += [f"    {name}={value}" for name, value in sorted(call.given.items())]
    return "".join(f"{line}\n" for line in lines)


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    return Runner(tmp_path_factory.mktemp("runner"))


CHECKED = """\
check.yml check
  ruff check
  ruff format --check
  mypy
  python -m pytest --numprocesses 3
"""
PUBLISHED = """\
  python ci/main.py
    DRYDOCK_REGISTRY_PASSWORD=t0ken-of-this-run
    DRYDOCK_REGISTRY_USER=octocat
    DRYDOCK_REPOSITORY=ghcr.io/Owner/name
"""
RELEASED = """\
release.yml publish
{published}release.yml announce
  gh run download 42 --name report --dir dist
    GH_REPO=Owner/name
    GH_TOKEN=t0ken-of-this-run
    PRE_RELEASE={pre_release}
  gh release create {tag} --verify-tag --title {tag} --prerelease={pre_release} \
--notes-file dist/iris-classifier/summary.md
    GH_REPO=Owner/name
    GH_TOKEN=t0ken-of-this-run
    PRE_RELEASE={pre_release}
  gh release upload {tag} --clobber \
dist/iris-classifier/release.json dist/iris-classifier/report.html dist/iris-classifier/report.json \
dist/iris-classifier/sbom.cdx.json dist/iris-classifier/sbom.spdx.json
    GH_REPO=Owner/name
    GH_TOKEN=t0ken-of-this-run
    PRE_RELEASE={pre_release}
"""
NIGHTLY = """\
nightly.yml rescan
  gh release download --pattern release.json --dir releases
    GH_TOKEN=t0ken-of-this-run
  python ci/main.py rescan releases/release.json --issues
    DRYDOCK_REGISTRY_PASSWORD=t0ken-of-this-run
    DRYDOCK_REGISTRY_USER=octocat
    DRYDOCK_REPOSITORY=ghcr.io/Owner/name
    GITHUB_TOKEN=t0ken-of-this-run
nightly.yml reproduce
  gh release view --json tagName --jq .tagName
    GH_TOKEN=t0ken-of-this-run
  git switch --detach v1.2.3
    GH_TOKEN=t0ken-of-this-run
  gh release download --pattern release.json --dir releases
    GH_TOKEN=t0ken-of-this-run
  python ci/main.py reproduce releases/release.json --no-cache
    DRYDOCK_REGISTRY_PASSWORD=t0ken-of-this-run
    DRYDOCK_REGISTRY_USER=octocat
    DRYDOCK_REPOSITORY=ghcr.io/Owner/name
"""


@pytest.mark.parametrize(("head_ref", "message"), [("mend", "Mend the model"), (HOSTILE, HOSTILE)])
def test_a_pull_request_is_judged_without_a_secret_whatever_its_branch_is_called(
    runner: Runner, head_ref: str, message: str
) -> None:
    event = Event("pull_request", ref_name="7/merge", head_ref=head_ref, message=message)
    assert typed(runner, event) == CHECKED + "image.yml judge\n  python ci/main.py --no-push\n"
    for _, workflow, job in started(event):
        for call in runner.run(event, workflow, job):
            assert TOKEN not in "".join(call.environment.values())


@pytest.mark.parametrize("branch", ["mend", HOSTILE])
def test_a_branch_is_checked_and_not_published(runner: Runner, branch: str) -> None:
    assert typed(runner, Event("push", ref_name=branch, message=branch)) == CHECKED


@pytest.mark.parametrize("message", ["Mend the model", HOSTILE])
def test_main_is_checked_and_published(runner: Runner, message: str) -> None:
    assert typed(runner, Event("push", message=message)) == f"{CHECKED}image.yml publish\n{PUBLISHED}"


@pytest.mark.parametrize(
    ("tag", "pre_release"), [("v1.2.3", "false"), ("v1.2.3-rc.1", "true"), ('v1";curl${IFS}x;`curl`$(curl)|', "false")]
)
def test_a_version_is_published_then_announced(runner: Runner, tag: str, pre_release: str) -> None:
    released = RELEASED.format(published=PUBLISHED, tag=shlex.quote(tag), pre_release=pre_release)
    assert typed(runner, Event("push", ref_type="tag", ref_name=tag)) == released


def test_a_git_tag_that_is_no_version_starts_nothing(runner: Runner) -> None:
    assert typed(runner, Event("push", ref_type="tag", ref_name="before-the-move")) == ""


@pytest.mark.parametrize("event", ["schedule", "workflow_dispatch"])
def test_every_night_the_release_is_scanned_and_built_once_more(runner: Runner, event: str) -> None:
    assert typed(runner, Event(event)) == NIGHTLY


@pytest.mark.parametrize("expression", ["github.head_ref", "github.event.head_commit.message"])
def test_a_step_that_runs_what_a_branch_or_a_commit_is_called_is_seen(runner: Runner, expression: str) -> None:
    text = (ROOT / ".github/workflows/image.yml").read_text()
    workflow = read(text.replace("ARGS=--no-push", f'ARGS="${{{{ {expression} }}}}"'))
    event = Event("pull_request", head_ref=HOSTILE, message=HOSTILE)
    called = [call.words for call in runner.run(event, workflow, jobs(workflow)[0])]
    assert ["curl", "x"] in called


def test_a_command_that_make_does_not_know_is_seen(runner: Runner) -> None:
    workflow = read((ROOT / ".github/workflows/check.yml").read_text().replace("make lint", "make lnit"))
    with pytest.raises(AssertionError, match="No rule to make target 'lnit'"):
        runner.run(Event("pull_request"), workflow, jobs(workflow)[0])
