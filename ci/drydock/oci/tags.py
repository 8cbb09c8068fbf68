"""The tags of an image: versions, the tags that move with them, commits and branches. Pure.

Versions are those of Semantic Versioning 2.0.0: https://semver.org
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from semver import Version

# A tag's grammar in the registries. A version that has build metadata fails it, since + is no tag character.
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
MAX_TAG_CHARACTERS = 128
BRANCH_PREFIX = "branch-"
COMMIT_PREFIX = "sha-"
# What people would read as a version, a moving tag, a commit, or a registry's list of referrers.
RESERVED = re.compile(r"latest|v?[0-9]+(\.[0-9]+){0,2}([-+._].*)?|sha(256|512)?-.*", re.IGNORECASE)
# Whether a commit is before or after another one in their history; "" if that is not known.
Order = Literal["before", "after", "apart", ""]


@dataclass(frozen=True)
class ImageTags:
    """The tags of an image in the registry.

    `tag` is the one that records and people use; `commit_tag` the commit's own, beside a version; `branch` the moving
    tag of the branch. Empty if there is none.
    """

    tag: str
    commit_tag: str = ""
    branch: str = ""

    @property
    def is_version(self) -> bool:
        """Whether this is a release."""
        return is_version(self.tag)


def is_version(tag: str) -> bool:
    """Whether a tag is a version, which is pushed once and then never changes."""
    return TAG.fullmatch(tag) is not None and Version.is_valid(tag)


def looks_like_version(tag: str) -> bool:
    """Whether people expect a version under a tag: 1.2.3, 1.2 or 1, with a v or without."""
    version = tag.removeprefix("v")
    return is_version(version) or (version.count(".") < 2 and is_version(version + ".0" * (2 - version.count("."))))


def is_tag_of_version(tag: str, version: str) -> bool:
    """Whether a tag that looks like a version may point to this one; to a pre-release only its own tag may."""
    return is_version(version) and tag.removeprefix("v") in (version, *_list_prefixes(version))


def is_commit(tag: str) -> bool:
    """Whether a tag is that of a commit alone."""
    return re.fullmatch(rf"{COMMIT_PREFIX}([0-9a-f]{{40}}|[0-9a-f]{{64}})", tag) is not None


def list_moving_tags(version: str) -> tuple[str, ...]:
    """The tags that follow a version, the narrowest first: 1.2 and 1 for 1.2.3, none for a pre-release.

    A version before 1.0.0 moves no tag 0, since its next minor may break what it has.
    https://semver.org/#spec-item-4
    """
    return tuple(tag for tag in _list_prefixes(version) if tag != "0")


def find_highest_versions(existing: Iterable[str]) -> dict[str, str]:
    """Which version each moving tag should point to, out of all tags of a repository: its highest, no pre-release."""
    versions = sorted(filter(is_version, existing), key=Version.parse)
    return {tag: version for version in versions for tag in list_moving_tags(version)}


def create_branch_tag(name: str) -> str:
    """A branch's name as a tag, which never reads as a version, a moving tag, a commit or `latest`.

    Other characters than a tag's become dashes, so two branches may share a tag: a/b and a-b.
    """
    plain = re.sub(r"[^A-Za-z0-9_.-]", "-", name)[:MAX_TAG_CHARACTERS]
    if TAG.fullmatch(plain) and not RESERVED.fullmatch(plain):
        return plain
    return f"{BRANCH_PREFIX}{plain}"[:MAX_TAG_CHARACTERS]


def _list_prefixes(version: str) -> tuple[str, ...]:
    """Minor and major of a version as tags; nothing for a pre-release and for what is no version."""
    if not is_version(version) or "-" in version:
        return ()
    major, minor, _ = version.split(".")
    return f"{major}.{minor}", major
