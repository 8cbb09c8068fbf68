"""Keeps one GitHub issue about the new advisories of a released image: creates, updates, reopens and closes it.

https://docs.github.com/en/rest/issues/issues?apiVersion=2022-11-28
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass

import httpx
from pydantic import BaseModel, TypeAdapter

from drydock.errors import RegistryError, UsageError
from drydock.oci import registry
from drydock.report import CheckResult, Verdict, units

# Anybody can open an issue of any title; a label needs the right to triage.
LABEL = "drydock-rescan"
CLEAN_COMMENT = "A scan with today's advisories finds nothing against this image any more.\n"
TIMEOUT_SECONDS = 30
PAGE_SIZE = 100
# GitHub takes 65,536 characters.
MAX_LINES, MAX_LINE_CHARACTERS = 100, 500


@dataclass(frozen=True)
class Issue:
    """The issue about an image, as Markdown. If the image is clean, `body` is the comment that closes the issue."""

    title: str
    body: str
    is_clean: bool


class _Label(BaseModel):
    name: str


class _ExistingIssue(BaseModel):
    """An issue in GitHub's answer. A pull request is one too, with the field `pull_request`."""

    number: int
    title: str
    state: str
    body: str | None = None
    labels: tuple[_Label, ...] = ()
    pull_request: object = None


ISSUES = TypeAdapter(list[_ExistingIssue])


def compose_issue(result: CheckResult) -> Issue:
    """Compose the issue about a released image. The name of `result` is the image, its details are the findings."""
    image = units.sanitize(result.name)
    title = f"New advisories for {image}"
    if result.verdict is Verdict.PASS:
        return Issue(title, CLEAN_COMMENT, is_clean=True)
    lines = [units.sanitize(line)[:MAX_LINE_CHARACTERS] for line in result.details]
    hidden = len(lines[MAX_LINES:])
    lines = [*lines[:MAX_LINES], *([f"{hidden} more"] if hidden else [])]
    text = "\n".join([image, f"{result.verdict}: {units.sanitize(result.measured)}", "", *lines]).rstrip()
    # A code block has no links and no mentions. Only a fence with as many backticks ends it.
    fence = "`" * (max([2, *map(len, re.findall("`+", text))]) + 1)
    body = (
        "A scan with today's advisories found what was not known, or had no fix, when this image was released:\n\n"
        f"{fence}text\n{text}\n{fence}\n\n"
        "Next: update the Python packages with `make lock UPGRADE=--upgrade`, and the base images with"
        " `drydock update-pins`.\n"
        "Then release the image again, and deploy the new one instead of this one.\n"
        "A later scan that finds nothing closes this issue. Close it yourself if nobody runs the image any more.\n"
    )
    return Issue(title, body, is_clean=False)


async def sync_issue(issue: Issue, environment: Mapping[str, str]) -> None:
    """Create, update, reopen or close the issue with this title. Do nothing if it is up to date.

    Raises UsageError if the environment has no repository or token, and RegistryError if GitHub does not answer or
    refuses. No message has the token.
    """
    token, repository = environment.get("GITHUB_TOKEN"), environment.get("GITHUB_REPOSITORY")
    if not token or not repository:
        raise UsageError(
            f"{'GITHUB_TOKEN' if repository else 'GITHUB_REPOSITORY'} is not set",
            likely_cause="this is no run of GitHub Actions, or its step does not get the token",
            next_step="run without --issues, or set GITHUB_TOKEN and GITHUB_REPOSITORY=owner/name",
        )
    url = f"{environment.get('GITHUB_API_URL') or 'https://api.github.com'}/repos/{repository}"
    headers = {
        "Authorization": f"Bearer {token}",
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": "2022-11-28",
    }
    try:
        tls = registry.create_tls_context(environment)
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=TIMEOUT_SECONDS, verify=tls) as client:
            await _update_issue(client, issue)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        # Only the kind of the error: its text may quote the header that has the token.
        raise RegistryError(
            f"GitHub did not answer about the issue {issue.title!r}: {type(error).__name__}",
            likely_cause="there is no network connection to it, or GITHUB_API_URL is wrong",
            next_step="run again; it does not matter if the issue was written already",
        ) from None


async def _update_issue(client: httpx.AsyncClient, issue: Issue) -> None:
    existing = await _find_issue(client, issue.title)
    if existing is None:
        if not issue.is_clean:
            await _create_issue(client, issue)
        return
    path = f"issues/{existing.number}"
    if not issue.is_clean:
        if (existing.state, existing.body) != ("open", issue.body):
            await _send_request(client, "update an issue", "PATCH", path, {"body": issue.body, "state": "open"})
    elif existing.state == "open":
        await _send_request(client, "comment on an issue", "POST", f"{path}/comments", {"body": issue.body})
        await _send_request(client, "close an issue", "PATCH", path, {"state": "closed", "state_reason": "completed"})


async def _find_issue(client: httpx.AsyncClient, title: str) -> _ExistingIssue | None:
    """The oldest issue with exactly this title and the label, open or closed."""
    query = f"labels={LABEL}&state=all&sort=created&direction=asc&per_page={PAGE_SIZE}"
    for page in itertools.count(1):
        response = await _send_request(client, "list the issues", "GET", f"issues?{query}&page={page}")
        issues = ISSUES.validate_json(response.content)
        matching = (each for each in issues if each.title == title and each.pull_request is None)
        if (found := next(matching, None)) or len(issues) < PAGE_SIZE:
            break
    return found


async def _create_issue(client: httpx.AsyncClient, issue: Issue) -> None:
    content = {"title": issue.title, "body": issue.body, "labels": [LABEL]}
    response = await _send_request(client, "create an issue", "POST", "issues", content)
    created = _ExistingIssue.model_validate_json(response.content)
    # GitHub drops the labels silently if the token may not set them.
    if LABEL not in {label.name for label in created.labels}:
        raise RegistryError(
            f"GitHub created issue {created.number} without its label {LABEL}",
            likely_cause="the token may create issues, but not label them",
            next_step=f"label it {LABEL} by hand, or the next scan creates another one",
        )


async def _send_request(
    client: httpx.AsyncClient, action: str, method: str, path: str, content: Mapping[str, object] | None = None
) -> httpx.Response:
    """Send a request below the repository's address. Raises RegistryError, which names the action, if it failed."""
    response = await client.request(method, path, json=content)
    if not response.is_success:
        raise RegistryError(
            f"GitHub answered {response.status_code} to the request to {action}",
            likely_cause="the token may not write issues, or issues are switched off in the repository",
            next_step="give the job the permission issues: write, switch issues on, then run again",
        )
    return response
