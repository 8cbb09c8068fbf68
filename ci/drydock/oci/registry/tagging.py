"""Tags an image that is in the registry: a version once and for ever, a moving tag never backwards.

Registries cannot compare and swap, and two runs may push at once. So a run that wrote a tag waits until the other one
must have written as well, and reads it again. Then both see the same digest, and it is that of one run only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import anyio

from drydock.errors import RegistryError, VersionTaken
from drydock.oci import tags
from drydock.oci.layout import MALFORMED_JSON_ERRORS
from drydock.oci.registry import archive_io
from drydock.oci.registry.repository import Repository
from drydock.oci.registry.repository_client import contended_tag_error
from drydock.oci.tags import ImageTags, Order

REVISION_LABEL = "org.opencontainers.image.revision"
MODEL_LABEL = "dev.drydock.model.sha256"
SETTLE_SECONDS = 2.0
# How often another run may write between our read and our write before we give up.
ROUNDS = 10


def unknown_order(_: str) -> Order:
    """Of no history."""
    return ""


async def push(repository: Repository, archive: Path, digest: str, name: ImageTags) -> None:
    """Push an image by its digest alone.

    Raises VersionTaken, before a byte is sent, if another image has its version, or one of another model its commit.
    """
    if name.is_version and (served := await repository.get_digest(name.tag)):
        _require_same_digest(repository, name.tag, digest, served)
    if tags.is_commit(name.tag):
        with archive_io.open_archive(archive) as ours:
            model_sha256 = (await _read_build_labels(ours, digest)).model_sha256
        if other := await _find_other_model(repository, name.tag, digest, model_sha256):
            raise VersionTaken(
                f"{repository.display_name}:{name.tag} exists, {other}; this image has {model_sha256[:12]}",
                likely_cause="the training gives another model each time it runs",
                next_step="let the training repeat itself (a seed, sorted data), or name the image with --tag",
            )
    await repository.push(archive, digest)


@dataclass(frozen=True)
class TagResult:
    """All tags that lead to an image now.

    `previous_digests` has the digest that each tag had before, if it had one; `unmoved` the reason for each tag that
    should point to the image and does not.
    """

    tags: tuple[str, ...]
    previous_digests: Mapping[str, str] = field(default_factory=dict)
    unmoved: Mapping[str, str] = field(default_factory=dict)


async def apply_tags(
    repository: Repository,
    digest: str,
    name: ImageTags,
    created: datetime | None = None,
    settle_seconds: float = SETTLE_SECONDS,
    *,
    moving_tags: bool = True,
    order: Callable[[str], Order] = unknown_order,
) -> TagResult:
    """Give an image that is here all its tags; the moving ones only if `moving_tags`.

    A branch's tag only goes forward. `order` compares another commit with this image's in their history; if it does not
    know, the later one is that of the later time, and `created` is this one's. Without one no branch moves.
    A registry that lets no tag move keeps no image from its first name.
    """
    unmoved: dict[str, str] = {}
    asked = [name.tag, name.commit_tag, *([name.branch, *tags.list_moving_tags(name.tag)] if moving_tags else [])]
    previous = {tag: found for tag in asked if tag and (found := await repository.get_digest(tag))}
    if name.is_version:
        await tag_version(repository, digest, name.tag, settle_seconds)
        given = [name.tag]
        if name.commit_tag:
            if reason := await _move_commit(repository, digest, name.commit_tag):
                unmoved[name.commit_tag] = reason
            else:
                await repository.require_served(name.commit_tag, digest)
                given.append(name.commit_tag)
        if moving_tags:
            moved, stayed = await move_version_tags(repository, name.tag)
            given += [tag for tag, version in moved.items() if version == name.tag]
            unmoved |= stayed
        # Once more and last: another run's write may have been on its way for longer than anybody waits.
        _require_same_digest(repository, name.tag, digest, await repository.wait_until_served(name.tag))
        return TagResult(tuple(given), previous, unmoved)
    if reason := await repository.move_tag(digest, name.tag):
        raise RegistryError(
            f"{repository.display_name}:{name.tag} stays at {previous.get(name.tag, '')}: {reason}",
            likely_cause="the registry lets no tag move, or these credentials may not",
            next_step="exempt this tag from the registry's rule, or push under a new one with --tag",
        )
    await repository.require_served(name.tag, digest)
    given = [name.tag]
    if moving_tags and name.branch and created:
        reason = await move_branch(repository, digest, name.branch, created, settle_seconds, order)
        if reason:
            unmoved[name.branch] = reason
        else:
            given.append(name.branch)
    return TagResult(tuple(given), previous, unmoved)


async def tag_version(
    repository: Repository, digest: str, version: str, settle_seconds: float = SETTLE_SECONDS
) -> None:
    """Tag an image with its version. A taken version never changes.

    Raises VersionTaken if the version has another digest, or if another run wrote it last at the same moment.
    """
    before = await repository.tag_if_absent(digest, version)
    if before:
        _require_same_digest(repository, version, digest, before)
        return
    await anyio.sleep(settle_seconds)
    _require_same_digest(repository, version, digest, await repository.wait_until_served(version))


async def move_version_tags(repository: Repository, version: str) -> tuple[dict[str, str], dict[str, str]]:
    """Let each moving tag of a version point to the highest version that there is; which one that is, by tag.

    Also, by tag, why one stays at another. Looks at all versions again after each write, so an older run that finishes
    last takes no tag back.
    """
    gone: set[str] = set()
    unmoved: dict[str, str] = {}
    for _ in range(ROUNDS):
        highest = tags.find_highest_versions({*await repository.list_tags(), version} - gone)
        wanted = {tag: highest[tag] for tag in tags.list_moving_tags(version) if tag in highest and tag not in unmoved}
        digests = {target: await repository.get_digest(target) for target in set(wanted.values())}
        # A deleted version may be listed for a while.
        gone |= {target for target, digest in digests.items() if not digest}
        late = [tag for tag, target in wanted.items() if await repository.get_digest(tag) != digests[target]]
        if not late:
            return wanted, unmoved
        for tag in late:
            if (digest := digests[wanted[tag]]) and (reason := await repository.move_tag(digest, tag)):
                unmoved[tag] = reason
    moving = " and ".join(tags.list_moving_tags(version))
    raise contended_tag_error(f"{repository.display_name}: {moving} does not stay where it is put")


async def move_branch(
    repository: Repository,
    digest: str,
    tag: str,
    created: datetime,
    settle_seconds: float = SETTLE_SECONDS,
    order: Callable[[str], Order] = unknown_order,
) -> str:
    """Let a branch's tag point to an image of a commit of the time `created`; returns why it does not, else ""."""
    for number in range(ROUNDS):
        current = await repository.get_digest(tag)
        if current == digest:
            return ""
        theirs = await _read_build_labels(repository, current) if current else NO_LABELS
        stands = (order(theirs.commit) if theirs.commit else "") or _order_in_time(theirs.created, created)
        # Two commits that are not one after the other would go on for ever: who comes in after our write stays.
        if stands == "after" or (stands == "apart" and number > 0):
            return f"it leads to an image of a later commit, {theirs.commit[:12] or 'unknown'} of {theirs.time}"
        if reason := await repository.move_tag(digest, tag):
            return reason
        await anyio.sleep(settle_seconds)
    raise contended_tag_error(f"{repository.display_name}: {tag} does not stay where it is put")


