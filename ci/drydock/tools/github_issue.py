"""Tells of a released image's new advisories in one issue on GitHub: opened, kept up to date, and closed in the end.

The interface is GitHub's own: https://docs.github.com/en/rest/issues/issues?apiVersion=2022-11-28
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import httpx
from pydantic import BaseModel, TypeAdapter

from drydock.errors import RegistryError, UsageError
from drydock.oci import registry
from drydock.report import CheckResult, Verdict, units

# Anybody can open an issue of any title; a label takes the right to triage.
LABEL = "drydock-rescan"
NOTHING_LEFT = "A scan with today's advisories has nothing against this image any more.\n"
TIMEOUT_SECONDS = 30
PAGE = 100
# GitHub takes 65,536 characters.
LINES_SHOWN, LINE_CHARACTERS = 100, 500


@dataclass(frozen=True)
class Issue:
    """What is to be said of the image with the reference `image`.

    `body` is the issue's, as Markdown; where the image is clean, it is the comment that closes the issue.
    """

    image: str
    title: str
    body: str
    is_clean: bool


class _Label(BaseModel):
    name: str


class _Known(BaseModel):
    """An issue as GitHub has it; a pull request is one as well, with a field more."""

    number: int
    title: str
    state: str
    body: str | None = None
    labels: tuple[_Label, ...] = ()
    pull_request: object = None


KNOWN = TypeAdapter(list[_Known])


def compose(row: CheckResult) -> Issue:
    """The issue of a released image: `row` has its reference as name, and in its details what speaks against it."""
    title = f"New advisories for {units.printable(row.name)}"
    if row.verdict is Verdict.PASS:
        return Issue(image=row.name, title=title, body=NOTHING_LEFT, is_clean=True)
    lines = [units.printable(line)[:LINE_CHARACTERS] for line in row.details]
    shown = [*lines[:LINES_SHOWN], *([f"{len(lines) - LINES_SHOWN} more"] if lines[LINES_SHOWN:] else [])]
    said = "\n".join(
        [units.printable(row.name), f"{row.verdict}: {units.printable(row.measured)}", "", *shown]
    ).rstrip()
    # In a block of code nothing is a link, nobody is mentioned, and only a longer row of backticks ends it.
    fence = "`" * (max([2, *map(len, re.findall("`+", said))]) + 1)
    body = (
        "A scan with today's advisories found what nobody knew, or could mend, when this image was released:\n\n"
        f"{fence}text\n{said}\n{fence}\n\n"
        "Next: `make lock UPGRADE=--upgrade` renews the Python packages, `drydock update-pins` the base images;\n"
        "release the image anew, and let the new one take this one's place.\n"
        "A scan that finds nothing more closes this issue. Close it yourself where nobody runs the image any more.\n"
    )
    return Issue(image=row.name, title=title, body=body, is_clean=False)


async def say(issue: Issue, environment: Mapping[str, str]) -> None:
    """Open, update, open again or close the issue of this title; where all is as it should be, do nothing.

    Raises UsageError where the environment names no repository or token, RegistryError where GitHub does not answer
    or refuses. No message holds the token.
    """
    token, repository = environment.get("GITHUB_TOKEN"), environment.get("GITHUB_REPOSITORY")
    if not token or not repository:
        raise UsageError(
            f"there is no {'GITHUB_TOKEN' if repository else 'GITHUB_REPOSITORY'} in the environment",
            likely_cause="this is no run of GitHub Actions, or its step was not given the token",
            next_step="leave the issues out, or set GITHUB_TOKEN and GITHUB_REPOSITORY=owner/name",
        )
    url = f"{environment.get('GITHUB_API_URL') or 'https://api.github.com'}/repos/{repository}/issues"
    headers = {
        "Authorization": f"Bearer {token}",
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": "2022-11-28",
    }
    try:
        trusted = registry.tls_context(environment)
        async with httpx.AsyncClient(headers=headers, timeout=TIMEOUT_SECONDS, verify=trusted) as client:
            await _keep(client, url, issue)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        # Only the kind of the error: its words may quote the header that has the token.
        raise RegistryError(
            f"GitHub does not answer about the issue {issue.title!r}: {type(error).__name__}",
            likely_cause="the network does not reach it, or GITHUB_API_URL names something else",
            next_step="run again; the issue is as it was, or has been written already",
        ) from None


async def _keep(client: httpx.AsyncClient, url: str, issue: Issue) -> None:
    known = await _find(client, url, issue.title)
    if known is None:
        if not issue.is_clean:
            await _open(client, url, issue)
        return
    own = f"{url}/{known.number}"
    if not issue.is_clean:
        if (known.state, known.body) != ("open", issue.body):
            await _ask(client, "PATCH", own, "update an issue", {"body": issue.body, "state": "open"})
    elif known.state == "open":
        await _ask(client, "POST", f"{own}/comments", "comment on an issue", {"body": issue.body})
        await _ask(client, "PATCH", own, "close an issue", {"state": "closed", "state_reason": "completed"})


async def _find(client: httpx.AsyncClient, url: str, title: str) -> _Known | None:
    """The oldest issue of this very title among those with the label, open or closed."""
    page = 1
    while True:
        asked = {"labels": LABEL, "state": "all", "sort": "created", "direction": "asc", "per_page": PAGE, "page": page}
        found = KNOWN.validate_json(
            (await _ask(client, "GET", str(httpx.URL(url, params=asked)), "list the issues")).content
        )
        for each in found:
            if each.title == title and each.pull_request is None:
                return each
        if len(found) < PAGE:
            return None
        page += 1


async def _open(client: httpx.AsyncClient, url: str, issue: Issue) -> None:
    wanted = {"title": issue.title, "body": issue.body, "labels": [LABEL]}
    opened = _Known.model_validate_json((await _ask(client, "POST", url, "open an issue", wanted)).content)
    # GitHub drops the labels of those who may not set them, without a word.
    if LABEL not in {label.name for label in opened.labels}:
        raise RegistryError(
            f"GitHub opened issue {opened.number} without its label {LABEL}",
            likely_cause="the token may open issues, but not label them",
            next_step=f"label it {LABEL} by hand, or the next scan will open another one",
        )


async def _ask(
    client: httpx.AsyncClient, method: str, url: str, to_do: str, content: Mapping[str, object] | None = None
) -> httpx.Response:
    response = await client.request(method, url, json=content)
    if not response.is_success:
        raise RegistryError(
            f"GitHub answered {response.status_code} when asked to {to_do}",
            likely_cause="the token may not write issues, or the repository has none",
            next_step="give the job the permission issues: write, and see that issues are switched on; then run again",
        )
    return response
