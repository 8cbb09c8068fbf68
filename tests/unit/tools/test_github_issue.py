from __future__ import annotations

import json
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import parse_qs, urlsplit

import anyio
import pytest

from drydock.errors import RegistryError, UsageError
from drydock.report import CheckResult, Verdict
from drydock.tools import github_issue
from drydock.tools.github_issue import Issue
from tests.support.http_server import Request, Response, serve

IMAGE = "ghcr.io/owner/name:1.2.3"
TITLE = f"New advisories for {IMAGE}"
TOKEN = "t0ken"  # noqa: S105 - of nobody
FOUND = CheckResult(
    name=IMAGE,
    measured="2 new and fixable",
    limit="0",
    verdict=Verdict.FAIL,
    details=("CVE-2027-1 HIGH in libc6 2.41, fixed in 2.42", "CVE-2027-2 CRITICAL in numpy 2.1.0, fixed in 2.1.1"),
)
CLEAN = CheckResult(name=IMAGE, measured="0 new and fixable", limit="0", verdict=Verdict.PASS)
BODY = """\
A scan with today's advisories found what was not known, or had no fix, when this image was released:

```text
ghcr.io/owner/name:1.2.3
FAIL: 2 new and fixable

CVE-2027-1 HIGH in libc6 2.41, fixed in 2.42
CVE-2027-2 CRITICAL in numpy 2.1.0, fixed in 2.1.1
```

Next: update the Python packages with `make lock UPGRADE=--upgrade`, and the base images with `drydock update-pins`.
Then release the image again, and deploy the new one instead of this one.
A later scan that finds nothing closes this issue. Close it yourself if nobody runs the image any more.
"""
CLEAN_COMMENT = "A scan with today's advisories finds nothing against this image any more.\n"


@dataclass
class GitHub:
    """The issues of one repository, and what was written; they are as GitHub's JSON has them."""

    issues: list[dict[str, object]] = field(default_factory=list)
    written: list[tuple[str, str, object]] = field(default_factory=list)
    pages: list[str] = field(default_factory=list)
    drops_labels: bool = False

    def add(self, title: str = TITLE, *, state: str = "open", label: str = "drydock-rescan", **more: object) -> None:
        labels = [{"name": label, "color": "ededed"}]
        number = len(self.issues) + 1
        self.issues.append({"number": number, "title": title, "state": state, "body": BODY, "labels": labels, **more})

    def answer(self, request: Request) -> Response:
        assert request.headers["Authorization"] == f"Bearer {TOKEN}"
        path, query = urlsplit(request.path).path, parse_qs(urlsplit(request.path).query)
        if request.method == "GET":
            assert path == "/repos/owner/name/issues"
            self.pages += query["page"]
            asked = {name: query[name] for name in ("labels", "state", "sort", "direction", "per_page")}
            assert asked == {
                "labels": ["drydock-rescan"],
                "state": ["all"],
                "sort": ["created"],
                "direction": ["asc"],
                "per_page": ["100"],
            }
            first = 100 * (int(query["page"][0]) - 1)
            labelled = [each for each in self.issues if "drydock-rescan" in json.dumps(each["labels"])]
            return Response(200, json.dumps(labelled[first : first + 100]).encode())
        content = json.loads(request.body)
        self.written.append((request.method, path.removeprefix("/repos/owner/name/issues"), content))
        labels = [] if self.drops_labels else [{"name": name} for name in content.get("labels", [])]
        return Response(201, json.dumps({"number": 7, "title": "", "state": "open", "labels": labels}).encode())


def sync(row: CheckResult, answer: Callable[[Request], Response | None]) -> None:
    with serve(answer) as host:
        environment = {"GITHUB_API_URL": f"http://{host}", "GITHUB_REPOSITORY": "owner/name", "GITHUB_TOKEN": TOKEN}
        anyio.run(partial(github_issue.sync_issue, github_issue.compose_issue(row), environment))