async def _move_commit(repository: Repository, digest: str, tag: str) -> str:
    """Let a commit's tag point to an image; returns why it does not, else "". Its model never changes."""
    model_sha256 = (await _read_build_labels(repository, digest)).model_sha256
    other = await _find_other_model(repository, tag, digest, model_sha256)
    return f"it leads to an image {other}" if other else await repository.move_tag(digest, tag)


async def _find_other_model(repository: Repository, tag: str, digest: str, model_sha256: str) -> str:
    """Describe the model of the image under a commit's tag; empty if it is the same, or is not known."""
    served = await repository.get_digest(tag)
    theirs = (await _read_build_labels(repository, served)).model_sha256 if served and served != digest else ""
    return f"with the model {theirs[:12]}" if theirs and model_sha256 and theirs != model_sha256 else ""


@dataclass(frozen=True)
class BuildLabels:
    """The labels of an image; empty values are missing, as in an index."""

    commit: str = ""
    model_sha256: str = ""
    created: datetime | None = None

    @property
    def time(self) -> str:
        """When it was made, for people."""
        return self.created.isoformat() if self.created else "unknown time"


NO_LABELS = BuildLabels()


async def _read_build_labels(source: Repository | archive_io.Archive, digest: str) -> BuildLabels:
    manifest = await source.get_manifest(digest)
    if not manifest or not manifest.config:
        return NO_LABELS
    content = await source.get_blob(manifest.config.digest)
    try:
        config = json.loads(content)
        labels = (config.get("config") or {}).get("Labels") or {}
        commit, model_sha256 = (str(labels.get(label) or "") for label in (REVISION_LABEL, MODEL_LABEL))
    except MALFORMED_JSON_ERRORS:
        return NO_LABELS
    return BuildLabels(commit.removesuffix("-dirty"), model_sha256, _parse_time(config.get("created")))


def _parse_time(written: object) -> datetime | None:
    try:
        created = datetime.fromisoformat(str(written))
    except ValueError:
        return None
    return created if created.tzinfo else created.replace(tzinfo=UTC)


def _order_in_time(theirs: datetime | None, ours: datetime) -> Order:
    if theirs is None or theirs < ours:
        return "before"
    return "after" if theirs > ours else "apart"


def _require_same_digest(repository: Repository, version: str, ours: str, theirs: str) -> None:
    if theirs != ours:
        raise VersionTaken(
            f"{repository.display_name}:{version} exists, with digest {theirs}; this image is {ours}",
            likely_cause=(
                "the version was released before, or at the same moment, from another commit or on other bases"
            ),
            next_step="release under the next version; a published one never changes",
        )
