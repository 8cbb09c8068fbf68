"""Which commit is built, and what its image may be called."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from drydock.errors import UsageError
from drydock.oci import tags
from drydock.oci.tags import TAG, ImageTags, Order
from drydock.report import Revision
from drydock.tools import git, origin, worktree
from drydock.tools.worktree import Change, Inputs

# What begins so is a version or the tag of a line of versions, which only a release may move.
LIKE_A_VERSION = re.compile(r"v?[0-9]")
NO_COMMIT = "unknown"
COMMIT = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
MODEL_DIGITS = 12
# How many of the files that differ a refusal names.
NAMED_CHANGES = 5
# Two machines' clocks differ by minutes, or one of them is wrong.
CLOCK_DIFFERENCE = timedelta(hours=1)


def read_revision(root: Path, inputs: Inputs = worktree.NOTHING) -> Revision:
    """The commit of the checkout at `root`; `unknown` if there is none, which then is dirty.

    It is dirty if what is built, `inputs`, or anything that git sees, is not as the commit has it. Raises UsageError
    with git's own sentence if git fails.
    """
    try:
        committed = git.run_git(root, "log", "-1", "--no-show-signature", "--no-color", "--format=%H %ct")
        dirty = bool(worktree.list_changes(root, inputs))
    except git.NoRepository:
        return Revision(commit=NO_COMMIT, dirty=True)
    commit, _, seconds = committed.decode().strip().partition(" ")
    return Revision(commit=commit, dirty=dirty, source_url=read_source(root), committed_at=_format_utc(commit, seconds))


def read_source(root: Path) -> str:
    """The web address of the remote `origin`, without a credential; empty if there is none that can be read."""
    for ask in (("config", "--get", "remote.origin.url"), ("remote", "get-url", "origin")):
        # As it was written down; or as url.<base>.insteadOf makes it, if that is what makes it an address.
        with suppress(git.NoRepository, UsageError):
            if address := origin.parse_web_address(git.try_git(root, *ask) or ""):
                return address
    return ""


def require_unchanged(root: Path, revision: Revision, inputs: Inputs) -> None:
    """Raise UsageError if a clean checkout is no longer the commit that it was: the engine has read it meanwhile."""
    if revision.dirty:
        return
    try:
        found, commit = worktree.list_changes(root, inputs), git.try_git(root, "rev-parse", "--verify", "HEAD")
    except git.NoRepository:
        found, commit = (), "none"
    if found or commit != revision.commit:
        names = _list_changes(found) if found else f"another commit is checked out, {commit}"
        raise UsageError(
            f"the work tree changed while it was being built from: {names}",
            likely_cause="somebody saved a file, or changed the branch, during the run",
            next_step="commit the change or take it back, then run again",
        )


def require_plausible_time(revision: Revision, now: datetime) -> None:
    """Raise UsageError if the commit is of a later time than `now`: the image would carry a time that is not yet."""
    committed_at = datetime.fromisoformat(revision.committed_at)
    if committed_at > now + CLOCK_DIFFERENCE:
        raise UsageError(
            f"the commit {revision.commit[:12]} is dated {revision.committed_at}, and it is"
            f" {now.strftime('%Y-%m-%dT%H:%M:%SZ')} here",
            likely_cause="the clock of the machine that made the commit was wrong, or this machine's clock is",
            next_step="correct the clock, or date the commit again: git commit --amend --no-edit --date=now",
        )


def compare_commits(root: Path, ours: str, theirs: str) -> Order:
    """Where the commit `theirs` stands to `ours` in the history of this checkout; "" if it cannot know."""
    if ours == theirs:
        return "apart"
    asked = [_is_ancestor(root, older, newer) for older, newer in ((ours, theirs), (theirs, ours))]
    return "after" if asked[0] else "before" if asked[1] else "" if None in asked else "apart"


def _is_ancestor(root: Path, older: str, newer: str) -> bool | None:
    commits = (older, newer)
    try:
        if not all(
            COMMIT.fullmatch(each) and git.try_git(root, "cat-file", "-e", each) is not None for each in commits
        ):
            return None
        if git.try_git(root, "merge-base", "--is-ancestor", older, newer) is not None:
            return True
        # What a shallow clone does not show may lie between them.
        return False if git.try_git(root, "rev-parse", "--is-shallow-repository") == "false" else None
    except (git.NoRepository, UsageError):
        return None


def name_image(
    revision: Revision, asked: str | None, environment: Mapping[str, str], model_sha256: str = ""
) -> ImageTags:
    """The tags to push: `--tag`, otherwise the version of a release's git tag, otherwise `sha-<commit>`.

    `model_sha256` is the hash of a model that is not in the commit. Its first digits are then part of the commit's
    tag, since the commit alone would name many images.

    A version and `sha-<commit>` name one image. A branch that was pushed on GitHub names its newest image. Raises
    UsageError for `latest`, for a tag that no registry takes or that only resembles a version, and if there is no
    commit.
    """
    commit_tag = f"sha-{revision.name}" + (f"-model-{model_sha256[:MODEL_DIGITS]}" if model_sha256 else "")
    if asked is not None:
        return parse_tag(asked, commit_tag)
    if environment.get("GITHUB_REF_TYPE") == "tag":
        git_tag = environment.get("GITHUB_REF_NAME", "")
        if not git_tag.startswith("v") or not tags.is_version(git_tag[1:]):
            raise _no_version_error("the git tag", git_tag)
        return ImageTags(tag=git_tag[1:], commit_tag=commit_tag)
    if revision.commit == NO_COMMIT:
        raise UsageError(
            "this folder is no git checkout, so the image has no commit to be named by",
            next_step="say --tag NAME, or run inside the repository",
        )
    pushed = environment.get("GITHUB_EVENT_NAME") == "push" and environment.get("GITHUB_REF_TYPE") == "branch"
    return ImageTags(
        tag=commit_tag, branch=tags.create_branch_tag(environment.get("GITHUB_REF_NAME", "")) if pushed else ""
    )


def require_release(root: Path, revision: Revision, version: str, inputs: Inputs = worktree.NOTHING) -> None:
    """Raise UsageError unless the checkout at `root` is the commit of the git tag v`version`, and nothing more."""
    git_tag = f"v{version}"
    if not _points_at(root, git_tag, revision.commit):
        raise UsageError(
            f"the git tag {git_tag!r} does not point at the commit that is checked out",
            likely_cause="the tag is still to be made, it was moved or not fetched, or another commit was checked out",
            next_step=f"check the tag out, or make it: git tag {git_tag}; then run again",
        )
    if revision.dirty:
        raise UsageError(
            f"{git_tag} would be built from a work tree that is not the tag's commit: {describe_changes(root, inputs)}",
            likely_cause="these files were changed or added after the commit, or git skips them (git ls-files -v)",
            next_step="commit them (git add --force takes ignored ones), or remove them; then run again",
        )


def describe_changes(root: Path, inputs: Inputs) -> str:
    """The first files that are not as the commit has them, and how many more; empty if there is no commit."""
    with suppress(git.NoRepository):
        return _list_changes(worktree.list_changes(root, inputs))
    return ""


def _points_at(root: Path, git_tag: str, commit: str) -> bool:
    try:
        return git.try_git(root, "rev-parse", "--verify", "--quiet", f"refs/tags/{git_tag}^{{commit}}") == commit
    except git.NoRepository:
        return False


def _list_changes(found: Sequence[Change]) -> str:
    """The first files that differ, and how many more."""
    more = len(found) - NAMED_CHANGES
    return ", ".join(map(str, found[:NAMED_CHANGES])) + (f" and {more} more" if more > 0 else "")


def parse_tag(tag: str, commit_tag: str = "", source: str = "--tag") -> ImageTags:
    """The tags of an image that the user calls `tag`. Raises UsageError, which names the `source` of the tag."""
    if not TAG.fullmatch(tag):
        raise UsageError(
            f"{source} {tag!r} is not a tag",
            likely_cause="a tag is 1 to 128 letters, digits, underscores, dots and dashes, the first no dot or dash",
            next_step="choose another one",
        )
    if tag == "latest":
        raise UsageError(
            f"{source} latest is refused",
            likely_cause="nobody can say later which image a `latest` was",
            next_step="leave it out, and deploy by the digest",
        )
    if LIKE_A_VERSION.match(tag):
        version = tag.removeprefix("v")
        if not tags.is_version(version):
            raise _no_version_error(source, tag)
        return ImageTags(tag=version, commit_tag=commit_tag)
    return ImageTags(tag=tag)


def _no_version_error(source: str, tag: str) -> UsageError:
    return UsageError(
        f"{source} {tag!r} is not a version",
        likely_cause="a release is vX.Y.Z or vX.Y.Z-rc.1: three numbers without leading zeros, and no +build",
        next_step="name it like v1.2.3",
    )


def _format_utc(commit: str, seconds: str) -> str:
    try:
        return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(
            f"the commit {commit} has no time that can be read: {seconds}",
            likely_cause="a program wrote the commit, and not git",
            next_step="date it again: git commit --amend --no-edit --date=now",
        ) from error
