"""The workflows as values, and this house's own rules for them: what neither zizmor nor actionlint asks for."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROGRAMS = {"make", "gh", "git"}


@dataclass(frozen=True)
class Job:
    """A job of a workflow; every scalar of `content` is text."""

    name: str
    content: dict[str, Any]
    triggers: dict[str, Any]

    @property
    def steps(self) -> list[dict[str, Any]]:
        return list(self.content["steps"])

    @property
    def rights(self) -> dict[str, str]:
        """Its permissions, one by one; empty where they are not named so."""
        named = self.content.get("permissions")
        return named if isinstance(named, dict) else {}

    @property
    def writes(self) -> bool:
        return "write" in self.rights.values()

    @property
    def runs_in_pull_requests(self) -> bool:
        event = self.content.get("if", "")
        return "pull_request" in self.triggers and event != "github.event_name == 'push'"


def read(text: str) -> dict[str, Any]:
    """A workflow. The base loader leaves every scalar as it is written, `on` and `false` too."""
    workflow: dict[str, Any] = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - it makes nothing but text
    return workflow


def jobs(workflow: dict[str, Any]) -> list[Job]:
    return [Job(name, content, workflow["on"]) for name, content in workflow["jobs"].items()]


def breaches(text: str) -> list[str]:
    """What a workflow does against the rules, a line each."""
    workflow = read(text)
    pinned = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
    uses = re.findall(r"(?m)^\s*(?:- )?uses: (.*)$", text)
    return [
        *([] if workflow.get("permissions") == {} else ["permissions are not {} at the top"]),
        *(f"{use} is not a commit with its version" for use in uses if not pinned.fullmatch(use)),
        *(f"{job.name}: {breach}" for job in jobs(workflow) for breach in _breaches(job)),
    ]


def _breaches(job: Job) -> Iterator[str]:
    if "timeout-minutes" not in job.content:
        yield "has no timeout"
    if not job.rights:
        yield "names no permissions of its own"
    if job.content.get("if", "") not in ("", "github.event_name == 'pull_request'", "github.event_name == 'push'"):
        yield "decides for itself whether it runs"
    if job.runs_in_pull_requests:
        if job.writes:
            yield "may write in a pull request"
        if re.search(r"\bsecrets\b|\bgithub\.token\b", str(job.content)):
            yield "has a secret in a pull request"
    if job.writes:
        if job.content.get("concurrency", {}).get("cancel-in-progress") != "false":
            yield "may be cut short while it writes"
        if any("cache" in key or "actions/cache" in step.get("uses", "") for step in job.steps for key in _with(step)):
            yield "restores a cache and writes"
    for step in job.steps:
        # zizmor takes a `true` that is written down for one that is meant.
        if "actions/checkout@" in step.get("uses", "") and step.get("with", {}).get("persist-credentials") != "false":
            yield "leaves its token in the checkout"
        if step.get("if", "always()") != "always()":
            yield f"decides for itself whether a step runs: {step['if']}"
        if "run" in step and not _is_plain(step["run"]):
            yield f"types more than one plain command: {step['run'].strip()}"


def _with(step: dict[str, Any]) -> list[str]:
    return ["", *step.get("with", {})]


def _is_plain(command: str) -> bool:
    """One program of ours and its words, in one line: no expression, no operator, no variable outside of quotes."""
    words = list(shlex.shlex(command, posix=True, punctuation_chars=True))
    unquoted = re.sub(r'"[^"]*"', "", command)
    return (
        words[0] in PROGRAMS
        and not any(character in command for character in ("\n", "`", "${{"))
        and not any(character in unquoted for character in "$;|&<>()")
    )
