from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from drydock.errors import UsageError
from drydock.oci import tags
from drydock.oci.tags import ImageTags
from drydock.report import Revision
from drydock.tools import revision
from tests.support.examples import COMMIT, REVISION

ON_A_TAG = {"GITHUB_REF_TYPE": "tag"}


def git(root: Path, *arguments: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", "-C", str(root), *who, *arguments],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "TZ": "UTC"},
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "a").write_text("a")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "--quiet", "--message", '"; curl x; $(touch canary)')
    return tmp_path


def test_a_clean_checkout_is_its_commit(checkout: Path) -> None:
    git(checkout, "remote", "add", "origin", "git@github.com:owner/name.git")
    commit = git(checkout, "rev-parse", "HEAD")
    read = revision.read_revision(checkout)
    committed_at = git(checkout, "log", "-1", "--date=format-local:%Y-%m-%dT%H:%M:%SZ", "--format=%cd")
    assert read == Revision(
        commit=commit, dirty=False, source_url="https://github.com/owner/name", committed_at=committed_at
    )
    assert read.name == commit
    assert not (checkout / "canary").exists()


@pytest.mark.parametrize("change", ["changed", "new"])
def test_a_dirty_checkout_is_never_called_by_its_commit_alone(checkout: Path, change: str) -> None:
    (checkout / ("a" if change == "changed" else "b")).write_text("b")
    read = revision.read_revision(checkout)
    assert read.dirty
    assert read.name == f"{read.commit}-dirty"


def test_a_folder_that_is_no_checkout_is_dirty_and_unknown(tmp_path: Path) -> None:
    assert revision.read_revision(tmp_path) == Revision(commit="unknown", dirty=True)


def test_the_origin_is_read_as_it_was_written_down(checkout: Path) -> None:
    assert revision.read_revision(checkout).source_url == ""
    git(checkout, "remote", "add", "origin", "https://user:secret@github.com/owner/name.git")
    git(checkout, "config", "url.https://token@mirror.example/.insteadOf", "https://user:secret@github.com/")
    assert git(checkout, "remote", "get-url", "origin") == "https://token@mirror.example/owner/name.git"
    assert revision.read_revision(checkout).source_url == "https://github.com/owner/name"


def test_an_abbreviation_of_the_origin_is_read_as_git_reads_it(checkout: Path) -> None:
    git(checkout, "remote", "add", "origin", "gh:owner/name")
    assert revision.read_revision(checkout).source_url == ""
    git(checkout, "config", "url.https://x-access-token:secret@github.com/.insteadOf", "gh:")
    assert revision.read_revision(checkout).source_url == "https://github.com/owner/name"


def test_a_model_that_git_does_not_hold_is_named_by_its_bytes() -> None:
    dirty = Revision(commit=COMMIT, dirty=True)
    models = [revision.name_image(dirty, None, {}, model_sha256=digit * 64).tag for digit in "ab"]
    assert models == [f"sha-{COMMIT}-dirty-model-aaaaaaaaaaaa", f"sha-{COMMIT}-dirty-model-bbbbbbbbbbbb"]
    assert all(map(tags.TAG.fullmatch, models))
    assert revision.name_image(dirty, "mine", {}, model_sha256="a" * 64) == ImageTags(tag="mine")


def test_a_commit_of_a_later_time_than_now_is_refused(checkout: Path) -> None:
    now = datetime(2026, 11, 22, 12, tzinfo=UTC)
    revision.require_plausible_time(REVISION.model_copy(update={"committed_at": "2026-11-22T12:59:00Z"}), now)
    with pytest.raises(UsageError) as refused:
        revision.require_plausible_time(REVISION.model_copy(update={"committed_at": "2031-01-01T00:00:00Z"}), now)
    assert refused.value.message == (
        f"the commit {COMMIT[:12]} is dated 2031-01-01T00:00:00Z, and it is 2026-11-22T12:00:00Z here"
    )
    assert refused.value.next_step == (
        "correct the clock, or date the commit again: git commit --amend --no-edit --date=now"
    )


def test_a_commit_of_no_time_that_there_is_is_refused(checkout: Path) -> None:
    lines = git(checkout, "cat-file", "commit", "HEAD").splitlines()
    written = "\n".join([lines[0], "author a <a> 1 +0000", "committer a <a> 99999999999999999 +0000", "", "x"])
    (checkout / ".git" / "odd").write_text(written)
    git(checkout, "reset", "--hard", git(checkout, "hash-object", "-t", "commit", "-w", "--literally", ".git/odd"))
    with pytest.raises(UsageError, match=r"has no time that can be read: \d+$"):
        revision.read_revision(checkout)


def test_the_order_of_two_commits_is_that_of_their_history(checkout: Path) -> None:
    def committed(*arguments: str) -> str:
        git(checkout, "commit", "--quiet", "--allow-empty", "--message", " ".join(arguments), *arguments)
        return git(checkout, "rev-parse", "HEAD")

    first = git(checkout, "rev-parse", "HEAD")
    second = committed("--allow-empty-message")
    other = committed("--amend")
    asked = [
        (first, second),
        (second, first),
        (second, other),
        (first, first),
        (first, "1" * 40),
        (f"--all{first}", ""),
    ]
    answers = [revision.compare_commits(checkout, *commits) for commits in asked]
    assert answers == ["after", "before", "apart", "apart", "", ""]
    # A clone of the last commits does not have what lies between.
    (checkout / ".git" / "shallow").write_text(f"{second}\n{other}\n")
    assert revision.compare_commits(checkout, second, other) == ""


