"""Which commit is built, and under which tag it may be pushed."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from errors import UsageError
from report import Revision

# A tag's grammar in the registries, and Semantic Versioning 2.0.0 without build metadata: its + is no tag character.
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
NUMBER = r"(0|[1-9][0-9]*)"
PRE_RELEASE_PART = r"(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
VERSION = re.compile(rf"{NUMBER}\.{NUMBER}\.{NUMBER}(-{PRE_RELEASE_PART}(\.{PRE_RELEASE_PART})*)?")
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
    )


def tag(revision: Revision, asked: str | None, environment: Mapping[str, str]) -> str:
    """The tag to push: `--tag`, else the version of a release's git tag, else `sha-<commit>`.

    Raises UsageError for a tag that no registry takes, for `latest`, for a git tag vX.Y.Z that is no version, and
    where there is no commit to name the image by.
    """
    if asked is not None:
        return _checked(asked, "--tag")
    if environment.get("GITHUB_REF_TYPE") == "tag":
        name = environment.get("GITHUB_REF_NAME", "")
        version = name.removeprefix("v")
        if not name.startswith("v") or not is_version(version):
            raise UsageError(
                f"the git tag {name!r} is not a version",
                usually="a release is vX.Y.Z or vX.Y.Z-rc.1: three numbers without leading zeros, and no +build",
                next_step="tag the commit again, such as git tag v1.2.3",
            )
        if revision.dirty:
            raise UsageError(
                f"{name} would be built from a work tree that is not the tag's commit",
                usually="a step before this one wrote into the checkout",
                next_step="git status shows what differs; commit it or remove it",
            )
        return version
    if revision.commit == NO_COMMIT:
        raise UsageError(
            "this folder is no git checkout, so the image has no commit to be named by",
            next_step="say --tag NAME, or run inside the repository",
        )
    return f"sha-{revision.name}"


def require_tags_commit(root: Path, environment: Mapping[str, str]) -> None:
    """Raise UsageError where a release's git tag does not point at the commit that is checked out at `root`."""
    name = environment.get("GITHUB_REF_NAME", "")
    if environment.get("GITHUB_REF_TYPE") != "tag" or name in _git(root, "tag", "--points-at", "HEAD").splitlines():
        return
    raise UsageError(
        f"the git tag {name!r} does not point at the commit that is checked out",
        usually="a step before this one checked out another commit, or the tag was moved",
        next_step="check the tag out, then run again",
    )


def is_version(tag: str) -> bool:
    """Whether a tag is a version, which is pushed once and then never changes."""
    return VERSION.fullmatch(tag) is not None


def _checked(tag: str, where: str) -> str:
    if not TAG.fullmatch(tag):
        raise UsageError(
            f"{where} {tag!r} is not a tag",
            usually="a tag is 1 to 128 letters, digits, underscores, dots and dashes, the first no dot or dash",
            next_step="choose another --tag",
        )
    if tag == "latest":
        raise UsageError(
            f"{where} latest is refused",
            usually="nobody can say later which image a `latest` was",
            next_step="leave --tag out, and deploy the digest that the run prints",
        )
    return tag


def _git(root: Path, *arguments: str) -> str:
    """What git says, or nothing where git or the checkout is missing."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _web_address(remote: str) -> str:
    """The remote as a web address, without whatever credential it carries."""
    address = re.sub(r"^(ssh://)?git@([^:/]+)[:/]", r"https://\2/", remote)
    address = re.sub(r"^(https?://)[^@/]+@", r"\1", address).removesuffix(".git")
    return address if address.startswith(("https://", "http://")) else ""