def test_the_text_of_an_issue() -> None:
    assert github_issue.compose_issue(FOUND) == Issue(title=TITLE, body=BODY, is_clean=False)
    assert github_issue.compose_issue(CLEAN) == Issue(title=TITLE, body=CLEAN_COMMENT, is_clean=True)


@pytest.mark.parametrize("verdict", [each for each in Verdict if each is not Verdict.PASS])
def test_what_did_not_pass_is_not_clean(verdict: Verdict) -> None:
    assert not github_issue.compose_issue(FOUND.model_copy(update={"verdict": verdict})).is_clean


def test_the_text_of_an_advisory_stays_in_its_block() -> None:
    hostile = ("```\n# @owner closes #1", "````", "\x1b[2J")
    body = github_issue.compose_issue(FOUND.model_copy(update={"details": hostile})).body
    assert body.partition("`````text\n")[2].partition("\n`````\n")[0].splitlines() == [
        IMAGE,
        "FAIL: 2 new and fixable",
        "",
        "``` # @owner closes #1",
        "````",
        "\N{REPLACEMENT CHARACTER}[2J",
    ]


def test_a_long_issue_is_one_that_github_takes() -> None:
    many = tuple(f"{number} {'x' * 600}" for number in range(150))
    body = github_issue.compose_issue(FOUND.model_copy(update={"details": many})).body
    assert len(body) < 65_536
    assert "\n50 more\n```\n" in body
    assert "\n99 x" in body
    assert "\n100 x" not in body


def test_the_first_findings_create_an_issue() -> None:
    github = GitHub()
    github.add("New advisories for ghcr.io/owner/name:1.2")
    # Anybody can open one of this title, as an issue without the label or as a pull request.
    github.add(label="bug")
    github.add(pull_request={"url": "https://api.github.com/repos/owner/name/pulls/3"})
    sync(FOUND, github.answer)
    assert github.written == [("POST", "", {"title": TITLE, "body": BODY, "labels": ["drydock-rescan"]})]


def test_an_issue_that_is_up_to_date_is_not_written() -> None:
    github = GitHub()
    github.add()
    sync(FOUND, github.answer)
    assert github.written == []


def test_an_issue_with_another_body_is_updated() -> None:
    github = GitHub()
    github.add("another")
    github.add(body=None)
    sync(FOUND, github.answer)
    assert github.written == [("PATCH", "/2", {"body": BODY, "state": "open"})]


def test_new_findings_reopen_a_closed_issue() -> None:
    github = GitHub()
    github.add(state="closed")
    sync(FOUND, github.answer)
    assert github.written == [("PATCH", "/1", {"body": BODY, "state": "open"})]


def test_a_clean_image_closes_its_issue_with_a_comment() -> None:
    github = GitHub()
    github.add()
    sync(CLEAN, github.answer)
    assert github.written == [
        ("POST", "/1/comments", {"body": CLEAN_COMMENT}),
        ("PATCH", "/1", {"state": "closed", "state_reason": "completed"}),
    ]


def test_a_clean_image_without_an_open_issue_needs_none() -> None:
    github = GitHub()
    sync(CLEAN, github.answer)
    github.add(state="closed")
    sync(CLEAN, github.answer)
    assert github.written == []


@pytest.mark.parametrize(("others", "pages"), [(99, ["1"]), (100, ["1", "2"]), (250, ["1", "2", "3"])])
def test_the_issue_is_found_on_whichever_page_it_is(others: int, pages: list[str]) -> None:
    github = GitHub()
    for number in range(others):
        github.add(f"another {number}")
    github.add(state="closed")
    sync(FOUND, github.answer)
    assert github.pages == pages
    assert github.written == [("PATCH", f"/{others + 1}", {"body": BODY, "state": "open"})]


def test_the_list_ends_even_if_its_last_page_is_full() -> None:
    github = GitHub()
    for number in range(100):
        github.add(f"another {number}")
    sync(CLEAN, github.answer)
    assert (github.pages, github.written) == (["1", "2"], [])


