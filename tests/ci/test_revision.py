from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import revision
from errors import UsageError
from report import Revision
from tests.ci.examples import COMMIT, REVISION

ON_A_TAG = {"GITHUB_REF_TYPE": "tag"}


def git(root: Path, *arguments: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", "-C", str(root), *who, *arguments], check=True, capture_output=True, text=True)
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
    read = revision.read(checkout)
    assert read == Revision(commit=commit, dirty=False, source_url="https://github.com/owner/name")
    assert read.name == commit
    assert not (checkout / "canary").exists()


@pytest.mark.parametrize("change", ["changed", "new"])
def test_a_dirty_checkout_is_never_called_by_its_commit_alone(checkout: Path, change: str) -> None:
    (checkout / ("a" if change == "changed" else "b")).write_text("b")
    read = revision.read(checkout)
    assert read.dirty
    assert read.name == f"{read.commit}-dirty"


def test_a_folder_that_is_no_checkout_is_dirty_and_unknown(tmp_path: Path) -> None:
    assert revision.read(tmp_path) == Revision(commit="unknown", dirty=True)


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("https://user:secret@github.com/owner/name.git", "https://github.com/owner/name"),
        ("https://secret@github.com/owner/name", "https://github.com/owner/name"),
        ("ssh://git@github.com/owner/name.git", "https://github.com/owner/name"),
        ("/srv/git/name.git", ""),
    ],
)
def test_the_label_holds_a_web_address_and_no_credential(checkout: Path, remote: str, address: str) -> None:
    git(checkout, "remote", "add", "origin", remote)
    assert revision.read(checkout).source_url == address


def test_a_branch_is_tagged_by_its_commit() -> None:
    branch = {"GITHUB_REF_TYPE": "branch", "GITHUB_REF_NAME": '"; curl x'}
    assert revision.tag(REVISION, None, branch) == f"sha-{COMMIT}"
    dirty = Revision(commit=COMMIT, dirty=True)
    assert revision.tag(dirty, None, {}) == f"sha-{COMMIT}-dirty"


@pytest.mark.parametrize(
    ("name", "tag"),
    [("v1.2.3", "1.2.3"), ("v0.0.0", "0.0.0"), ("v1.2.3-rc.1", "1.2.3-rc.1"), ("v10.20.30-a-b.0", "10.20.30-a-b.0")],
)
def test_a_version_tag_in_git_is_the_images_tag(name: str, tag: str) -> None:
    assert revision.tag(REVISION, None, {**ON_A_TAG, "GITHUB_REF_NAME": name}) == tag


@pytest.mark.parametrize(
    "name",
    ["v1.2", "v1.02.3", "release-1", "v1.2.3+build.5", "1.2.3", "v1.2.3-01", "v1.2.3-", "v1.2.3\n", 'v1.2.3"; curl x'],
)
def test_a_git_tag_that_is_no_version_releases_nothing(name: str) -> None:
    with pytest.raises(UsageError) as refused:
        revision.tag(REVISION, None, {**ON_A_TAG, "GITHUB_REF_NAME": name})
    assert refused.value.what == f"the git tag {name!r} is not a version"


def test_a_dirty_tree_releases_nothing() -> None:
    with pytest.raises(UsageError) as refused:
        revision.tag(Revision(commit=COMMIT, dirty=True), None, {**ON_A_TAG, "GITHUB_REF_NAME": "v1.2.3"})
    assert refused.value.what == "v1.2.3 would be built from a work tree that is not the tag's commit"


def test_a_commit_that_is_not_the_tags_releases_nothing(checkout: Path) -> None:
    on_the_tag = {**ON_A_TAG, "GITHUB_REF_NAME": "v1.2.3"}
    git(checkout, "tag", "v1.2.3")
    revision.require_tags_commit(checkout, on_the_tag)
    git(checkout, "commit", "--quiet", "--allow-empty", "--message", "later")
    with pytest.raises(UsageError) as refused:
        revision.require_tags_commit(checkout, on_the_tag)
    assert refused.value.what == "the git tag 'v1.2.3' does not point at the commit that is checked out"
    revision.require_tags_commit(checkout, {"GITHUB_REF_TYPE": "branch", "GITHUB_REF_NAME": "main"})


@pytest.mark.parametrize("tag", ["a b", ".a", "-a", "", "a+b", "a" * 129, "a" * 200, "a/b", "$(id)", "a\n"])
def test_a_tag_that_no_registry_takes_is_refused(tag: str) -> None:
    with pytest.raises(UsageError) as refused:
        revision.tag(REVISION, tag, {})
    assert refused.value.what == f"--tag {tag!r} is not a tag"


def test_the_longest_tag_is_taken_and_latest_never() -> None:
    assert revision.tag(REVISION, "a" * 128, {}) == "a" * 128
    with pytest.raises(UsageError) as refused:
        revision.tag(REVISION, "latest", {})
    assert refused.value.what == "--tag latest is refused"


def test_without_a_commit_the_tag_has_to_be_said() -> None:
    nowhere = Revision(commit="unknown", dirty=True)
    with pytest.raises(UsageError) as refused:
        revision.tag(nowhere, None, {})
    assert refused.value.next_step == "say --tag NAME, or run inside the repository"
    assert revision.tag(nowhere, "mine", {}) == "mine"
