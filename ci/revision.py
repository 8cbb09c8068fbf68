"""Which commit is built, and what its image may be called."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import tags
from errors import UsageError
from report import Revision
from tags import TAG, Name

# What begins so is a version or the tag of a line of versions, which only a release may move.
LIKE_A_VERSION = re.compile(r"v?[0-9]")
NO_COMMIT = "unknown"


def read(root: Path) -> Revision:
    """The commit of the checkout at `root`; `unknown` where there is none, which then is dirty."""
    commit = _git(root, "rev-parse", "HEAD")
    if not commit:
        return Revision(commit=NO_COMMIT, dirty=True)
    return Revision(
        commit=commit,
        dirty=bool(_git(root, "status", "--porcelain")),
        source_url=_web_address(_git(root, "remote", "get-url", "origin")),
        committed_at=_utc(int(_git(root, "log", "-1", "--format=%ct"))),
    )


def name_image(revision: Revision, asked: str | None, environment: Mapping[str, str]) -> Name:
    """The tags to push: what `--tag` says, else the version of a release's git tag, else `sha-<commit>`.

    A version and `sha-<commit>` name one image; a branch that was pushed on GitHub names its newest one. Raises
    UsageError for a tag that no registry takes, for `latest`, for what looks like a version and is none, and where
    there is no commit to name the image by.
    """
    by_commit = f"sha-{revision.name}"
    if asked is not None:
        return named(asked, by_commit)
    if environment.get("GITHUB_REF_TYPE") == "tag":
        git_tag = environment.get("GITHUB_REF_NAME", "")
        if not git_tag.startswith("v") or not tags.is_version(git_tag[1:]):
            raise _no_version("the git tag", git_tag)
        return Name(tag=git_tag[1:], by_commit=by_commit)
    if revision.commit == NO_COMMIT:
        raise UsageError(
            "this folder is no git checkout, so the image has no commit to be named by",
            next_step="say --tag NAME, or run inside the repository",
        )
    pushed = environment.get("GITHUB_EVENT_NAME") == "push" and environment.get("GITHUB_REF_TYPE") == "branch"
    return Name(tag=by_commit, branch=tags.branch(environment.get("GITHUB_REF_NAME", "")) if pushed else "")


def require_release(root: Path, revision: Revision, version: str) -> None:
    """Raise UsageError unless the checkout at `root` is the commit of the git tag v`version`, and nothing more."""
    git_tag = f"v{version}"
    if git_tag not in _git(root, "tag", "--points-at", "HEAD").splitlines():
        raise UsageError(
            f"the git tag {git_tag!r} does not point at the commit that is checked out",
            usually="the tag is still to be made, it was moved, or another commit was checked out",
            next_step=f"check the tag out, or make it: git tag {git_tag}; then run again",
        )
    if revision.dirty:
        raise UsageError(
            f"{git_tag} would be built from a work tree that is not the tag's commit",
            usually="a step before this one wrote into the checkout",
            next_step="git status shows what differs; commit it or remove it",
        )


def named(tag: str, by_commit: str = "", where: str = "--tag") -> Name:
    """What an image is called that somebody calls `tag`, in the words of `where`. Raises UsageError."""
    if not TAG.fullmatch(tag):
        raise UsageError(
            f"{where} {tag!r} is not a tag",
            usually="a tag is 1 to 128 letters, digits, underscores, dots and dashes, the first no dot or dash",
            next_step="choose another one",
        )
    if tag == "latest":
        raise UsageError(
            f"{where} latest is refused",
            usually="nobody can say later which image a `latest` was",
            next_step="leave it out, and deploy by the digest",
        )
    if LIKE_A_VERSION.match(tag):
        version = tag.removeprefix("v")
        if not tags.is_version(version):
            raise _no_version(where, tag)
        return Name(tag=version, by_commit=by_commit)
    return Name(tag=tag)


def _no_version(where: str, tag: str) -> UsageError:
    return UsageError(
        f"{where} {tag!r} is not a version",
        usually="a release is vX.Y.Z or vX.Y.Z-rc.1: three numbers without leading zeros, and no +build",
        next_step="name it like v1.2.3",
    )


def _git(root: Path, *arguments: str) -> str:
    """What git says, or nothing where git or the checkout is missing."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _utc(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _web_address(remote: str) -> str:
    """The remote as a web address, without whatever credential it carries."""
    address = re.sub(r"^(ssh://)?git@([^:/]+)[:/]", r"https://\2/", remote)
    address = re.sub(r"^(https?://)[^@/]+@", r"\1", address).removesuffix(".git")
    return address if address.startswith(("https://", "http://")) else ""