def test_a_checkout_is_named_by_its_commit() -> None:
    assert revision.name_image(REVISION, None, {}) == ImageTags(tag=f"sha-{COMMIT}")
    dirty = Revision(commit=COMMIT, dirty=True)
    assert revision.name_image(dirty, None, {}) == ImageTags(tag=f"sha-{COMMIT}-dirty")


def test_a_branch_that_was_pushed_names_its_newest_image() -> None:
    pushed = {"GITHUB_REF_TYPE": "branch", "GITHUB_EVENT_NAME": "push", "GITHUB_REF_NAME": "main"}
    assert revision.name_image(REVISION, None, pushed) == ImageTags(tag=f"sha-{COMMIT}", branch="main")
    hostile = revision.name_image(REVISION, None, {**pushed, "GITHUB_REF_NAME": '"; curl x'})
    assert tags.TAG.fullmatch(hostile.branch)
    asked_for = {**pushed, "GITHUB_EVENT_NAME": "pull_request", "GITHUB_REF_NAME": "1/merge"}
    assert revision.name_image(REVISION, None, asked_for) == ImageTags(tag=f"sha-{COMMIT}")


VERSIONS = [
    ("v1.2.3", "1.2.3"),
    ("v0.0.0", "0.0.0"),
    ("v1.2.3-rc.1", "1.2.3-rc.1"),
    ("v10.20.30-a-b.0", "10.20.30-a-b.0"),
]


@pytest.mark.parametrize(("name", "tag"), VERSIONS)
def test_a_version_tag_in_git_names_a_release(name: str, tag: str) -> None:
    release = revision.name_image(REVISION, None, {**ON_A_TAG, "GITHUB_REF_NAME": name})
    assert release == ImageTags(tag=tag, commit_tag=f"sha-{COMMIT}")
    assert release.is_version
    assert revision.name_image(REVISION, name, {}) == release
    assert revision.name_image(REVISION, tag, {}) == release


NO_VERSIONS = ["v1.2", "v1.02.3", "v1.2.3-01", "v1.2.3-", "v1", "v1.2.3-" + "a" * 200]


@pytest.mark.parametrize("name", [*NO_VERSIONS, "release-1", "v1.2.3+build.5", "1.2.3", "v1.2.3\n", 'v1.2.3"; curl x'])
def test_a_git_tag_that_is_no_version_releases_nothing(name: str) -> None:
    with pytest.raises(UsageError) as refused:
        revision.name_image(REVISION, None, {**ON_A_TAG, "GITHUB_REF_NAME": name})
    assert refused.value.message == f"the git tag {name!r} is not a version"


@pytest.mark.parametrize("tag", ["1.2", "1", "1.02.3", "v2", "2026-11-22", *NO_VERSIONS[:-1]])
def test_no_tag_that_only_looks_like_a_version_can_be_asked_for(tag: str) -> None:
    with pytest.raises(UsageError) as refused:
        revision.name_image(REVISION, tag, {})
    assert refused.value.message == f"--tag {tag!r} is not a version"


def test_a_release_is_its_tags_commit_and_nothing_more(checkout: Path) -> None:
    def refused() -> str:
        with pytest.raises(UsageError) as error:
            revision.require_release(checkout, revision.read_revision(checkout), "1.2.3")
        return error.value.message

    no_tag = "the git tag 'v1.2.3' does not point at the commit that is checked out"
    assert refused() == no_tag
    git(checkout, "tag", "v1.2.3")
    revision.require_release(checkout, revision.read_revision(checkout), "1.2.3")
    (checkout / "b").write_text("b")
    assert refused() == "v1.2.3 would be built from a work tree that is not the tag's commit: b (new)"
    git(checkout, "add", "b")
    git(checkout, "commit", "--quiet", "--message", "later")
    assert refused() == no_tag


@pytest.mark.parametrize("tag", ["a b", ".a", "-a", "", "a+b", "a" * 129, "a" * 200, "a/b", "$(id)", "a\n"])
def test_a_tag_that_no_registry_takes_is_refused(tag: str) -> None:
    with pytest.raises(UsageError) as refused:
        revision.name_image(REVISION, tag, {})
    assert refused.value.message == f"--tag {tag!r} is not a tag"


def test_the_longest_tag_is_taken_and_latest_never() -> None:
    assert revision.name_image(REVISION, "a" * 128, {}) == ImageTags(tag="a" * 128)
    with pytest.raises(UsageError) as refused:
        revision.name_image(REVISION, "latest", {})
    assert refused.value.message == "--tag latest is refused"


def test_without_a_commit_the_tag_has_to_be_said() -> None:
    nowhere = Revision(commit="unknown", dirty=True)
    with pytest.raises(UsageError) as refused:
        revision.name_image(nowhere, None, {})
    assert refused.value.next_step == "say --tag NAME, or run inside the repository"
    assert revision.name_image(nowhere, "mine", {}) == ImageTags(tag="mine")
