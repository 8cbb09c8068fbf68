"""Runs `python ci/main.py` as a user would, against the real engine, scanner and registry."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

REPOSITORY_ROOT = Path(__file__).parents[3]
MAIN = REPOSITORY_ROOT / "ci" / "main.py"
REGISTRY = "127.0.0.1:5000"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True)
class Finished:
    """A run that has ended: its exit code, what it printed, and its report."""

    exit_code: int
    output: str
    report: dict[str, Any]
    report_dir: Path

    def row(self, name: str) -> dict[str, Any]:
        return next(row for row in self.report["checks"] if row["name"] == name)

    def failed(self) -> list[str]:
        return [row["name"] for row in self.report["checks"] if row["verdict"] == "FAIL"]


@dataclass(frozen=True)
class Project:
    """A folder with a Dockerfile and a policy, and a repository of its own in the registry."""

    root: Path
    repository: str
    policy: str = "pipeline.toml"
    # What leads to another machine: a command that runs the words after it there.
    prefix: tuple[str, ...] = ()

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.root / file
        text = path.read_text()
        assert old in text, f"{file} has no {old!r} to break"
        path.write_text(text.replace(old, new))

    def git(self, *arguments: str) -> str:
        """What git says in the project's folder."""
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
        done = subprocess.run(
            ["git", "-C", str(self.root), *who, *arguments], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def committed(self, *tags: str) -> str:
        """Commit all of the folder, in a checkout of its own, under these tags; the commit."""
        if not (self.root / ".git").exists():
            (self.root / ".gitignore").write_text("dist/\n.venv/\n")
            self.git("init", "--quiet")
            self.git("remote", "add", "origin", "https://github.com/owner/tiny.git")
        self.git("add", ".")
        self.git("commit", "--quiet", "--allow-empty", "--message", "a change")
        for tag in tags:
            self.git("tag", "--force", tag)
        return self.git("rev-parse", "HEAD")

    def start(self, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """Begin a run."""
        return self._started("run", "--tag", "test", *arguments, environment=environment)

    def command(self, name: str, *arguments: str, environment: dict[str, str] | None = None) -> Finished:
        """Another command than a run, with what it said."""
        return self.finish(self._started(name, *arguments, environment=environment))

    def _started(self, name: str, *arguments: str, environment: dict[str, str] | None) -> subprocess.Popen[str]:
        shared = ("--config", str(self.root / self.policy), "--report-dir", str(self.root / "dist"))
        return subprocess.Popen(
            [*self.prefix, sys.executable, str(MAIN), name, *shared, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**self.environment, **(environment or {})},
        )

    @property
    def environment(self) -> dict[str, str]:
        """What every command is run with."""
        return {
            **os.environ,
            # The same images in either world: a project of a test has no pins of its own.
            "DRYDOCK_IMAGES": os.environ.get("DRYDOCK_IMAGES") or str(REPOSITORY_ROOT / "images.toml"),
            "DRYDOCK_REPOSITORY": f"{REGISTRY}/{self.repository}",
            # A run of a test says nothing to the workflow that runs the tests.
            **dict.fromkeys(("GITHUB_ACTIONS", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"), ""),
        }

    def typed(self, commands: str, home: Path, standard_input: str) -> Finished:
        """Type the commands of the docs in the project's folder, as somebody who has this home."""
        programs = home / "bin"
        programs.mkdir(parents=True)
        main = f'exec "{sys.executable}" "{MAIN}"'
        # The engine is up, and its environment is this one.
        drydock = f'#!/bin/sh\n[ "$1" = bootstrap ] && exit 0\n{main} "$@"\n'
        make = f"#!/bin/sh\n{main} run ${{2#ARGS=}}\n"
        for name, script in (("drydock", drydock), ("make", make)):
            (programs / name).write_text(script)
            (programs / name).chmod(0o755)
        activate = self.root / ".venv" / "bin" / "activate"
        activate.parent.mkdir(parents=True)
        activate.write_text("")
        done = subprocess.run(
            ["bash", "-e", "-c", commands],
            cwd=self.root,
            input=standard_input,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            env={**self.environment, "HOME": str(home), "PATH": f"{programs}:{os.environ['PATH']}"},
        )
        return self._finished(done.returncode, done.stdout, self.root / "dist" / self.root.name)

    def finish(self, process: subprocess.Popen[str]) -> Finished:
        output, _ = process.communicate()
        return self._finished(process.returncode, output, self.root / "dist")

    def _finished(self, exit_code: int, output: str, report_dir: Path) -> Finished:
        report = report_dir / "report.json"
        return Finished(
            exit_code=exit_code,
            output=output,
            report=json.loads(report.read_text()) if report.exists() else {},
            report_dir=report_dir,
        )

    def run(self, *arguments: str, environment: dict[str, str] | None = None) -> Finished:
        return self.finish(self.start(*arguments, environment=environment))

    def tags(self) -> list[str]:
        """The repository's tags as the registry itself lists them; none where it does not know the repository."""
        response = httpx.get(f"http://{REGISTRY}/v2/{self.repository}/tags/list")
        return list(response.json().get("tags") or [])

    def names(self) -> list[str]:
        """The tags without those that hold an image's list of referrers, where the registry has no API for them."""
        return [tag for tag in self.tags() if not tag.startswith("sha256-")]

    def manifest(self, reference: str) -> httpx.Response:
        """A manifest as the registry serves it, by tag or digest."""
        return httpx.get(
            f"http://{REGISTRY}/v2/{self.repository}/manifests/{reference}", headers={"Accept": MANIFEST}
        ).raise_for_status()

    def assert_rejected(self, finished: Finished, *checks: str) -> None:
        """The image was judged, these checks and no others failed, and the registry knows nothing of it."""
        assert finished.exit_code == 1, finished.output
        assert finished.failed() == list(checks)
        assert finished.output.splitlines()[-1] == (
            f"rejected   {len(checks)} of {len(finished.report['checks'])} checks failed; nothing was pushed"
        )
        self.assert_nothing_pushed(finished)

    def assert_broken(self, finished: Finished, stage: str, exit_code: int) -> None:
        """The run has no verdict, since this stage broke, and the registry knows nothing of it."""
        assert finished.exit_code == exit_code, finished.output
        assert finished.report["failures"][0]["stage"] == stage
        assert finished.output.splitlines()[-1] == (
            f"no verdict {stage} broke (exit code {exit_code}); nothing was pushed"
        )
        assert "Traceback" not in finished.output
        self.assert_nothing_pushed(finished)

    def assert_nothing_pushed(self, finished: Finished) -> None:
        assert self.tags() == []
        assert finished.report.get("publication") is None
        assert not (finished.report_dir / "release.json").exists()