@pytest.mark.parametrize(
    ("row", "method", "action"),
    [
        (FOUND, "GET", "list the issues"),
        (FOUND, "POST", "create an issue"),
        (FOUND.model_copy(update={"measured": "other"}), "PATCH", "update an issue"),
        (CLEAN, "POST", "comment on an issue"),
        (CLEAN, "PATCH", "close an issue"),
    ],
)
# A redirect is a refusal too: the token goes to the one address that the environment names.
@pytest.mark.parametrize("status", [301, 401, 403, 404, 410, 422, 500, 503])
def test_a_refusal_names_the_action_and_not_the_token(row: CheckResult, method: str, action: str, status: int) -> None:
    github = GitHub()
    if action != "create an issue":
        github.add()

    def answer(request: Request) -> Response:
        if request.method == method:
            return Response(status, request.headers["Authorization"].encode(), {"Location": "/elsewhere"})
        return github.answer(request)

    with pytest.raises(RegistryError) as refused:
        sync(row, answer)
    assert refused.value.message == f"GitHub answered {status} to the request to {action}"
    assert refused.value.next_step == ("give the job the permission issues: write, switch issues on, then run again")
    assert TOKEN not in repr(vars(refused.value))


def test_an_issue_without_its_label_is_an_error_since_no_scan_finds_it_again() -> None:
    with pytest.raises(RegistryError) as unlabelled:
        sync(FOUND, GitHub(drops_labels=True).answer)
    assert unlabelled.value.message == "GitHub created issue 7 without its label drydock-rescan"


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        (None, "RemoteProtocolError"),
        (Response(200, b"<html>"), "ValidationError"),
        (Response(200, b"{}"), "ValidationError"),
        (Response(200, b'[{"number": "one"}]'), "ValidationError"),
    ],
)
def test_an_answer_that_is_not_githubs_is_an_error(response: Response | None, kind: str) -> None:
    with pytest.raises(RegistryError) as silent:
        sync(FOUND, lambda _: response)
    assert silent.value.message == f"GitHub did not answer about the issue {TITLE!r}: {kind}"


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}", "http://xn--", "nothing"])
def test_an_address_at_which_nothing_listens_is_an_error(url: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = url.format(port=free.getsockname()[1])
    environment = {"GITHUB_API_URL": url, "GITHUB_REPOSITORY": "owner/name", "GITHUB_TOKEN": TOKEN}
    with pytest.raises(RegistryError, match="GitHub did not answer about the issue "):
        anyio.run(github_issue.sync_issue, github_issue.compose_issue(FOUND), environment)


@pytest.mark.parametrize(("token", "kind"), [("t0ken\n", "LocalProtocolError"), ("t0ken…", "UnicodeEncodeError")])
def test_a_token_that_no_header_can_hold_is_in_no_message(token: str, kind: str) -> None:
    with serve(lambda _: Response(200, b"[]")) as host, pytest.raises(RegistryError) as caught:
        environment = {"GITHUB_API_URL": f"http://{host}", "GITHUB_REPOSITORY": "owner/name", "GITHUB_TOKEN": token}
        anyio.run(github_issue.sync_issue, github_issue.compose_issue(FOUND), environment)
    assert "t0ken" not in repr(vars(caught.value))
    assert caught.value.message.endswith(f": {kind}")


@pytest.mark.parametrize("missing", ["GITHUB_TOKEN", "GITHUB_REPOSITORY"])
def test_without_a_token_or_a_repository_nothing_is_sent(missing: str) -> None:
    environment = {"GITHUB_REPOSITORY": "owner/name", "GITHUB_TOKEN": TOKEN, missing: ""}
    with pytest.raises(UsageError) as refused:
        anyio.run(github_issue.sync_issue, github_issue.compose_issue(FOUND), environment)
    assert refused.value.message == f"{missing} is not set"
